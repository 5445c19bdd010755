"""The same voxel fits on a CUDA device, one thread a voxel."""

from typing import Any, Final

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from mrtai.engines.monte_carlo.gpu import require_gpu
from mrtai.engines.voxel_fit import one_voxel

BLOCK: Final = 256


@cuda.jit
def _voxels(activity, region, shape, certainty, squares, mixed, slopes, integral, change, penalty, precision, tia, sd):
    voxel = cuda.grid(1)  # type: ignore[attr-defined]
    if voxel < region.size and region[voxel] >= 0:
        tia[voxel], sd[voxel] = one_voxel(
            activity, voxel, region[voxel], shape, certainty, squares, mixed, slopes, integral, change, penalty, precision
        )


def on_gpu(
    activity: NDArray[np.float32],
    region: NDArray[np.int32],
    arrays: tuple[Any, ...],
    precision: float,
    tia: NDArray[np.float32],
    sd: NDArray[np.float32],
) -> None:
    """Fill ``tia`` and ``sd`` (voxels,); refuses where no CUDA device can be used."""
    require_gpu()
    results = cuda.to_device(tia), cuda.to_device(sd)
    there = [cuda.to_device(np.ascontiguousarray(part)) for part in (activity, region, *arrays)]
    _voxels[(region.size + BLOCK - 1) // BLOCK, BLOCK](*there, precision, *results)
    for host, device in zip((tia, sd), results, strict=True):
        device.copy_to_host(host)
