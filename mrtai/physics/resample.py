"""From one grid to another: one interpolation for images, exact shares for densities and contours.

Two questions, two answers. *What is the value at this point?* is interpolation (``resampled``). *How much of this voxel does
the region fill?* is overlap (``averaged``, ``largest_share``): exact where the grids' axes are parallel, by sub-points in
each target voxel where they are not.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.values.grid import Array, Grid
from mrtai.values.image import Image
from mrtai.values.labels import Labels

PARALLEL_TOLERANCE = 1e-6
SUBPOINTS = 5
"""Sub-points per axis of a target voxel in the oblique case: a share is known to about 1/125, and odd, so that none is just half."""


def index_map(source: Grid, target: Grid) -> tuple[Array, Array]:
    """Return ``(matrix, offset)`` from target array indices ``(z, y, x)`` to source array indices ``(z, y, x)``."""
    to_source = np.linalg.inv(source.affine) @ target.affine
    matrix = to_source[:3, :3][::-1, ::-1]
    offset = to_source[:3, 3][::-1]
    return np.ascontiguousarray(matrix), np.ascontiguousarray(offset)


def resampled(image: Image, grid: Grid, *, order: int = 3, outside: float = 0.0) -> Image:
    """Return the image's values at the voxel centres of ``grid`` by spline interpolation of ``order``.

    Cubic splines (the default) keep a scanner's point spread; linear interpolation would widen it by up to a quarter of a
    voxel squared and lower the activity found in a kidney by some 2 %. A spline may undershoot beside an edge, so nothing
    falls below the least value of the input. Voxels outside the image get ``outside``.
    """
    if image.grid.same_as(grid):
        return image
    matrix, offset = index_map(image.grid, grid)
    source = image.voxels.astype(np.float32, copy=False)
    voxels = ndimage.affine_transform(source, matrix, offset, output_shape=grid.shape, order=order, mode="grid-constant", cval=outside)
    np.maximum(voxels, min(float(source.min()), outside), out=voxels)
    return Image(voxels, image.quantity, grid)


def within(source: Grid, target: Grid) -> NDArray[np.bool_]:
    """Return which voxel centres of ``target`` lie in a voxel of ``source``, shape ``target.shape``."""
    matrix, offset = index_map(source, target)
    z, y, x = (np.arange(n, dtype=np.float32) for n in target.shape)
    inside = np.ones(target.shape, dtype=np.bool_)
    for row, start, length in zip(matrix, offset, source.shape, strict=True):
        index = (row[0] * z)[:, None, None] + (row[1] * y)[:, None] + (row[2] * x + start)
        inside &= (index >= -0.5) & (index <= length - 0.5)
    return inside


def averaged(image: Image, grid: Grid) -> Image:
    """Return the volume average of the image over each voxel of ``grid``; outside the image counts as zero."""
    return Image(overlap_average(image.voxels, image.grid, grid).astype(np.float32), image.quantity, grid)


def overlap_average(voxels: NDArray[Any], source: Grid, target: Grid) -> NDArray[np.float32]:
    """Return the average of ``voxels`` (z, y, x) over each target voxel, taking them as boxes and zero outside.

    The integral over the volume is conserved exactly when all of the source lies in the target and the axes are parallel.
    """
    matrix, offset = index_map(source, target)
    if np.allclose(matrix, np.diag(np.diag(matrix)), atol=PARALLEL_TOLERANCE) and np.all(np.diag(matrix) != 0):
        weights = [_overlap(n_s, n_t, m, o) for n_s, n_t, m, o in zip(source.shape, target.shape, np.diag(matrix), offset, strict=True)]
        partial = np.einsum("ai,ijk->ajk", weights[0], voxels.astype(np.float32, copy=False), optimize=True)
        partial = np.einsum("bj,ajk->abk", weights[1], partial, optimize=True)
        return np.asarray(np.einsum("ck,abk->abc", weights[2], partial, optimize=True), dtype=np.float32)
    return _by_subpoints(voxels, target.shape, matrix, offset)


def largest_share(labels: Labels, grid: Grid) -> Labels:
    """Return the labels on ``grid``: each voxel belongs to the region (or to none) that fills the largest share of it.

    No region competes like a region does. Of equal shares the lower label value wins, and any region wins against none.
    """
    if labels.grid.same_as(grid):
        return replace(labels, grid=grid)
    best = np.zeros(grid.shape, dtype=np.uint16)
    share_of_best = np.zeros(grid.shape, dtype=np.float32)
    filled = np.zeros(grid.shape, dtype=np.float32)
    boxes = ndimage.find_objects(labels.voxels)
    for value in labels.names:
        box = boxes[value - 1] if value <= len(boxes) else None
        found = None if box is None else shares_of(labels, value, box, grid)
        if found is None:
            continue
        where, inside = found
        filled[where] += inside
        # shares that agree within rounding are ties: the lower value keeps the voxel
        wins = inside > share_of_best[where] + 1e-5
        share_of_best[where] = np.where(wins, inside, share_of_best[where])
        best[where] = np.where(wins, value, best[where])
    best[share_of_best + 1e-5 < 1.0 - filled] = 0
    return replace(labels, voxels=best, grid=grid)


def shares_of(labels: Labels, value: int, box: tuple[slice, ...], grid: Grid) -> tuple[tuple[slice, ...], NDArray[np.float32]] | None:
    """Return where on ``grid`` a region reaches, slices ``(z, y, x)``, and what share of each voxel there it fills; None outside.

    ``box``: slices that hold the region on its own grid.
    """
    part = cropped(labels.grid, box)
    where = _reach(part, grid)
    return None if where is None else (where, overlap_average(labels.voxels[box] == value, part, cropped(grid, where)))


def cropped(grid: Grid, box: tuple[slice, ...]) -> Grid:
    """Return the part of the grid inside ``box``, slices along (z, y, x) with start and stop."""
    starts = np.array([part.start for part in box])
    shape = tuple(part.stop - part.start for part in box)
    origin = grid.affine[:3, :3] @ starts[::-1] + grid.origin_mm
    return Grid((shape[0], shape[1], shape[2]), grid.spacing_mm, origin, grid.direction)


def _overlap(n_source: int, n_target: int, scale: float, offset: float) -> NDArray[np.float32]:
    """Return the fraction of each target voxel that each source voxel fills along one axis, ``(target, source)``."""
    centres = scale * np.arange(n_target) + offset
    low, high = centres[:, None] - abs(scale) / 2, centres[:, None] + abs(scale) / 2
    source = np.arange(n_source)[None, :]
    overlap = np.clip(np.minimum(high, source + 0.5) - np.maximum(low, source - 0.5), 0.0, None)
    fraction: NDArray[np.float32] = (overlap / abs(scale)).astype(np.float32)
    return fraction


def _by_subpoints(voxels: NDArray[Any], shape: tuple[int, int, int], matrix: Array, offset: Array) -> NDArray[np.float32]:
    """Return averages over target voxels from ``SUBPOINTS``³ nearest-voxel look-ups each."""
    total = np.zeros(shape, dtype=np.float32)
    source = voxels.astype(np.float32, copy=False)
    steps = (np.arange(SUBPOINTS) + 0.5) / SUBPOINTS - 0.5
    for shift in np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3):
        total += ndimage.affine_transform(
            source, matrix, offset + matrix @ shift, output_shape=shape, order=0, mode="grid-constant", cval=0.0
        )
    return total / np.float32(SUBPOINTS**3)


def _reach(part: Grid, grid: Grid) -> tuple[slice, ...] | None:
    """Return the slices of ``grid`` that a small grid can touch, or None when it lies outside."""
    matrix, offset = index_map(grid, part)
    ends = np.array([(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    # voxel faces lie half a voxel beyond the centres
    corners = (ends * np.array(part.shape) - 0.5) @ matrix.T + offset
    low = np.clip(np.floor(corners.min(axis=0) + 0.5).astype(int), 0, None)
    high = np.clip(np.ceil(corners.max(axis=0) + 0.5).astype(int), None, grid.shape)
    if np.any(low >= high):
        return None
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
