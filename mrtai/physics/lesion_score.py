"""From how sure a network is of a lesion, voxel by voxel, to what is drawn."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

LEAST_SCORE: Final = 0.5
"""Share of a lesion from which a voxel belongs to one."""

LEAST_PEAK: Final = 0.5
"""Share that the surest voxel of a lesion must reach.

Nothing is asked beyond ``LEAST_SCORE``: how sure a network must be lies in its weights, so that one half means the same for every model.
"""


def sure(score: NDArray[Any], least_score: float = LEAST_SCORE, least_peak: float = LEAST_PEAK) -> NDArray[np.bool_]:
    """Return True in the pieces (26 neighbours) of ``score >= least_score`` whose highest score is ``least_peak`` or more, ``(z, y, x)``.

    ``score`` lies between 0 and 1.
    """
    mask: NDArray[np.bool_] = score >= least_score
    pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if not count:
        return mask
    peaks = np.concatenate([[0.0], ndimage.maximum(score[mask], pieces[mask], np.arange(1, count + 1))])
    kept: NDArray[np.bool_] = (peaks >= least_peak)[pieces] & mask
    return kept
