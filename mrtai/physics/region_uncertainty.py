"""What a region's uncertainty rests on, gathered from contour, scans, fit and engine of one case."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from mrtai.physics import interval_shape
from mrtai.physics.interval_shape import ENDS_Z
from mrtai.physics.kinetics import RegionFits
from mrtai.physics.partial_volume import RECOVERY, is_compact
from mrtai.physics.recovery import coefficient_sd
from mrtai.physics.spill import AS_UNSURE
from mrtai.physics.uncertainty import COMMON_TO_REGIONS, combined, stated
from mrtai.physics.uncertainty_inputs import content_ml, registration_sd, volume_sd
from mrtai.values.calibration import Recovery
from mrtai.values.curve import Fit
from mrtai.values.dose import Dose
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Array, Grid
from mrtai.values.protocol import Protocol
from mrtai.values.refusal import DosimetryError
from mrtai.values.regions import kinetic_family
from mrtai.values.report import Aligned, BiologicalDose, DoseStatistics
from mrtai.values.uncertainty import Effect, Inputs, Spread, Uncertainty

OF_OUTLINES: Final = ("volume", "recovery", "partial volume")
"""Terms by which regions inside the body only take from each other."""

LEANING: Final = ("population", "hanscheid", "madsen", "ratio", "neural")
"""Models whose error is mostly the patient's distance from a population."""

ENGINE_RELATIVE_SD: Final = {"local": (0.05, 0.17), "monte-carlo": (0.01, 0.01)}
"""In soft tissue, and in lung or bone: the largest errors of region means of 177Lu against Monte Carlo on the page
docs/validation/dose-engines.md, rounded up to whole per cents; of Monte Carlo itself about its statistics in an organ.
The neural engine's transport is the convolution's."""

NEURAL_RELATIVE_SD: Final = {"as scanned": (0.06, 0.05, 0.09, 0.27), "recovered": (0.05, 0.04, 0.05, 0.08)}
"""What the neural engine leaves of blur and noise in a region's mean dose: of a lesion or organ up to ``SMALL_ML``, of a larger one, in red
marrow (with spines), and in lungs, which stand for bone, too: the 68 % of docs/validation/neural-dose.md, rounded up to whole per cents."""

SMALL_ML: Final = 20.0

CONVOLUTION_OF: Final = {"Lu-177": (0.01, 0.04), "I-131": (0.01, 0.02), "Y-90": (0.02, 0.02)}
"""The same by nuclide; another one is known no better than the worst of these."""

RED_MARROW: Final = "red_marrow"

SOFT_KG_PER_ML: Final = (0.9e-3, 1.15e-3)
"""Between these a region is soft tissue."""

UNEVEN: Final = {True: 0.05, False: 0.12}
"""Of what a compact region lost, or else of what was moved to or from a region, so much is off: root mean square of integrals in virtual
patients, whose uptake and contours are better than real ones, on the page docs/validation/recovery.md, and a third to a half more."""

KNOWN_BADLY: Final = ("DOSE_UNCERTAIN", "FIT_POOR", "LARGE_ERROR_LIKELY")
"""Flags of a region's number that its stated interval holds already."""

NORMAL_WITHIN: Final = 0.05
"""Standard uncertainties by which the ends of a normal error's intervals may be off."""

UNKNOWN_RESIDUAL_MM: Final = 8.0
"""Of a scan that could not be registered and was left where it was: a patient who is laid down anew lies about a centimetre off."""


