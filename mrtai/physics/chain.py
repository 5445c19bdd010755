"""Decay chains: how often progeny decay for each decay of the parent, and where."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrtai.units import HOURS_PER_DAY
from mrtai.values.chain import Chain, Member, Progeny
from mrtai.values.flag import Flag, Severity
from mrtai.values.image import Image, Quantity
from mrtai.values.nuclear_data import NuclearData

SURELY_LOCAL_H: Final = HOURS_PER_DAY
"""Progeny that live longer than a day have the time to be carried elsewhere; a person should judge whether they stay."""


def chain(parent: str, data: NuclearData) -> Chain:
    """Return the chain of a nuclide down to what is stable, with the decays of every member per decay of the parent.

    Over all times, every atom of a progeny nuclide decays once, so its decays are the products of the branching fractions summed
    over all paths that lead to it. Only a nuclide of shorter life than the parent comes into equilibrium with it; one of longer
    life decays when treatment is over (207Bi of 211At, 31.55 y) or far from where it was made (131mXe of 131I, 11.8 d), so the
    chain ends before it and names it.
    """
    followed: dict[str, float] = {}
    left_out: dict[str, float] = {}
    _follow(parent, 1.0, data.nuclide(parent).half_life_h, data, (followed, left_out))
    members, ends = (tuple(Member(data.nuclide(name), decays) for name, decays in part.items()) for part in (followed, left_out))
    return Chain(members, ends)


def _follow(
    name: str, decays: float, parent_half_life_h: float, data: NuclearData, found: tuple[dict[str, float], dict[str, float]]
) -> None:
    followed, left_out = found
    followed[name] = followed.get(name, 0.0) + decays
    for child, share in data.progeny(name).items():
        if not data.progeny(child):
            continue  # stable
        if data.nuclide(child).half_life_h < parent_half_life_h:
            _follow(child, decays * share, parent_half_life_h, data, found)
        else:
            left_out[child] = left_out.get(child, 0.0) + decays * share


def progeny_source(tia: Image, density: Image, tissue: NDArray[np.bool_], free_fraction: float) -> Image:
    """Return where progeny decay, as a TIA map [Bq s/mL] of one decay per decay of the parent.

    A part ``free_fraction`` of the decays in ``tissue`` is taken away and spread over it evenly by mass: the number of decays in
    the image stays the same, and so does their energy, except photons that leave it from another place.

    Args:
        tia: of the parent, shape ``(z, y, x)``.
        density: [kg/mL] on the same grid.
        tissue: which voxels take part, shape ``(z, y, x)``.
        free_fraction: from 0 to 1.
    """
    if free_fraction == 0.0 or not tissue.any():
        return tia
    decays = tia.require(Quantity.TIME_INTEGRATED_ACTIVITY).voxels.astype(np.float64)
    mass = density.voxels[tissue].astype(np.float64)
    freed = free_fraction * decays[tissue].sum()
    decays[tissue] += freed * mass / mass.sum() - free_fraction * decays[tissue]
    return Image(decays.astype(np.float32), Quantity.TIME_INTEGRATED_ACTIVITY, tia.grid)


def progeny_flags(found: Chain, setting: Progeny) -> tuple[Flag, ...]:
    """Return what a report says about progeny: nothing for a nuclide without, else where they are taken to decay."""
    if not found.progeny and not found.left_out:
        return ()
    flags = []
    if found.progeny and setting.stay == "none":
        text = f"Progeny of {found.parent.name} are left out as the protocol says: {_listed(found.progeny)}."
        flags.append(Flag("PROGENY_LEFT_OUT", Severity.REVIEW, text, 'Set stay = "equilibrium" under [progeny] to count them.'))
    elif found.progeny:
        flags.append(_where(found, setting))
    if found.left_out:
        text = f"Progeny that live longer than {found.parent.name} are not counted: {_listed(found.left_out)}."
        flags.append(Flag("LONG_LIVED_PROGENY", Severity.INFO, text, "Judge their dose apart where it matters."))
    return tuple(flags)


def _where(found: Chain, setting: Progeny) -> Flag:
    places = "where the parent decays"
    if setting.free_fraction > 0:
        places = f"{1 - setting.free_fraction:.4g} of them {places} and {setting.free_fraction:.4g} spread over the body evenly by mass"
    text = f"Progeny are taken to decay {places}: {_listed(found.progeny)}."
    wandering = [member.nuclide.name for member in found.progeny if member.nuclide.half_life_h > SURELY_LOCAL_H]
    if wandering:
        text += f" {', '.join(wandering)} has days to leave the place where it was made; equilibrium assumes that it stays."
    severity = Severity.REVIEW if wandering else Severity.INFO
    return Flag("PROGENY_IN_EQUILIBRIUM", severity, text, "Set free_fraction under [progeny] in the protocol if progeny leave.")


def _listed(members: tuple[Member, ...]) -> str:
    return ", ".join(f"{member.nuclide.name} ({member.decays:.4g} decays per decay)" for member in members)
