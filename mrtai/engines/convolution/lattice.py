"""A coarser lattice over the image's own: blocks of voxels, and smooth interpolation between the two."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrtai.values.grid import Array

Factor = tuple[int, int, int]

PAD = 2
"""Blocks beyond each border that cubic interpolation reaches into."""


def coarsening(spacing_mm: Array, coarse_mm: float) -> Factor:
    """Return how many voxels ``(z, y, x)`` make a block of about ``coarse_mm``."""
    z, y, x = (max(1, round(coarse_mm / float(edge))) for edge in np.asarray(spacing_mm)[::-1])
    return z, y, x


def block_sum(voxels: NDArray[Any], factor: Factor) -> NDArray[np.float32]:
    """Return the sum over blocks; a block cut by the border sums what there is. Shape ``(z, y, x)`` divided by factor, up."""
    result = voxels.astype(np.float32, copy=False)
    for axis, n in enumerate(factor):
        if n > 1:
            result = np.add.reduceat(result, np.arange(0, result.shape[axis], n), axis=axis)
    return result


def block_mean(voxels: NDArray[Any], factor: Factor) -> NDArray[np.float32]:
    """Return the sum over blocks divided by a whole block's number of voxels: what lies beyond the border counts as zero."""
    mean: NDArray[np.float32] = block_sum(voxels, factor) / np.float32(np.prod(factor))
    return mean


def refined(blocks: NDArray[Any], factor: Factor, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return values of shape ``shape`` by cubic interpolation between the blocks' centres; the outermost blocks continue outwards."""
    padded = np.pad(blocks, PAD, mode="edge")
    return interpolated(padded, factor, shape)


def interpolated(padded: NDArray[Any], factor: Factor, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return values of shape ``shape`` from blocks with ``PAD`` more on every side: Catmull and Rom's spline, axis by axis."""
    result = padded.astype(np.float32, copy=False)
    for axis, (n, length) in enumerate(zip(factor, shape, strict=True)):
        result = _applied(_spline(n, length, result.shape[axis]), result, axis)
    return result


def spread(voxels: NDArray[Any], factor: Factor) -> NDArray[np.float32]:
    """Return what each voxel gives to the blocks around it, with ``PAD`` more on every side: the transpose of ``interpolated``.

    Sums are kept, and so is the place of each voxel inside its block.
    """
    result = voxels.astype(np.float32, copy=False)
    for axis, n in enumerate(factor):
        length = result.shape[axis]
        result = _applied(_spline(n, length, -(-length // n) + 2 * PAD).T, result, axis)
    return result


def _applied(matrix: NDArray[np.float32], values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    product: NDArray[np.float32] = np.moveaxis(np.tensordot(matrix, values, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(product)


def _spline(n: int, length: int, blocks: int) -> NDArray[np.float32]:
    """Return the weights of padded blocks at each voxel's centre, shape ``(length, blocks)``."""
    position = (np.arange(length) + 0.5) / n - 0.5 + PAD
    base = np.floor(position).astype(int)
    t = position - base
    weights = (
        -0.5 * t + t**2 - 0.5 * t**3,
        1.0 - 2.5 * t**2 + 1.5 * t**3,
        0.5 * t + 2.0 * t**2 - 1.5 * t**3,
        -0.5 * t**2 + 0.5 * t**3,
    )
    matrix = np.zeros((length, blocks), dtype=np.float32)
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        matrix[np.arange(length), base + offset] += weight.astype(np.float32)
    return matrix