def inputs_of(
    name: str,
    fit: Fit,
    *,
    aligned: Aligned,
    fits: RegionFits,
    outlined: Grid,
    protocol: Protocol,
    size: tuple[float, float],
) -> Inputs | None:
    """Return what the uncertainty of one exclusive region rests on, None where the fit states no uncertainty.

    ``outlined``: grid of the image that the contour was drawn on; ``size``: volume [mL] and mass [kg]. The rest of the body has no
    outline of its own, so its volume counts as known.
    """
    if fit.tia_sd_bq_s is None or not size[0] > 0:
        return None
    value = next((value for value, of in fits.labels.names.items() if of == name), 0)
    shares = fits.time_shares[value]
    sphere_ml = fits.blur.sphere_ml.get(name, size[0])
    curve = _worst_curve(sphere_ml, aligned, protocol)
    # what a phantom measured of the camera's blur, else what the protocol says of it
    fwhm_mm = protocol.spect_fwhm_mm if curve is None or curve.gaussian is None else curve.gaussian.fwhm_mm
    recovery = curve if protocol.partial_volume == RECOVERY and name in fits.recovery else None
    residuals_mm = [UNKNOWN_RESIDUAL_MM if one.residual_mm is None else one.residual_mm for one in aligned.alignments]
    moved = [share * registration_sd(sphere_ml, fwhm_mm, mm) for share, mm in zip(shares, residuals_mm, strict=True)]
    own = np.sqrt(max((fit.tia_sd_bq_s / fit.tia_bq_s) ** 2 - fits.common_relative_sd**2, 0.0))
    contrast, moved_away = _blurred(name, shares, fits, corrected=protocol.partial_volume == RECOVERY, fwhm_mm=protocol.spect_fwhm_mm)
    busiest = max(aligned.cycle.time_points, key=lambda point: point.dead_time_factor)
    return Inputs(
        volume_ml=sphere_ml,
        volume_relative_sd=_outline_sd(size[0], outlined, aligned, protocol) if value else 0.0,
        fwhm_mm=fwhm_mm,
        recovery=recovery,
        contrast=contrast,
        partial_volume_relative_sd=moved_away,
        registration_relative_sd=float(np.linalg.norm(moved)) if value else 0.0,
        dead_time_factor=busiest.dead_time_factor,
        dead_time_tau_relative_sd=busiest.dead_time_tau_relative_sd,
        calibration_relative_sd=fits.common_relative_sd,
        kinetics_relative_sd=float(own),
        kinetics_ends=_lopsided_ends(fit, float(own)),
        engine_relative_sd=_engine_sd(size, protocol),
    )


def _lopsided_ends(fit: Fit, own_relative_sd: float) -> tuple[float, float, float, float] | None:
    """Return the ends of the integral's intervals by kinetics alone, relative to it; None where they are those of a normal error."""
    if fit.tia_sd_bq_s is None or fit.tia_68_bq_s is None or fit.tia_95_bq_s is None or own_relative_sd == 0:
        return None
    # what is common to all scans widened them about the integral, see kinetics.with_integral
    own = own_relative_sd / (fit.tia_sd_bq_s / fit.tia_bq_s)
    (low, high), (lowest, highest) = fit.tia_68_bq_s, fit.tia_95_bq_s
    ends = 1.0 + own * (np.array([lowest, low, high, highest]) / fit.tia_bq_s - 1.0)
    normal = np.maximum(1.0 + ENDS_Z * own_relative_sd, 0.0)
    if np.abs(ends - normal).max() <= NORMAL_WITHIN * own_relative_sd:
        return None
    first, second, third, fourth = np.maximum(ends, 0.0).tolist()
    return first, second, third, fourth


def after_network(inputs: Inputs, name: str, size: tuple[float, float], dose: Dose) -> Inputs:
    """Return what the uncertainty of a region of volume [mL] and mass [kg] rests on where a network changed its dose.

    Its error stands for what blur left; after recovery only where it is the larger, since the truth of one is the other's.
    """
    if not dose.learned:
        return inputs
    small, large, marrow, elsewhere = NEURAL_RELATIVE_SD["as scanned" if dose.deblurred else "recovered"]
    left = small if inputs.volume_ml <= SMALL_ML else large
    if not dose.deblurred:
        left = max(left, inputs.partial_volume_relative_sd)
    # by name first: marrow, and a spine with much of it, may be as dense as soft tissue
    own = marrow if name == RED_MARROW else 0.0 if _soft(size) and not name.startswith("spine") else elsewhere
    return replace(inputs, partial_volume_relative_sd=left, engine_relative_sd=max(own, inputs.engine_relative_sd))


