"""From the uncertainties of a region's inputs to those of its activity, integral, dose and BED (GUM; Gear 2018, EANM guidance).

    A = c f(τ) v [b + (C(v)/v - b) / RC(v; β, γ)]      Ã = A k      D = Ã S(v)      BED = D + G D²/(α/β)

with c the calibration, C the counts of the contour, b what surrounds it, f the dead time's factor, k the kinetics. Volume is *one*
variable: its sensitivities through counts, recovery and mass are added with their signs before the square is taken. First order
(``propagated``), the same model drawn without approximation (``bootstrap``), and the one of both to report (``stated``).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from scipy.special import ndtri

from mrtai.physics.radiobiology import bed_gy
from mrtai.physics.recovery import coefficient, coefficient_sd, log_slope, parameters, used
from mrtai.physics.uncertainty_draws import OWN_KINETICS, drawn_ratios
from mrtai.physics.uncertainty_inputs import counts_slope, dead_time_slope
from mrtai.values.grid import Array
from mrtai.values.uncertainty import BudgetTerm, Effect, Inputs, Spread, Uncertainty

OF_ACTIVITY: Final = ("volume", "recovery", "partial volume", "registration", "dead time", "calibration")
OF_TIA: Final = (*OF_ACTIVITY, "kinetics")
OF_DOSE: Final = (*OF_TIA, "engine")
COMMON_TO_SCANS: Final = ("recovery", "partial volume", "dead time", "calibration")
COMMON_TO_REGIONS: Final = (*COMMON_TO_SCANS, "engine")

FIRST_ORDER_UP_TO: Final = 0.05
"""Where an input's relative standard uncertainty is larger, what is reported was drawn."""

DRAWS: Final = 20_000
"""They leave half a per cent of statistical error on a standard uncertainty, less than is ever shown of one."""

SEED: Final = 8
"""The same inputs give the same numbers."""


def propagated(inputs: Inputs) -> Uncertainty:
    """Return uncertainties to first order, with intervals of normal errors; all are relative."""
    own = _relative_sds(inputs)
    slope = activity_slope(inputs)
    of_activity = {**own, "volume": abs(slope) * inputs.volume_relative_sd}
    of_dose = {**own, "volume": abs(slope + inputs.mass_exponent) * inputs.volume_relative_sd}
    return Uncertainty(
        activity=_normal_spread(of_activity, OF_ACTIVITY),
        tia=_normal_spread(of_activity, OF_TIA),
        dose=_normal_spread(of_dose, OF_DOSE),
        bed=None if inputs.effect is None else _normal_spread(of_dose, OF_DOSE, bed_slope(inputs.effect)),
        common_relative_sd=_normal_spread(own, COMMON_TO_SCANS).relative_sd,
        method="first order",
    )


def activity_slope(inputs: Inputs) -> float:
    """Return d ln A / d ln v = 1 + κ (φ/(2R) - d ln RC / d ln v - 1), the middle term only where activities are divided by RC.

    κ is the contrast: a concentration that is even across the outline does not depend on where that is drawn. The dose's is this plus
    the mass exponent. For a huge object without surroundings counts give 1/2 and a mass of 177Lu -0.985: half of it stays,
    since an outline that is too wide adds volume but no activity.
    """
    corrected = 0.0 if inputs.recovery is None else log_slope(inputs.recovery, inputs.volume_ml)
    return 1.0 + inputs.contrast * (counts_slope(inputs.volume_ml, inputs.fwhm_mm) - corrected - 1.0)


def bed_slope(effect: Effect) -> float:
    """Return d ln BED / d ln D = (1 + 2 G D/(α/β)) D/BED, with the curve's shape and so G held."""
    protraction = effect.g * effect.dose_gy / effect.alpha_beta_gy
    return (1.0 + 2.0 * protraction) / (1.0 + protraction)


def bootstrap(inputs: Inputs, draws: int, rng: np.random.Generator) -> Uncertainty:
    """Return uncertainties of the whole model without approximation, from truths drawn around what was measured.

    The contour stays and the true volume is drawn log-normally about it, with its median there: a volume is positive, sensitivities
    are by ln v, and too wide is then as likely as too narrow. β and γ are drawn normally with their covariance, all else as normal
    factors about 1, that of partial volume too; draws in which anything is not positive, or the dead time has no solution, are left out.

    Raises:
        DosimetryError: most of the draws are impossible.
    """
    of_activity = drawn_ratios(inputs, draws, rng)
    of_dose = {**of_activity, "volume": of_activity["volume"] * of_activity["mass"]}
    return Uncertainty(
        activity=_drawn_spread(of_activity, OF_ACTIVITY),
        tia=_drawn_spread(of_activity, OF_TIA),
        dose=_drawn_spread(of_dose, OF_DOSE),
        bed=None if inputs.effect is None else _drawn_spread(of_dose, OF_DOSE, inputs.effect),
        common_relative_sd=_drawn_spread(of_activity, COMMON_TO_SCANS).relative_sd,
        method="drawn",
    )


def stated(inputs: Inputs) -> Uncertainty:
    """Return what to report: first order where every input's error is normal with a standard uncertainty of at most 5 %, else drawn."""
    if inputs.kinetics_ends is None and max(_input_sds(inputs)) <= FIRST_ORDER_UP_TO:
        return propagated(inputs)
    return bootstrap(inputs, DRAWS, np.random.default_rng(SEED))


