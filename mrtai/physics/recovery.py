"""Recovery coefficients: how much of a compact object's activity is found within its own contour.

RC(v) = 1/(1 + (β/v)^γ) after Gear 2018 (EANM guidance on uncertainty); v is the object's volume [mL].
"""

from typing import Final

import numpy as np

from mrtai.values.calibration import Recovery
from mrtai.values.grid import Array

LEAST_RECOVERY: Final = 0.3
"""Below, an activity would be more than tripled: what is divided is then mostly the curve's own error."""


def coefficient(recovery: Recovery, volume_ml: float) -> float:
    """Return RC of an object of that volume."""
    return float(1.0 / (1.0 + (recovery.beta_ml / volume_ml) ** recovery.gamma))


def log_slope(recovery: Recovery, volume_ml: float) -> float:
    """Return d ln RC / d ln v = γ (1 - RC)."""
    return recovery.gamma * (1.0 - coefficient(recovery, volume_ml))


def curve_gradient(recovery: Recovery, volume_ml: float) -> Array:
    """Return the derivatives of ln RC by (β [1/mL], γ), shape ``(2,)``."""
    lost = 1.0 - coefficient(recovery, volume_ml)
    return np.array([-recovery.gamma * lost / recovery.beta_ml, -lost * np.log(recovery.beta_ml / volume_ml)])


def curve_sd(recovery: Recovery, volume_ml: float) -> float:
    """Return the relative standard uncertainty of RC that the fitted curve has at a volume."""
    gradient = curve_gradient(recovery, volume_ml)
    return float(np.sqrt(gradient @ np.array(recovery.covariance) @ gradient))


def coefficient_sd(recovery: Recovery, volume_ml: float) -> float:
    """Return the relative standard uncertainty of one object's RC: the curve's, and how far single spheres lie off it.

    The formula is no law. Where the spheres that made it scatter about it, so will a region, however well the curve is known.
    """
    return float(np.hypot(curve_sd(recovery, volume_ml), recovery.scatter / coefficient(recovery, volume_ml)))
