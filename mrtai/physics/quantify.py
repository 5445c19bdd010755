"""From what a camera counted to activity concentration at the start of the acquisition."""

import numpy as np
from scipy.special import lambertw

from mrtai.units import BQ_PER_MBQ, LN2


def mean_decay_during_scan(duration_s: float, half_life_s: float) -> float:
    """Return (1 - e^{-λT}) / (λT): mean activity during an acquisition of ``duration_s`` over that at its start."""
    x = LN2 * duration_s / half_life_s
    return float(-np.expm1(-x) / x) if x > 0 else 1.0


def bq_per_ml_per_count(
    sensitivity_cps_per_mbq: float, *, heads: int, views_per_head: int, seconds_per_view: float, voxel_ml: float, decay_during_scan: float
) -> float:
    """Return the concentration [Bq/mL] that one reconstructed count in a voxel stands for.

    The sensitivity is per head; counts of a tomogram are the sum over all heads and views.
    """
    seconds = heads * views_per_head * seconds_per_view
    return BQ_PER_MBQ / (sensitivity_cps_per_mbq * seconds * voxel_ml * decay_during_scan)


def dead_time_factor(observed_cps: float, tau_s: float) -> float:
    """Return true over observed count rate of a paralysable detector, n = -W₀(-m τ)/τ.

    Raises:
        ValueError: the observed rate is above the detector's ceiling 1/(e τ), which no true rate gives.
    """
    argument = -observed_cps * tau_s
    if argument < -np.exp(-1.0):
        raise ValueError(f"observed {observed_cps:.0f} cps is above the paralysable ceiling of {1 / (np.e * tau_s):.0f} cps")
    if observed_cps <= 0:
        return 1.0
    return float(-lambertw(argument).real / (tau_s * observed_cps))
