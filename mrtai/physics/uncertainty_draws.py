"""Truths drawn around what was measured in one region, by the whole model without approximation."""

from typing import Final

import numpy as np
from scipy.special import lambertw

from mrtai.physics.interval_shape import knots
from mrtai.physics.recovery import coefficient, coefficients, parameters, used
from mrtai.physics.uncertainty_inputs import content_ml
from mrtai.values.grid import Array
from mrtai.values.refusal import DosimetryError
from mrtai.values.uncertainty import Inputs

LEAST_POSSIBLE: Final = 0.5
"""Inputs of which more than the rest make no sense (a negative activity, a curve that falls) are no knowledge."""


OWN_KINETICS: Final = "own kinetics"
"""The factor of ``kinetics`` with the shape of the fit's own distribution, for the ends of intervals."""


def drawn_ratios(inputs: Inputs, draws: int, rng: np.random.Generator) -> dict[str, Array]:
    """Return true over stated value by term (``volume`` of the activity, ``mass`` what it adds for the dose), ``(possible,)``."""
    volume_ml = inputs.volume_ml * np.exp(np.sqrt(np.log1p(inputs.volume_relative_sd**2)) * rng.standard_normal(draws))
    factors = _normal_ratios(inputs, draws, rng)
    factors["dead time"] = _dead_time_ratio(inputs, draws, rng)
    by_counts = _counts_ratio(inputs, volume_ml)
    factors["recovery"] = np.ones(draws)
    factors["mass"] = (volume_ml / inputs.volume_ml) ** inputs.mass_exponent
    if inputs.recovery is not None:
        curve = used(inputs.recovery)
        curves = rng.multivariate_normal(parameters(inputs.recovery), curve.covariance, draws)
        at_volume = coefficients(inputs.recovery, volume_ml)
        by_counts = by_counts * coefficient(inputs.recovery, inputs.volume_ml) / at_volume
        off_curve = 1.0 + curve.scatter / at_volume * rng.standard_normal(draws)
        factors["recovery"] = _of_contrast(inputs, at_volume / coefficients(inputs.recovery, volume_ml, curves) * off_curve)
    larger = volume_ml / inputs.volume_ml
    factors["volume"] = _of_contrast(inputs, by_counts / larger) * larger
    factors[OWN_KINETICS] = _own_kinetics(inputs, factors["kinetics"])
    possible = np.all([np.isfinite(values) & (values > 0) for values in factors.values()], axis=0)
    if possible.mean() < LEAST_POSSIBLE:
        raise _nothing_known(float(possible.mean()))
    return {term: values[possible] for term, values in factors.items()}


def _normal_ratios(inputs: Inputs, draws: int, rng: np.random.Generator) -> dict[str, Array]:
    sds = {
        "partial volume": inputs.partial_volume_relative_sd,
        "registration": abs(inputs.contrast) * inputs.registration_relative_sd,
        "calibration": inputs.calibration_relative_sd,
        "kinetics": inputs.kinetics_relative_sd,
        "engine": inputs.engine_relative_sd,
    }
    return {term: 1.0 + sd * rng.standard_normal(draws) for term, sd in sds.items()}


def _own_kinetics(inputs: Inputs, normal: Array) -> Array:
    """Return the normal factors of kinetics, of shape ``(draws,)``, each moved to where the fit's own distribution has as much below it."""
    if inputs.kinetics_ends is None:
        return normal
    ends, z = knots(*inputs.kinetics_ends)
    slopes = np.diff(ends) / np.diff(z)
    deviates = (normal - 1.0) / inputs.kinetics_relative_sd
    # beyond the outer ends as steep as between the outer two
    beyond = np.minimum(deviates - z[0], 0.0) * slopes[0] + np.maximum(deviates - z[-1], 0.0) * slopes[-1]
    return np.asarray(np.interp(deviates, z, ends) + beyond)


def _of_contrast(inputs: Inputs, ratio: Array) -> Array:
    """Return what a ratio of what stands above the surroundings makes of the whole concentration."""
    return np.asarray(1.0 + inputs.contrast * (ratio - 1.0))


def _counts_ratio(inputs: Inputs, volume_ml: Array) -> Array:
    """Return what the true outline would have found over what the contour found, for true volumes [mL] of shape ``(draws,)``."""
    by_outline = content_ml(volume_ml, volume_ml, inputs.fwhm_mm)
    return np.asarray(by_outline / content_ml(inputs.volume_ml, volume_ml, inputs.fwhm_mm))


def _dead_time_ratio(inputs: Inputs, draws: int, rng: np.random.Generator) -> Array:
    """Return f(τ') over f(τ) at the observed rate, f = e^{-W₀(-mτ)} with mτ = ln f / f; NaN where no true rate gives that rate."""
    if inputs.dead_time_factor == 1.0 or inputs.dead_time_tau_relative_sd == 0.0:
        return np.ones(draws)
    tau_ratio = 1.0 + inputs.dead_time_tau_relative_sd * rng.standard_normal(draws)
    observed_tau = np.log(inputs.dead_time_factor) / inputs.dead_time_factor * tau_ratio
    possible = (tau_ratio > 0) & (observed_tau < np.exp(-1.0))
    lost = -lambertw(-np.where(possible, observed_tau, 0.0)).real
    return np.where(possible, np.exp(lost) / inputs.dead_time_factor, np.nan)


def _nothing_known(possible: float) -> DosimetryError:
    return DosimetryError(
        "the inputs' uncertainties leave nothing known",
        where="uncertainty",
        found=f"{possible:.0%} of the draws possible",
        remedy="check the relative uncertainties of recovery curve, dead time and kinetics",
        code="UNCERTAINTY_TOO_LARGE",
    )
