"""What the ends of a value's 68 and 95 % intervals say of all its errors."""

from typing import Final

import numpy as np
from scipy.special import ndtri
from scipy.stats import norm

from mrtai.values.curve import LARGE_ERROR
from mrtai.values.grid import Array

ENDS_Z: Final = ndtri([0.025, 0.16, 0.84, 0.975])
"""Normal deviates of the ends: lowest of 95 %, both of 68 %, highest of 95 %."""

SMALLEST: Final = float(np.finfo(np.float64).tiny)


def knots(lowest: float, low: float, high: float, highest: float) -> tuple[Array, Array]:
    """Return true over stated value at the ends of 95 and 68 % intervals and at its median, and the normal deviates there, ``(5,)`` each.

    The median is the stated value, but for a rule of thumb that states one outside of what its own distribution holds likely.
    """
    return np.array([lowest, low, np.clip(1.0, low, high), high, highest]), np.array([*ENDS_Z[:2], 0.0, *ENDS_Z[2:]])


def probability_off(interval_68: tuple[float, float], interval_95: tuple[float, float]) -> float:
    """Return the probability that the truth is more than ``LARGE_ERROR`` of the stated value away from it.

    The intervals are relative to the stated value. Between their ends, and beyond them as between the outer two, the error is that of a
    normal one stretched to them; of a normal error they say 2 Φ(-0.2/sd).
    """
    lowest, highest = interval_95
    ends, z = knots(lowest, *interval_68, highest)
    slopes = np.diff(z) / np.maximum(np.diff(ends), SMALLEST)
    low, high = 1.0 - LARGE_ERROR, 1.0 + LARGE_ERROR
    below, above = np.interp((low, high), ends, z)
    below += min(low - lowest, 0.0) * slopes[0]
    above += max(high - highest, 0.0) * slopes[-1]
    return float(norm.cdf(below) + norm.sf(above))
