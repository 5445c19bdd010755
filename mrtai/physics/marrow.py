"""Dose of the red marrow: from blood samples and from the image, each named for what it rests on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from mrtai.physics.kinetics import TacModel
from mrtai.physics.mird import charged_self_dose_gy
from mrtai.units import WATER_DENSITY_KG_PER_ML
from mrtai.values.chain import Chain, Progeny
from mrtai.values.curve import Fit
from mrtai.values.flag import Flag, Severity
from mrtai.values.marrow import BloodSamples, MarrowDose
from mrtai.values.nuclide import Nuclide
from mrtai.values.refusal import DosimetryError
from mrtai.values.report import RegionDose

EXTRACELLULAR_SHARE: Final = 0.19
"""Of the red marrow: what an agent reaches that enters no cell (Sgouros 1993)."""

AS_IN_BLOOD: Final = ("dotatate", "octreotate", "oxodotreotid", "lutathera")
"""Agents that marrow holds as blood does, by letters of their names: aspirates after 177Lu-DOTATATE (Forrer 2009)."""

RMBLR_RELATIVE_SD: Final = 0.15
"""Standard deviation of an even spread of ±26 %: as far as 1 is from the 1/1.35 that a line through aspirates of 15 patients gave
after 177Lu-DOTATATE (Forrer, J Nucl Med 2006;47 suppl 1:486P). For other agents no figure was found; there it is a choice."""

MOST_RATIO: Final = 2.0
"""Two estimates further apart than this factor need a person's eyes."""

