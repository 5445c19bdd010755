"""How alike two images of one grid are."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BINS: Final = 48


def mutual_information(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the mutual information [nat] of paired values, any equal shape, from a joint histogram of 48 × 48 bins."""
    joint, _, _ = np.histogram2d(a.ravel(), b.ravel(), bins=BINS)
    p = joint / joint.sum()
    product = np.outer(p.sum(axis=1), p.sum(axis=0))
    filled = p > 0
    return float(np.sum(p[filled] * np.log(p[filled] / product[filled])))


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return 2|A∩B| / (|A| + |B|); 1 when both are empty; any equal shape."""
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else 1.0
