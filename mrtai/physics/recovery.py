"""Recovery coefficients: how much of a compact object's activity is found within its own contour.

RC(v) = 1/(1 + (β/v)^γ) after Gear 2018 (EANM guidance on uncertainty), or, where a calibration says that it goes closer through its
spheres, RC(v) = p R(v), R being what a sphere keeps of itself under a Gaussian (``content_ml``); v is the object's volume [mL].
"""

from typing import Final

import numpy as np

from mrtai.physics.uncertainty_inputs import content_ml, counts_slope
from mrtai.values.calibration import GaussianRecovery, Recovery
from mrtai.values.grid import Array

LEAST_RECOVERY: Final = 0.3
"""Below, an activity would be more than tripled: what is divided is then mostly the curve's own error."""


def used(recovery: Recovery) -> Recovery | GaussianRecovery:
    """Return the curve that counts."""
    return recovery.gaussian or recovery


def parameters(recovery: Recovery) -> Array:
    """Return the two parameters of the curve that counts, (β [mL], γ) or (FWHM [mm], plateau), shape ``(2,)``."""
    curve = used(recovery)
    return np.array([curve.fwhm_mm, curve.plateau] if isinstance(curve, GaussianRecovery) else [curve.beta_ml, curve.gamma])


def coefficient(recovery: Recovery, volume_ml: float) -> float:
    """Return RC of an object of that volume."""
    return float(coefficients(recovery, np.array(volume_ml)))


def coefficients(recovery: Recovery, volume_ml: Array, drawn: Array | None = None) -> Array:
    """Return RC of volumes [mL] of any shape, by the curve that counts.

    Args:
        recovery: whose form counts.
        volume_ml: of the objects.
        drawn: other parameters than the curve's, shape ``(draws, 2)``; the result is NaN where they are no curve.
    """
    first, second = parameters(recovery) if drawn is None else drawn.T
    good = (first > 0) & (second > 0)
    first = np.where(good, first, 1.0)
    if recovery.gaussian is None:
        return np.where(good, 1.0 / (1.0 + (first / volume_ml) ** second), np.nan)
    return np.where(good, second * content_ml(volume_ml, volume_ml, first) / volume_ml, np.nan)


def log_slope(recovery: Recovery, volume_ml: float) -> float:
    """Return d ln RC / d ln v: γ (1 - RC), or φ/R - 1, since a sphere that grows gains its surface's value on either side."""
    if recovery.gaussian is None:
        return recovery.gamma * (1.0 - coefficient(recovery, volume_ml))
    return 2.0 * counts_slope(volume_ml, recovery.gaussian.fwhm_mm) - 1.0


def curve_gradient(recovery: Recovery, volume_ml: float) -> Array:
    """Return the derivatives of ln RC by the curve's parameters (``parameters``), shape ``(2,)``."""
    if recovery.gaussian is not None:
        # R depends on v/FWHM³ alone
        return np.array([-3.0 * log_slope(recovery, volume_ml) / recovery.gaussian.fwhm_mm, 1.0 / recovery.gaussian.plateau])
    lost = 1.0 - coefficient(recovery, volume_ml)
    return np.array([-recovery.gamma * lost / recovery.beta_ml, -lost * np.log(recovery.beta_ml / volume_ml)])


def curve_sd(recovery: Recovery, volume_ml: float) -> float:
    """Return the relative standard uncertainty of RC that the fitted curve has at a volume."""
    gradient = curve_gradient(recovery, volume_ml)
    return float(np.sqrt(gradient @ np.array(used(recovery).covariance) @ gradient))


def coefficient_sd(recovery: Recovery, volume_ml: float) -> float:
    """Return the relative standard uncertainty of one object's RC: the curve's, and how far single spheres lie off it.

    Neither curve is a law. Where the spheres that made it scatter about it, so will a region, however well the curve is known.
    """
    return float(np.hypot(curve_sd(recovery, volume_ml), used(recovery).scatter / coefficient(recovery, volume_ml)))
