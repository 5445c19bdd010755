"""The curve of a sum of regions: integrals that add up, a shape of the summed activities, and what makes members doubtful."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mrtai.physics.kinetics import RegionFits, TacModel, with_common, with_integral
from mrtai.physics.region_uncertainty import LEANING
from mrtai.values.curve import Curve, Fit
from mrtai.values.flag import Flag, Severity
from mrtai.values.refusal import DosimetryError


def union_fit(
    fits: RegionFits, name: str, members: tuple[str, ...], model: TacModel, told: Mapping[str, Collection[str]]
) -> tuple[Fit | None, tuple[Flag, ...]]:
    """Return the union's Ã as the sum of its members', with the half-life of the summed curve, and what makes members doubtful.

    ``told``: by member, codes of flags that are only told of it and not repeated here.
    """
    parts = {member: fits.fits[member] for member in members if member not in fits.empty}
    known = [part for part in parts.values() if part is not None]
    if not parts:
        return None, fits.flags[members[0]]
    if len(known) < len(parts):
        missing = [member for member, part in parts.items() if part is None]
        text = f"No integral could be given for its member {', '.join(missing)}."
        return None, (Flag("MEMBER_WITHHELD", Severity.WITHHELD, text, "Settle the member first."),)
    summed = summed_curve(fits, name, members)
    seen = set.intersection(*(set(fits.seen_in[member]) for member in members))
    try:
        shape = model(_subset(summed, seen))
    except DosimetryError:
        shape = replace(known[0], terms=np.empty((0, 2)), effective_half_life_h=None, flags=())
    tia = sum(part.tia_bq_s for part in known)
    sd = _summed_sd_bq_s(known, fits.common_relative_sd)
    before, after = (
        sum(getattr(part, share) * part.tia_bq_s for part in known) / tia
        for share in ("fraction_before_first_scan", "fraction_after_last_scan")
    )
    united = replace(
        shape,
        curve=summed,
        fraction_before_first_scan=before,
        fraction_after_last_scan=after,
        reason=f"sum of its members' integrals; half-life and shape from their summed curve ({shape.reason})",
        flags=(),
    )
    if sd is None:
        united = replace(united, tia_bq_s=tia, tia_sd_bq_s=None, tia_68_bq_s=None, tia_95_bq_s=None, probability_off=None)
    else:
        united = with_integral(united, tia, sd)
    return with_common(united, fits.common_relative_sd), _members_flags(fits, members, told)


def _summed_sd_bq_s(parts: Sequence[Fit], common_relative_sd: float) -> float | None:
    """Return the standard uncertainty of a sum of integrals without what is common to all scans, None where a part has none.

    Errors of fits to their own scans are independent between regions; those of fits that lean on a population are not, since one
    patient's organs tend to differ from it together, and add up.
    """
    if any(part.tia_sd_bq_s is None for part in parts):
        return None
    own = {
        part.curve.region: np.sqrt(max((part.tia_sd_bq_s or 0.0) ** 2 - (common_relative_sd * part.tia_bq_s) ** 2, 0.0)) for part in parts
    }
    leaning = sum(own[part.curve.region] for part in parts if part.model in LEANING)
    measured = np.linalg.norm([own[part.curve.region] for part in parts if part.model not in LEANING])
    return float(np.hypot(leaning, measured))


def _members_flags(fits: RegionFits, members: tuple[str, ...], told: Mapping[str, Collection[str]]) -> tuple[Flag, ...]:
    """Return what makes members' curves doubtful, see ``gathered``, but for what is only told of them."""
    own = {member: fits.fits[member] for member in members}
    flags = {member: (*fits.flags[member], *(() if fit is None else fit.flags)) for member, fit in own.items()}
    return gathered({member: tuple(flag for flag in of if flag.code not in told.get(member, ())) for member, of in flags.items()})


def gathered(flags: Mapping[str, tuple[Flag, ...]]) -> tuple[Flag, ...]:
    """Return what makes members doubtful, one flag a code, naming them: a union is no better than its parts."""
    found: dict[str, list[tuple[str, Flag]]] = {}
    for member, own in flags.items():
        for flag in own:
            if flag.severity is not Severity.INFO:
                found.setdefault(flag.code, []).append((member, flag))
    return tuple(replace(of[0][1], text=f"{', '.join(dict.fromkeys(m for m, _ in of))}: {of[0][1].text}") for of in found.values())


def summed_curve(fits: RegionFits, name: str, members: tuple[str, ...]) -> Curve:
    """Return the members' activities added up; their independent uncertainties are each region's own contour and noise."""
    curves = [fits.curves[member] for member in members]
    activity = np.sum([curve.activity_bq for curve in curves], axis=0)
    return Curve(name, curves[0].t_h, activity, np.sqrt(np.sum([curve.activity_sd_bq**2 for curve in curves], axis=0)))


def _subset(curve: Curve, scans: set[int]) -> Curve:
    used = np.array([index + 1 in scans for index in range(curve.t_h.size)])
    if not used.any():
        raise DosimetryError("no common scan", where=curve.region, found="members seen in different scans", remedy="look at the members")
    return Curve(curve.region, curve.t_h[used], curve.activity_bq[used], curve.activity_sd_bq[used])