def _blurred(name: str, shares: Array, fits: RegionFits, *, corrected: bool, fwhm_mm: float) -> tuple[float, float]:
    """Return the contrast of a region's stated concentration, and how far blur left it off relative to that.

    With κ the contrast of what was measured and e its excess over the truth, the truth has the contrast 1 - (1 - κ)(1 + e), known but
    for a share of what was moved, and for how alike the parts are that counted and those that did not. A correction that was not made
    counts as an uncertainty of its own size (GUM F.2.4.5): 1/(1 + e) - 1, without a curve κ (1/R - 1), R being what the region's shape
    keeps under a Gaussian.
    """
    # weights that add up to 1 but for rounding take the mean of -1 beyond it
    contrast = float(np.clip(shares @ fits.blur.contrast[name], -1.0, 1.0)) if name in fits.blur.contrast else 1.0
    if name not in fits.blur.excess:
        sphere_ml = fits.blur.sphere_ml.get(name)
        kept = 1.0 if sphere_ml is None else float(content_ml(sphere_ml, sphere_ml, fwhm_mm)) / sphere_ml
        return contrast, abs(contrast * (1.0 / kept - 1.0))
    excess = float(shares @ fits.blur.excess[name])
    if not corrected:
        return contrast, abs(float(shares @ (1.0 / (1.0 + fits.blur.excess[name]))) - 1.0)
    moved = UNEVEN[is_compact(name) and excess < 0] * abs(float(shares @ fits.blur.moved[name]))
    like_the_rest = AS_UNSURE * UNEVEN[False] * (1.0 - fits.blur.counted[name])
    return float(np.clip(1.0 - (1.0 - contrast) * (1.0 + excess), -1.0, 1.0)), float(np.hypot(moved, like_the_rest))


def _worst_curve(volume_ml: float, aligned: Aligned, protocol: Protocol) -> Recovery | None:
    """Return the curve of the scans, which may come from several cameras, that is least certain at a volume."""
    curves = [point.recovery or protocol.recovery for point in aligned.cycle.time_points]
    return max((curve for curve in curves if curve is not None), key=lambda curve: coefficient_sd(curve, volume_ml), default=None)


def _outline_sd(volume_ml: float, outlined: Grid, aligned: Aligned, protocol: Protocol) -> float:
    """Return the relative standard uncertainty of a contour's volume, drawn on a CT or on the SPECT itself."""
    voxel_mm = float(outlined.spacing_mm.mean())
    # also where the contour came cropped to its slices, or was carried over from a later scan
    on_spect = any(np.allclose(outlined.spacing_mm, point.spect.grid.spacing_mm, atol=1e-3) for point in aligned.cycle.time_points)
    # a CT resolves about its own voxel
    return volume_sd(volume_ml, voxel_mm, protocol.spect_fwhm_mm if on_spect else voxel_mm)


def _engine_sd(size: tuple[float, float], protocol: Protocol) -> float:
    if protocol.dose_engine in ("convolution", "neural"):
        worst = tuple(max(of) for of in zip(*CONVOLUTION_OF.values(), strict=True))
        soft, other = CONVOLUTION_OF.get(protocol.nuclide, worst)
    else:
        soft, other = ENGINE_RELATIVE_SD[protocol.dose_engine]
    return float(soft if _soft(size) else other)


def _soft(size: tuple[float, float]) -> bool:
    """Return whether a region of volume [mL] and mass [kg] is soft tissue by its density."""
    return SOFT_KG_PER_ML[0] < size[1] / size[0] < SOFT_KG_PER_ML[1]


def region_uncertainty(inputs: Inputs) -> tuple[Uncertainty | None, tuple[Flag, ...]]:
    """Return the uncertainty of a region's numbers, or the flag that says why none can be stated."""
    try:
        return stated(inputs), ()
    except DosimetryError as refusal:
        return None, (Flag(refusal.code, Severity.REVIEW, f"{refusal.what}: found {refusal.found}.", refusal.remedy),)


def effect_of(dose: DoseStatistics, biological: BiologicalDose | None) -> Effect | None:
    """Return what BED is made of, None where there is no BED."""
    if biological is None or not dose.mean_gy > 0:
        return None
    return Effect(dose.mean_gy, biological.g, biological.parameters.alpha_beta_gy)


