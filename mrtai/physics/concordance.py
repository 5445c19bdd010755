"""How well two methods' values are the same values: Lin's concordance and the intraclass correlations."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from scipy import stats

from mrtai.physics.agreement import LIMIT_Z
from mrtai.physics.by_patient import TWO_SIDED, has_repeats, jackknife_95
from mrtai.values.grid import Array
from mrtai.values.validation import Coefficient, Interval

LEAST_POINTS: Final = 3
_ALMOST_ONE: Final = 1 - 1e-12


def concordance(auto: Array, manual: Array, patients: Sequence[str]) -> Coefficient | None:
    """Return Lin's concordance correlation of two arrays of shape ``(points,)``, None where neither varies.

    The interval is Lin's (1989, with the correction of 2000) on Fisher's z; with repeats it leaves out one patient at a time.
    """
    if auto.size < LEAST_POINTS or np.ptp(auto) == 0 or np.ptp(manual) == 0:
        return None
    value = _lin(auto, manual)
    if has_repeats(patients):
        return Coefficient(value, _jackknifed_on_z(lambda chosen: _lin(auto[chosen], manual[chosen]), patients, value))
    return Coefficient(value, _lin_95(auto, manual, value))


def icc(ratings: Array) -> tuple[Coefficient, Coefficient] | None:
    """Return ICC(2,1) and ICC(3,1) of ratings, shape ``(targets, raters)`` (Shrout & Fleiss 1979); None where targets do not differ.

    ICC(2,1) counts a systematic difference of the raters as error, ICC(3,1) does not. Intervals of McGraw & Wong 1996.
    """
    targets, raters = ratings.shape
    if targets < LEAST_POINTS or np.ptp(ratings.mean(axis=1)) == 0:
        return None
    between, error, rater = _mean_squares(ratings)
    absolute, consistent = _icc_values(ratings)
    if error == 0:
        ends = (1.0, 1.0) if rater == 0 else None
        return Coefficient(absolute, ends), Coefficient(consistent, (1.0, 1.0))
    free, freedom = targets - 1, (targets - 1) * (raters - 1)
    ratio = between / error
    low, high = ratio / stats.f.ppf(TWO_SIDED, free, freedom), ratio * stats.f.ppf(TWO_SIDED, freedom, free)
    of_consistent = tuple(float((end - 1) / (end + raters - 1)) for end in (low, high))
    return (
        Coefficient(absolute, _absolute_95(ratings, absolute)),
        Coefficient(consistent, (of_consistent[0], of_consistent[1])),
    )


def icc_by_patient(auto: Array, manual: Array, patients: Sequence[str]) -> tuple[Coefficient, Coefficient] | None:
    """Return ICC(2,1) and ICC(3,1) of two methods, arrays of shape ``(points,)``; with repeats, intervals leave out a patient at a time."""
    ratings = np.column_stack([auto, manual])
    # the agreement of values that do not vary is rounding alone
    found = icc(ratings) if np.ptp(auto) > 0 and np.ptp(manual) > 0 else None
    if found is None or not has_repeats(patients):
        return found
    absolute, consistent = (one.value for one in found)
    return (
        Coefficient(absolute, _jackknifed_on_z(lambda chosen: _icc_values(ratings[chosen])[0], patients, absolute)),
        Coefficient(consistent, _jackknifed_on_z(lambda chosen: _icc_values(ratings[chosen])[1], patients, consistent)),
    )


def _lin(auto: Array, manual: Array) -> float:
    both = auto.var() + manual.var() + (auto.mean() - manual.mean()) ** 2
    return float(2 * ((auto - auto.mean()) * (manual - manual.mean())).mean() / both) if both > 0 else float("nan")


def _lin_95(auto: Array, manual: Array, value: float) -> Interval | None:
    if abs(value) > _ALMOST_ONE:
        return value, value
    r = float(np.corrcoef(auto, manual)[0, 1])
    shift = (auto.mean() - manual.mean()) ** 2 / (auto.std() * manual.std())
    if r == 0:
        return None
    variance = (1 - r**2) * value**2 * (1 - value**2) / r**2 + 2 * value**3 * (1 - value) * shift / r - value**4 * shift**2 / (2 * r**2)
    half = LIMIT_Z * np.sqrt(max(variance, 0.0) / (auto.size - 2)) / (1 - value**2)
    return float(np.tanh(np.arctanh(value) - half)), float(np.tanh(np.arctanh(value) + half))


def _mean_squares(ratings: Array) -> tuple[float, float, float]:
    """Return the mean squares of targets, error and raters of a two-way table without repeats."""
    targets, raters = ratings.shape
    rows, columns, mean = ratings.mean(axis=1), ratings.mean(axis=0), ratings.mean()
    residuals = ratings - rows[:, None] - columns[None, :] + mean
    # what is left of equal columns is rounding
    residuals[np.abs(residuals) <= 1e-13 * np.abs(ratings).max()] = 0.0
    between = raters * ((rows - mean) ** 2).sum() / (targets - 1)
    error = (residuals**2).sum() / ((targets - 1) * (raters - 1))
    return float(between), float(error), float(targets * ((columns - mean) ** 2).sum() / (raters - 1))


def _icc_values(ratings: Array) -> tuple[float, float]:
    targets, raters = ratings.shape
    between, error, rater = _mean_squares(ratings)
    consistent = between + (raters - 1) * error
    absolute = consistent + raters * (rater - error) / targets
    return (between - error) / absolute if absolute else float("nan"), (between - error) / consistent if consistent else float("nan")


def _absolute_95(ratings: Array, value: float) -> Interval:
    targets, raters = ratings.shape
    between, error, rater = _mean_squares(ratings)
    free, freedom = targets - 1, (targets - 1) * (raters - 1)
    of_raters = raters * value * rater
    of_error = (targets * (1 + (raters - 1) * value) - raters * value) * error
    # Satterthwaite's degrees of freedom of the denominator
    v = freedom * (of_raters + of_error) ** 2 / (free * of_raters**2 + of_error**2)
    upper, lower = stats.f.ppf(TWO_SIDED, free, v), stats.f.ppf(TWO_SIDED, v, free)
    noise = raters * rater + (raters * targets - raters - targets) * error
    low = targets * (between - upper * error) / (upper * noise + targets * between)
    return float(low), float(targets * (lower * between - error) / (noise + targets * lower * between))


def _jackknifed_on_z(estimate: Callable[[Array], float], patients: Sequence[str], value: float) -> Interval | None:
    if value > _ALMOST_ONE:
        return value, value

    def on_z(chosen: Array) -> float:
        found = estimate(chosen)
        return float(np.arctanh(found)) if abs(found) < 1 else float("nan")

    ends = jackknife_95(on_z, patients)
    return None if ends is None else (float(np.tanh(ends[0])), float(np.tanh(ends[1])))
