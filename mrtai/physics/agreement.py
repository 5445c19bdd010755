"""Agreement of two methods: bias, limits of agreement, and whether a bias is small enough.

Repeats of one patient are respected: every patient counts once in the bias, and the variance of a single difference is the sum
of what differs between patients and what differs within one (Bland & Altman 2007, section 3; intervals by Zou 2013).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy import stats

from mrtai.physics.by_patient import TWO_SIDED, has_repeats, patient_groups, patient_means
from mrtai.values.grid import Array
from mrtai.values.validation import Equivalence, Interval, Limits

LIMIT_Z: Final = float(stats.norm.ppf(TWO_SIDED))
SIGNIFICANCE: Final = 0.05
LEAST_POINTS: Final = 5
"""Below, a growth of the spread cannot be told at the 5 % level."""


def limits_of_agreement(differences: Array, patients: Sequence[str]) -> Limits:
    """Return bias and 95 % limits of agreement of differences, shape ``(points,)``.

    Without repeats the intervals are those of Bland & Altman 1999, section 2.2; with repeats those of Zou 2013 (MOVER).
    """
    means = patient_means(differences, patients)
    count, bias = means.size, float(means.mean())
    if count < 2:
        return Limits(bias)
    between = float(means.var(ddof=1))
    half = float(stats.t.ppf(TWO_SIDED, count - 1)) * np.sqrt(between / count)
    within = _within_variance(differences, patients) if has_repeats(patients) else None
    variance = between + (0.0 if within is None else _share_within(patients) * within)
    sd = float(np.sqrt(variance))
    low, high = (_plain_errors if within is None else _repeated_errors)(differences, patients, half)
    lower, upper = bias - LIMIT_Z * sd, bias + LIMIT_Z * sd
    return Limits(
        bias=bias,
        bias_95=(bias - half, bias + half),
        sd=sd,
        within_sd=None if within is None else float(np.sqrt(within)),
        lower=lower,
        lower_95=(lower - high, lower + low),
        upper=upper,
        upper_95=(upper - low, upper + high),
    )


def _within_variance(differences: Array, patients: Sequence[str]) -> float:
    groups = patient_groups(patients)
    residuals = differences - patient_means(differences, patients)[groups]
    return float((residuals**2).sum() / (groups.size - groups.max() - 1))


def _share_within(patients: Sequence[str]) -> float:
    """Return 1 − 1/m of the harmonic mean m of the patients' numbers of repeats: what their means hide of the variance within."""
    return float(1 - (1 / np.bincount(patient_groups(patients))).mean())


def _plain_errors(differences: Array, _: Sequence[str], __: float) -> Interval:
    count, sd = differences.size, differences.std(ddof=1)
    error = float(stats.t.ppf(TWO_SIDED, count - 1) * sd * np.sqrt(1 / count + LIMIT_Z**2 / (2 * (count - 1))))
    return error, error


def _repeated_errors(differences: Array, patients: Sequence[str], half: float) -> Interval:
    """Return how far a limit may lie inside and outside of its estimate: the ends of bias and of standard deviation, recovered."""
    means = patient_means(differences, patients)
    parts = (
        (float(means.var(ddof=1)), means.size - 1),
        (_share_within(patients) * _within_variance(differences, patients), differences.size - means.size),
    )
    variance = sum(part for part, _ in parts)
    below = np.sqrt(sum((part * (1 - freedom / stats.chi2.ppf(TWO_SIDED, freedom))) ** 2 for part, freedom in parts))
    above = np.sqrt(sum((part * (freedom / stats.chi2.ppf(1 - TWO_SIDED, freedom) - 1)) ** 2 for part, freedom in parts))
    sd, least, most = np.sqrt(variance), np.sqrt(max(variance - below, 0.0)), np.sqrt(variance + above)
    return float(np.hypot(half, LIMIT_Z * (sd - least))), float(np.hypot(half, LIMIT_Z * (most - sd)))


def growth_p(auto: Array, manual: Array) -> float | None:
    """Return the one-sided p of a growth of the differences' spread with the mean, arrays of shape ``(points,)``.

    The slope of |difference − mean difference| over the mean of both (Bland & Altman 1999, section 3.2); None where nothing can be told.
    """
    difference, mean = auto - manual, (auto + manual) / 2
    spread = np.abs(difference - difference.mean())
    # a spread of rounding alone says nothing
    if auto.size < LEAST_POINTS or np.ptp(mean) == 0 or spread.max() <= 1e-12 * np.abs(mean).max() or np.ptp(spread) == 0:
        return None
    return float(stats.pearsonr(spread, mean, alternative="greater").pvalue)


def equivalence(ln_ratios: Array, patients: Sequence[str], margin: float) -> Equivalence | None:
    """Return two one-sided t tests of the mean of ln ratios, shape ``(points,)``, against ± ln(1 + margin) (Schuirmann 1987).

    Every patient is one observation; None with a single one.
    """
    means = patient_means(ln_ratios, patients)
    if means.size < 2:
        return None
    freedom, bias, bound = means.size - 1, float(means.mean()), float(np.log1p(margin))
    error = float(means.std(ddof=1) / np.sqrt(means.size))
    distance = bound - abs(bias)
    # the test nearer to its bound has the larger p; without any spread it is decided
    p = float(stats.t.sf(distance / error, freedom)) if error > 0 else float(distance <= 0)
    half = float(stats.t.ppf(1 - SIGNIFICANCE, freedom)) * error
    return Equivalence(margin, (bias - half, bias + half), p, p < SIGNIFICANCE)
