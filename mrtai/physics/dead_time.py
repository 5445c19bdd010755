"""Dead time of a paralysable detector, from one source at several activities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import curve_fit

from mrtai.physics.quantify import dead_time_factor
from mrtai.units import MICROSECONDS_PER_SECOND
from mrtai.values.grid import Array
from mrtai.values.phantom import Tomogram
from mrtai.values.refusal import DosimetryError

LEAST_RATE_RATIO: Final = 2.0
"""Between the highest and lowest activity of a dead time measurement; less says next to nothing of a curve's bend."""

SEEN_SDS: Final = 3.0
"""A dead time below that many of its standard uncertainties was not seen; correcting by it would add noise alone."""


@dataclass(frozen=True, slots=True)
class DeadTime:
    """Paralysable dead time per event with the standard uncertainty of its fit, and the factor true over observed of every scan."""

    tau_us: float
    tau_sd_us: float
    factors: tuple[float, ...]


def fitted_dead_time(activity_mbq: Array, observed_cps: Array, sd_cps: Array) -> tuple[float, float, float]:
    """Return τ [s] of the paralysable model m = k A exp(-k A τ), its standard uncertainty, and k [cps/MBq].

    Arrays have shape ``(scans,)``.

    ln(m/A) = ln k - (k A) τ is nearly a line in A, which gives the start of the fit.
    """
    slope, intercept = np.polyfit(activity_mbq, np.log(observed_cps / activity_mbq), 1)
    start = np.exp(intercept), -slope / np.exp(intercept)

    def paralysable(activity: Array, k: float, tau_us: float) -> Array:
        rate: Array = k * activity * np.exp(-k * activity * tau_us / MICROSECONDS_PER_SECOND)
        return rate

    def slopes(activity: Array, k: float, tau_us: float) -> Array:
        true = k * activity
        lost = np.exp(-true * tau_us / MICROSECONDS_PER_SECOND)
        by_k = activity * lost * (1 - true * tau_us / MICROSECONDS_PER_SECOND)
        return np.stack([by_k, -(true**2) * lost / MICROSECONDS_PER_SECOND], axis=1)

    first = (start[0], start[1] * MICROSECONDS_PER_SECOND)
    fit = curve_fit(paralysable, activity_mbq, observed_cps, p0=first, sigma=sd_cps, absolute_sigma=True, jac=slopes)
    (k, tau_us), covariance = fit
    chi2 = float((((observed_cps - paralysable(activity_mbq, k, tau_us)) / sd_cps) ** 2).sum())
    degrees = activity_mbq.size - 2
    scale = max(1.0, chi2 / degrees) if degrees else 1.0
    sd_us = float(np.sqrt(covariance[1, 1] * scale))
    return float(tau_us) / MICROSECONDS_PER_SECOND, sd_us / MICROSECONDS_PER_SECOND, float(k)


def dead_time_of(scans: Sequence[Tomogram], activity_mbq: Array) -> tuple[DeadTime | None, str]:
    """Return the dead time per event from recorded counts at several activities; None, and why, where they do not tell.

    ``activity_mbq`` has shape ``(scans,)``.
    """
    if len(scans) < 2 or activity_mbq.max() / activity_mbq.min() < LEAST_RATE_RATIO:
        return None, f"needs scans of activities that differ by a factor of {LEAST_RATE_RATIO:g}"
    recorded = np.array([scan.recorded_counts or 0.0 for scan in scans])
    if not recorded.all():
        return None, "a scan does not state its recorded counts (0018,0070)"
    seconds = np.array([scan.head_seconds for scan in scans])
    observed_cps = recorded / seconds
    tau_s, sd_s, k = fitted_dead_time(activity_mbq, observed_cps, np.sqrt(recorded) / seconds)
    if tau_s < SEEN_SDS * sd_s:
        return None, f"not seen: {tau_s * MICROSECONDS_PER_SECOND:.2g} ± {sd_s * MICROSECONDS_PER_SECOND:.2g} us"
    most = float((k * activity_mbq).max()) * tau_s
    if most >= 1:
        # beyond its peak the observed rate falls again, and no longer tells the true one
        raise _beyond(f"a true rate of {most:.2f} / tau")
    try:
        factors = tuple(dead_time_factor(float(cps), tau_s) for cps in observed_cps)
    except ValueError as fault:
        raise _beyond(str(fault)) from fault
    return DeadTime(tau_s * MICROSECONDS_PER_SECOND, sd_s * MICROSECONDS_PER_SECOND, factors), ""


def _beyond(found: str) -> DosimetryError:
    return DosimetryError(
        "the camera was paralysed",
        where="scans",
        found=found,
        remedy="leave out the scans of the highest activities, and check CountsAccumulated (0018,0070)",
        code="DEAD_TIME_BEYOND_MODEL",
    )