def united(
    members: Sequence[str], known: Mapping[str, Uncertainty], fits: RegionFits, *, whole: bool = False
) -> tuple[Spread, Spread] | None:
    """Return the uncertainties of a union's integral and dose, None where a member has none.

    Doses are weighted as Ã, whose electrons stay where they are: a union's dose is its energy over its mass. Kinetics that lean on a
    population err alike in one patient's organs. With ``whole`` the members fill the body: what one outline takes too much, and what
    blur moves from one, its neighbour lacks or has, and volume, recovery and partial volume say nothing.
    """
    parts = {name: fit for name in members if (fit := fits.fits[name]) is not None}
    if not parts or any(name not in known for name in parts):
        return None
    leaning = {"kinetics"} if any(fit.model in LEANING for fit in parts.values()) else set()
    values = [fit.tia_bq_s for fit in parts.values()]
    together = {*COMMON_TO_REGIONS, *leaning}
    spreads = (
        [_without_outlines(spread) if whole else spread for spread in (getattr(known[name], of) for name in parts)]
        for of in ("tia", "dose")
    )
    tia, dose = (combined(values, of, together) for of in spreads)
    return tia, dose


def _without_outlines(spread: Spread) -> Spread:
    return replace(spread, budget=tuple(term for term in spread.budget if term.term not in OF_OUTLINES))


def probability_off(spread: Spread) -> float:
    """Return the probability that the truth is more than ``LARGE_ERROR`` of the stated value away from it; 0 of a value without spread."""
    return interval_shape.probability_off(spread.interval_68, spread.interval_95) if spread.relative_sd > 0 else 0.0


def uncertainty_flags(spread: Spread, protocol: Protocol) -> tuple[Flag, ...]:
    """Return a flag where a dose is known too badly to be used unseen."""
    if spread.relative_sd <= protocol.most_dose_relative_sd:
        return ()
    text = f"The dose's standard uncertainty is {spread.relative_sd:.0%}, above the protocol's {protocol.most_dose_relative_sd:.0%}."
    return (Flag("DOSE_UNCERTAIN", Severity.REVIEW, text, "See its budget for the largest term: contour, recovery, scans or kinetics."),)


def may_concern(names: Sequence[str], mean_gy: float, spread: Spread, protocol: Protocol, drawn: Collection[str]) -> bool:
    """Return False for a dose that stays below the protocol's ``dose_of_concern_gy`` however it errs.

    Never False for lesions, for what the protocol limits, and for bone that stands for the marrow.

    Args:
        names: the region, then the unions that it is a member of.
        mean_gy: its dose.
        spread: the uncertainty of that.
        protocol: limits, and the dose of concern.
        drawn: regions of the draft that have a curve, which say whether bone stands for the marrow.
    """
    most_gy = mean_gy * spread.interval_95[1] * max((1.0, *protocol.rbe.values()))
    limited = any(_limited(name, protocol, drawn) for name in names)
    return kinetic_family(names[0]) == "lesion" or limited or most_gy >= protocol.dose_of_concern_gy


def known_badly(protocol: Protocol) -> frozenset[str]:
    """Return the flags that are only told of a dose of no concern: those that its interval holds, but for what the site weighs itself."""
    return frozenset(KNOWN_BADLY) - set(protocol.gates)


def only_told(flags: Iterable[Flag], codes: Collection[str], protocol: Protocol) -> tuple[Flag, ...]:
    """Return the flags of a region whose dose is of no concern, where those of these codes ask for no look."""
    text = f" The dose is below the protocol's {protocol.dose_of_concern_gy:g} Gy however it errs."
    return tuple(
        replace(flag, severity=Severity.INFO, text=flag.text + text) if flag.code in codes and flag.severity is Severity.REVIEW else flag
        for flag in flags
    )


def _limited(name: str, protocol: Protocol, drawn: Collection[str]) -> bool:
    """Return True for regions that the protocol limits, alone or by family; bone stands for the marrow where that is not drawn."""
    family = kinetic_family(name)
    if family == RED_MARROW and name != RED_MARROW and RED_MARROW in drawn:
        return False
    return bool({name, family} & {*protocol.dose_limits_gy, *protocol.cumulative_limits})
