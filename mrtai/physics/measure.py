"""What lies in a region: activity, volume, mass, and who lies in whom."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels

REMAINDER = "remainder"


def activities_bq(spect: Image, labels: Labels) -> dict[str, float]:
    """Return the activity [Bq] of each region and of the remainder: sums of concentration times voxel volume on one grid."""
    if not spect.grid.same_as(labels.grid):
        raise ValueError("activities are summed on one grid: resample contours to the SPECT first")
    weights = spect.require(Quantity.ACTIVITY_CONCENTRATION).voxels.ravel()
    sums = np.bincount(labels.voxels.ravel(), weights=weights, minlength=max(labels.names, default=0) + 1) * spect.grid.voxel_ml
    return {name: float(sums[value]) for value, name in labels.names.items()} | {REMAINDER: float(sums[0])}


def lies_in(labels: Labels, inner: str, outer: str) -> bool:
    """Return True when most of the surface layer around ``inner`` belongs to ``outer``: a lesion surrounded by an organ."""
    inside = labels.mask(inner)
    shell = ndimage.binary_dilation(inside) & ~inside
    return bool(labels.mask(outer)[shell].sum() * 2 > shell.sum())


def touches_border(mask: NDArray[np.bool_]) -> bool:
    """Return True when a region ``(z, y, x)`` reaches the first or last voxel along an axis: it may go on outside the view."""
    return any(bool(np.any(mask.take(end, axis=axis))) for axis in range(3) for end in (0, -1))