_Rows = tuple[RegionDose, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    """Mean over the regions that stand for the marrow in the image; doses in Gy, None where not known."""

    region: str
    mean_gy: float
    sd_gy: float | None
    photon_gy: float | None
    tia_bq_s: float | None
    volume_ml: float


def marrow_doses(
    regions: Sequence[RegionDose], blood: BloodSamples | None, agent: str, nuclide: Nuclide, model: TacModel, limit_gy: float | None
) -> tuple[MarrowDose, ...]:
    """Return the marrow's dose by blood and by image, whichever can be had, with flags where they disagree or exceed a limit.

    Args:
        regions: the report's rows; of ``red_marrow``, ``spine`` and ``vertebrae_…`` the first that was contoured stands for the marrow.
        blood: samples of this administration, None where there are none.
        agent: what was given, by name; decides the red marrow to blood ratio.
        nuclide: with the charged energy that is left where the parent decays, see ``with_progeny``.
        model: continues the blood's curve; its refusal withholds the blood's number alone.
        limit_gy: absorbed dose above which a person must look.
    """
    rows = _stand_in(regions)
    seen = _seen(rows)
    found: list[MarrowDose] = []
    if blood is not None:
        found.append(_by_blood(blood, agent, nuclide, model, seen))
    if rows:
        found.append(_by_image(rows, seen))
    apart = _disagreement(found)
    return tuple(replace(dose, flags=(*dose.flags, *_limit_flags(dose, limit_gy), *apart)) for dose in found)


def rmblr(agent: str, haematocrit: float | None) -> float:
    """Return the ratio of concentrations, red marrow to blood: 1 for 177Lu-DOTATATE, else 0.19/(1 - Hct) (Sgouros 1993; Hindorf 2010).

    Raises:
        DosimetryError: the agent needs a haematocrit and there is none.
    """
    if _as_in_blood(agent):
        return 1.0
    if haematocrit is None:
        raise DosimetryError(
            "the red marrow to blood ratio of this agent needs a haematocrit",
            where="blood",
            found=f"none, agent {agent!r}",
            remedy="state haematocrit in the [blood] table of study.toml",
            code="HAEMATOCRIT_MISSING",
        )
    return EXTRACELLULAR_SHARE / (1.0 - haematocrit)


def with_progeny(chain: Chain, progeny: Progeny) -> Nuclide:
    """Return the parent with the energies of its progeny added, as far as they decay where it does."""
    if progeny.stay == "none":
        return chain.parent
    own, total, stays = chain.parent, chain.energy_mev, 1.0 - progeny.free_fraction
    return replace(
        own,
        electron_mev_per_decay=own.electron_mev_per_decay + stays * (total["electron"] - own.electron_mev_per_decay),
        photon_mev_per_decay=own.photon_mev_per_decay + stays * (total["photon"] - own.photon_mev_per_decay),
        alpha_mev_per_decay=own.alpha_mev_per_decay + stays * (total["alpha"] - own.alpha_mev_per_decay),
    )


def _as_in_blood(agent: str) -> bool:
    letters = "".join(letter for letter in agent.casefold() if letter.isalpha())
    return any(name in letters for name in AS_IN_BLOOD)


def _by_blood(blood: BloodSamples, agent: str, nuclide: Nuclide, model: TacModel, seen: _Seen | None) -> MarrowDose:
    """Return the self-dose of Ã = C̃_blood · RMBLR · m_marrow, upper limit, with the photons that the image shows to arrive."""
    samples = f"blood samples ({blood.curve.t_h.size})"
    withheld = MarrowDose("blood", None, None, None, None, None, blood.haematocrit, samples)
    try:
        ratio = rmblr(agent, blood.haematocrit)
        fit = model(blood.curve)
    except DosimetryError as refusal:
        flag = Flag(refusal.code, Severity.WITHHELD, f"{refusal.what}: found {refusal.found}.", refusal.remedy)
        return replace(withheld, flags=(flag,))
    # ratio and formula are stated for 1 g of marrow per mL of blood
    tia_bq_s = fit.tia_bq_s * ratio * blood.marrow_mass_kg / WATER_DENSITY_KG_PER_ML
    self_gy = charged_self_dose_gy(tia_bq_s, blood.marrow_mass_kg, nuclide)
    photon_gy = seen.photon_gy if seen is not None else None
    source = "Forrer 2009" if _as_in_blood(agent) else f"0.19/(1 - {blood.haematocrit:g}), Sgouros 1993"
    photons = f"photons of the dose map in {seen.region}" if seen is not None and photon_gy is not None else "photons not counted"
    return replace(
        withheld,
        tia_bq_s=tia_bq_s,
        absorbed_dose_gy=self_gy + (photon_gy or 0.0),
        absorbed_dose_sd_gy=_blood_sd_gy(self_gy, fit, seen),
        rmblr=ratio,
        text=f"{samples}, {fit.model}; RMBLR {ratio:.3g} ({source}); {photons}",
        flags=fit.flags,
    )


def _blood_sd_gy(self_gy: float, fit: Fit, seen: _Seen | None) -> float | None:
    if fit.tia_sd_bq_s is None:
        return None
    self_sd_gy = self_gy * np.hypot(fit.tia_sd_bq_s / fit.tia_bq_s, RMBLR_RELATIVE_SD)
    if seen is None or seen.photon_gy is None or seen.sd_gy is None or seen.mean_gy <= 0:
        return float(self_sd_gy)
    return float(np.hypot(self_sd_gy, seen.photon_gy * seen.sd_gy / seen.mean_gy))


def _by_image(rows: _Rows, seen: _Seen | None) -> MarrowDose:
    name = _name(rows)
    left_out = [row.name for row in rows if not _measured(row)]
    if seen is None:
        flag = Flag("MARROW_NOT_MEASURED", Severity.WITHHELD, f"The dose of {name} is withheld.", "See the flags of that region.")
        return MarrowDose("image", name, None, None, None, None, None, f"image, {name}", (flag,))
    flags: tuple[Flag, ...] = ()
    if left_out:
        text = f"No dose of {', '.join(left_out)}; the mean is over the {len(rows) - len(left_out)} others."
        flags = (Flag("MARROW_PARTLY_MEASURED", Severity.REVIEW, text, "See the flags of those regions."),)
    means = {"red_marrow": "mean of the contour", "spine": "mean of the contour, bone included"}
    text = f"image, {name}: {means.get(name, f'mean of {len(rows) - len(left_out)} contours by volume, bone included')}"
    return MarrowDose("image", name, seen.tia_bq_s, seen.mean_gy, seen.sd_gy, None, None, text, flags, seen.volume_ml)


def _stand_in(regions: Sequence[RegionDose]) -> _Rows:
    """Return the rows that stand for the marrow: the first choice that has a dose, else the first that was contoured."""
    choices = [[row for row in regions if row.name == name] for name in ("red_marrow", "spine")]
    choices.append([row for row in regions if row.name.startswith("vertebrae_")])
    contoured = [tuple(rows) for rows in choices if rows]
    return next((rows for rows in contoured if any(map(_measured, rows))), contoured[0] if contoured else ())


def _name(rows: _Rows) -> str:
    return rows[0].name if len(rows) == 1 else "vertebrae"


def _measured(row: RegionDose) -> bool:
    return row.dose is not None and bool(row.volume_ml)


def _seen(rows: _Rows) -> _Seen | None:
    measured = [(row, row.dose, row.volume_ml) for row in rows if row.dose is not None and row.volume_ml]
    if not measured:
        return None
    volume_ml = sum(ml for _, _, ml in measured)
    shares = [ml / volume_ml for _, _, ml in measured]

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(share * value for share, value in zip(shares, known, strict=True)) if len(known) == len(values) else None

    tia = [row.fit.tia_bq_s for row, _, _ in measured if row.fit is not None]
    return _Seen(
        region=_name(rows),
        mean_gy=sum(share * dose.mean_gy for share, (_, dose, _) in zip(shares, measured, strict=True)),
        # as if wholly correlated: calibration, kinetics and registration are much the same from one vertebra to the next
        sd_gy=mean([dose.mean_sd_gy for _, dose, _ in measured]),
        photon_gy=mean([dose.by_radiation_gy.get("photon") for _, dose, _ in measured]),
        tia_bq_s=sum(tia) if len(tia) == len(measured) else None,
        volume_ml=volume_ml,
    )


def _limit_flags(dose: MarrowDose, limit_gy: float | None) -> tuple[Flag, ...]:
    # a contour of the marrow itself is flagged where it stands in the report
    if limit_gy is None or dose.absorbed_dose_gy is None or dose.absorbed_dose_gy <= limit_gy or dose.region == "red_marrow":
        return ()
    text = f"The {dose.method}-based dose of the red marrow of {dose.absorbed_dose_gy:.3g} Gy is above the protocol's {limit_gy:g} Gy."
    return (Flag("DOSE_ABOVE_LIMIT", Severity.REVIEW, text, "A physician decides on further cycles."),)


def _disagreement(found: Sequence[MarrowDose]) -> tuple[Flag, ...]:
    doses = {dose.method: dose.absorbed_dose_gy for dose in found if dose.absorbed_dose_gy is not None}
    if {"image", "blood"} - doses.keys() or max(doses.values()) <= MOST_RATIO * min(doses.values()):
        return ()
    text = (
        f"Red marrow: {doses['image']:.3g} Gy by image, {doses['blood']:.3g} Gy by blood, more than a factor {MOST_RATIO:g} apart. "
        "Image-based doses run about four times the blood-based ones in a published table of 16 patients after 177Lu-DOTATATE "
        "(PMC10478826, table 3)."
    )
    remedy = "Say which method a dose belongs to; look for metastases in the contour and at the times of the blood samples."
    return (Flag("MARROW_METHODS_DIFFER", Severity.REVIEW, text, remedy),)
