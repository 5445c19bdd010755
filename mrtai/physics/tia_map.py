"""Regional integrals spread over voxels by what the scans saw there."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mrtai.physics.kinetics import RegionFits
from mrtai.values.grid import Array
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels


def tia_map(
    spects: Sequence[Image], labels: Labels, tia_bq_s: Mapping[int, float], time_shares: Mapping[int, Array]
) -> tuple[Image, tuple[int, ...]]:
    """Return the TIA map [Bq s/mL] whose sum over each region is the region's Ã, and the label values spread evenly.

    Inside a region a voxel's part is proportional to its activity averaged over the scans with the weights that the region's
    own time integral gives them, so that a voxel's Ã follows all scans but its kinetics are the region's. Negative voxels
    get nothing. A region without any positive voxel is filled evenly and named in the second result.

    Args:
        spects: activity maps on one grid.
        labels: exclusive regions on that grid; value 0 is the remainder.
        tia_bq_s: Ã by label value, 0 included.
        time_shares: by label value, shape ``(scans,)``, summing to 1.
    """
    grid = labels.grid
    flat = labels.voxels.ravel()
    # a region without an integral may have the highest value
    size = int(max(*tia_bq_s, labels.voxels.max())) + 1
    table = np.zeros((size, len(spects)))
    for value, shares in time_shares.items():
        table[value] = shares
    weight = np.zeros(flat.size)
    for scan, spect in enumerate(spects):
        weight += table[flat, scan] * spect.require(Quantity.ACTIVITY_CONCENTRATION).voxels.ravel()
    np.maximum(weight, 0.0, out=weight)
    sums = np.bincount(flat, weights=weight, minlength=size)
    counts = np.bincount(flat, minlength=size)
    even = tuple(value for value in tia_bq_s if sums[value] <= 0 and counts[value] > 0 and tia_bq_s[value] > 0)
    for value in even:
        weight[flat == value] = 1.0
        sums[value] = counts[value]
    factor = np.zeros(size)
    for value, tia in tia_bq_s.items():
        if sums[value] > 0:
            factor[value] = tia / (sums[value] * grid.voxel_ml)
    voxels = (weight * factor[flat]).astype(np.float32).reshape(grid.shape)
    return Image(voxels, Quantity.TIME_INTEGRATED_ACTIVITY, grid), even


def rescaled(tia: Image, fits: RegionFits) -> Image:
    """Return the map with every region's integral as ``fits.other_tia_bq_s`` has it."""
    factor = np.ones(int(max(*fits.tia_bq_s, fits.labels.voxels.max())) + 1)
    for value, other in fits.other_tia_bq_s.items():
        factor[value] = other / fits.tia_bq_s[value]
    return replace(tia, voxels=(tia.voxels * factor[fits.labels.voxels]).astype(np.float32))
