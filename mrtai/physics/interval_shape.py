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
    ends, z = knots(interval_95[0], *interval_68, interval_95[1])
    if not ends[1] < 1.0 < ends[3]:
        # a value outside of its own 68 % interval is not its median
        ends, z = np.delete(ends, 2), np.delete(z, 2)
    slopes = np.diff(z) / np.maximum(np.diff(ends), SMALLEST)
    limits = np.array([1.0 - LARGE_ERROR, 1.0 + LARGE_ERROR])
    beyond = np.minimum(limits - ends[0], 0.0) * slopes[0] + np.maximum(limits - ends[-1], 0.0) * slopes[-1]
    below, above = np.interp(limits, ends, z) + beyond
    return float(norm.cdf(below) + norm.sf(above))
