"""Repeats of one patient are not independent: what is estimated patient by patient."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mrtai.values.grid import Array
from mrtai.values.validation import Interval

LEAST_PATIENTS: Final = 3
CONFIDENCE: Final = 0.95
TWO_SIDED: Final = (1 + CONFIDENCE) / 2


def patient_groups(patients: Sequence[str]) -> NDArray[np.intp]:
    """Return the number of each point's patient, 0 … n − 1, shape ``(points,)``."""
    groups: NDArray[np.intp] = np.unique(np.asarray(patients), return_inverse=True)[1]
    return groups


def has_repeats(patients: Sequence[str]) -> bool:
    """Return True where a patient has more than one point."""
    return len(set(patients)) < len(patients)


def patient_means(values: Array, patients: Sequence[str]) -> Array:
    """Return the mean of each patient's ``values``, shape ``(points,)`` to ``(patients,)``."""
    groups = patient_groups(patients)
    means: Array = np.bincount(groups, values) / np.bincount(groups)
    return means


def jackknife_95(estimate: Callable[[Array], float], patients: Sequence[str], lost: int = 1) -> Interval | None:
    """Return the 95 % interval of an estimate by leaving out one patient at a time, None where that is not possible.

    Args:
        estimate: from the chosen points, a mask of shape ``(points,)``.
        patients: of each point.
        lost: degrees of freedom that the estimate takes.
    """
    groups = patient_groups(patients)
    count = int(groups.max()) + 1 if groups.size else 0
    if count < max(LEAST_PATIENTS, lost + 1):
        return None
    whole = estimate(np.ones(groups.size, dtype=np.bool_))
    without = np.array([estimate(groups != left_out) for left_out in range(count)])
    if not np.isfinite([whole, *without]).all():
        return None
    sd = float(np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum()))
    half = float(stats.t.ppf(TWO_SIDED, count - lost)) * sd
    return whole - half, whole + half
