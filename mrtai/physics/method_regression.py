"""Lines through two methods that both have errors: Deming's, and Passing and Bablok's without any assumption of their shape."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from mrtai.physics.agreement import LIMIT_Z
from mrtai.physics.by_patient import has_repeats, jackknife_95
from mrtai.values.grid import Array
from mrtai.values.validation import Coefficient, Line

LEAST_POINTS: Final = 3
MOST_POINTS: Final = 3000
"""Passing–Bablok looks at every pair of points; above, their slopes would fill the memory and it is left out."""


def deming(auto: Array, manual: Array, patients: Sequence[str]) -> Line | None:
    """Return Deming's line auto = a + b · manual with equal error variances, arrays of shape ``(points,)``.

    Intervals by leaving out one patient at a time (Linnet 1990). None where the manual values do not vary.
    """
    if auto.size < LEAST_POINTS or np.ptp(manual) == 0 or np.ptp(auto) == 0:
        return None
    slope, intercept = _orthogonal(auto, manual)
    if not np.isfinite(slope):
        return None
    return Line(
        Coefficient(slope, jackknife_95(lambda chosen: _orthogonal(auto[chosen], manual[chosen])[0], patients, 2)),
        Coefficient(intercept, jackknife_95(lambda chosen: _orthogonal(auto[chosen], manual[chosen])[1], patients, 2)),
    )


def _orthogonal(auto: Array, manual: Array) -> tuple[float, float]:
    x, y = manual - manual.mean(), auto - auto.mean()
    xx, yy, xy = (x @ x), (y @ y), (x @ y)
    if xy == 0:
        return float("nan"), float("nan")
    slope = (yy - xx + np.sqrt((yy - xx) ** 2 + 4 * xy**2)) / (2 * xy)
    return float(slope), float(auto.mean() - slope * manual.mean())


def passing_bablok(auto: Array, manual: Array, patients: Sequence[str]) -> Line | None:
    """Return the line of Passing & Bablok 1983 through two arrays of shape ``(points,)``.

    Its interval rests on independent points, so with repeats of a patient none is given.
    """
    if not LEAST_POINTS <= auto.size <= MOST_POINTS or np.ptp(manual) == 0 or np.ptp(auto) == 0:
        return None
    slopes = _pair_slopes(auto, manual)
    if slopes.size == 0:
        return None
    offset = int((slopes < -1).sum())
    slope = _shifted_median(slopes, offset)
    if not np.isfinite(slope):
        return None
    intercept = float(np.median(auto - slope * manual))
    ends = None if has_repeats(patients) else _slope_ends(slopes, offset, auto.size)
    if ends is None:
        return Line(Coefficient(slope), Coefficient(intercept))
    low, high = (float(np.median(auto - end * manual)) for end in reversed(ends))
    return Line(Coefficient(slope, ends), Coefficient(intercept, (low, high)))


def _pair_slopes(auto: Array, manual: Array) -> Array:
    """Return the sorted slopes of all pairs of points: equal points and slopes of −1 do not count."""
    first, second = np.triu_indices(auto.size, 1)
    x, y = manual[first] - manual[second], auto[first] - auto[second]
    distinct = (x != 0) | (y != 0)
    with np.errstate(divide="ignore"):
        slopes = y[distinct] / x[distinct]
    kept: Array = np.sort(slopes[slopes != -1])
    return kept


def _shifted_median(slopes: Array, offset: int) -> float:
    middle = (slopes.size - 1) // 2 + offset
    last = slopes.size - 1
    if slopes.size % 2:
        return float(slopes[min(middle, last)])
    return float((slopes[min(middle, last)] + slopes[min(middle + 1, last)]) / 2)


def _slope_ends(slopes: Array, offset: int, points: int) -> tuple[float, float] | None:
    half = LIMIT_Z * np.sqrt(points * (points - 1) * (2 * points + 5) / 18)
    first = round((slopes.size - half) / 2)
    last = slopes.size - first + 1
    if first < 1 or last + offset > slopes.size:
        return None
    low, high = float(slopes[first + offset - 1]), float(slopes[last + offset - 1])
    return (low, high) if np.isfinite([low, high]).all() else None