def combined(values: Sequence[float], spreads: Sequence[Spread], together: Collection[str] = COMMON_TO_REGIONS) -> Spread:
    """Return the uncertainty of a sum over different regions of one case, relative to that sum.

    Calibration, recovery curve, what blur took, dead time and engine err alike in all of them and add up; the rest is independent.

    Args:
        values: one of each region, such as Ã [Bq s], or a dose [Gy] times the region's mass.
        spreads: of the same numbers.
        together: terms that err alike in all regions.
    """
    parts: dict[str, list[float]] = {}
    for value, spread in zip(values, spreads, strict=True):
        for term in spread.budget:
            parts.setdefault(term.term, []).append(value * term.relative_sd)
    terms: list[str] = [term for term in OF_DOSE if term in parts]
    sds = {term: float(sum(parts[term]) if term in together else np.linalg.norm(parts[term])) / sum(values) for term in terms}
    return _shaped_as(_normal_spread(sds, terms), values, spreads)


def _shaped_as(total: Spread, values: Sequence[float], spreads: Sequence[Spread]) -> Spread:
    """Return the spread of a sum with intervals as lopsided as those of its parts, each counted by its variance in the sum."""
    parts = [(value * of.relative_sd, of) for value, of in zip(values, spreads, strict=True) if of.relative_sd > 0]
    if not parts:
        return total
    weights = np.square([sd for sd, _ in parts])
    ends = np.array([[(end - 1.0) / of.relative_sd for end in (*of.interval_68, *of.interval_95)] for _, of in parts])
    low, high, lowest, highest = (1.0 + total.relative_sd * (weights @ ends) / weights.sum()).tolist()
    return replace(total, interval_68=(low, high), interval_95=(lowest, highest))


def _relative_sds(inputs: Inputs) -> dict[str, float]:
    """Return the terms that act on activity, integral and dose with one and the same sensitivity."""
    return {
        "recovery": 0.0 if inputs.recovery is None else abs(inputs.contrast) * coefficient_sd(inputs.recovery, inputs.volume_ml),
        "partial volume": inputs.partial_volume_relative_sd,
        "registration": abs(inputs.contrast) * inputs.registration_relative_sd,
        "dead time": dead_time_slope(inputs.dead_time_factor) * inputs.dead_time_tau_relative_sd,
        "calibration": inputs.calibration_relative_sd,
        "kinetics": inputs.kinetics_relative_sd,
        "engine": inputs.engine_relative_sd,
    }


def _input_sds(inputs: Inputs) -> tuple[float, ...]:
    """Return the relative standard uncertainty of every input, before any sensitivity."""
    of_curve: tuple[float, ...] = ()
    if inputs.recovery is not None:
        curve = used(inputs.recovery)
        relative_sds = np.sqrt(np.diag(curve.covariance)) / parameters(inputs.recovery)
        of_curve = (*relative_sds.tolist(), curve.scatter / coefficient(inputs.recovery, inputs.volume_ml))
    return (
        inputs.volume_relative_sd,
        inputs.partial_volume_relative_sd,
        inputs.registration_relative_sd,
        inputs.dead_time_tau_relative_sd,
        inputs.calibration_relative_sd,
        inputs.kinetics_relative_sd,
        inputs.engine_relative_sd,
        *of_curve,
    )


def _normal_spread(sds: Mapping[str, float], terms: Sequence[str], slope: float = 1.0) -> Spread:
    own = {term: slope * sds[term] for term in terms}
    total = float(np.linalg.norm(list(own.values())))
    half, whole = (-ndtri([0.16, 0.025]) * total).tolist()
    return Spread(total, _budget(total, own), (1.0 - half, 1.0 + half), (1.0 - whole, 1.0 + whole))


def _drawn_spread(factors: Mapping[str, Array], terms: Sequence[str], effect: Effect | None = None) -> Spread:
    """Return the spread of the product of factors, or of the BED of a dose that is multiplied by it.

    The standard uncertainty is that of normal kinetics, whose own long tail says more of the ends of intervals than of most patients.
    """
    total = float(_product(factors, terms, effect).std())
    shaped = [OWN_KINETICS if term == "kinetics" else term for term in terms]
    low, high, lowest, highest = np.quantile(_product(factors, shaped, effect), [0.16, 0.84, 0.025, 0.975]).tolist()
    return Spread(total, _budget(total, {term: float(factors[term].std()) for term in terms}), (low, high), (lowest, highest))


def _product(factors: Mapping[str, Array], terms: Sequence[str], effect: Effect | None) -> Array:
    ratios: Array = np.prod([factors[term] for term in terms], axis=0)
    if effect is None:
        return ratios
    bed = bed_gy(effect.dose_gy * ratios, effect.g, effect.alpha_beta_gy)
    return np.asarray(bed / bed_gy(effect.dose_gy, effect.g, effect.alpha_beta_gy))


def _budget(total: float, sds: Mapping[str, float]) -> tuple[BudgetTerm, ...]:
    """Return the terms with shares as if each varied alone; what they do to each other is spread over them in proportion."""
    variance = sum(sd**2 for sd in sds.values())
    return tuple(BudgetTerm(term, total * sd / float(np.sqrt(variance)), sd**2 / variance) for term, sd in sds.items() if sd > 0)
