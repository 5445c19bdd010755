"""How well two contours agree: overlap, distance of their surfaces, volume."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.physics.resample import cropped, index_map
from mrtai.physics.similarity import dice
from mrtai.values.compared_maps import ContourAgreement
from mrtai.values.grid import Array, Grid

Mask = NDArray[np.bool_]


def contour_agreement(auto: Mask, auto_grid: Grid, manual: Mask, manual_grid: Grid) -> ContourAgreement:
    """Return Dice, surface distances and volume ratio of two masks that are not empty, each ``(z, y, x)`` on its own grid.

    Volumes are of the masks as they are; overlap and surfaces are taken on the finer of both grids.
    """
    ratio = float(auto.sum()) * auto_grid.voxel_ml / (float(manual.sum()) * manual_grid.voxel_ml)
    ours, theirs, grid = on_one_grid(auto, auto_grid, manual, manual_grid)
    distances = surface_distances_mm(ours, theirs, grid.spacing_mm)
    return ContourAgreement(dice(ours, theirs), *distances, ratio)


def surface_distances_mm(one: Mask, other: Mask, spacing_mm: Array) -> tuple[float | None, float | None]:
    """Return mean distance of the surfaces and the larger 95th percentile of both directions [mm], None where one has none.

    The surface of a region is made of its voxels that touch what is outside by a face; distances are between their centres.

    Args:
        one: shape ``(z, y, x)``.
        other: the same.
        spacing_mm: ``(x, y, z)``.
    """
    surfaces = [_surface(mask) for mask in (one, other)]
    if not all(surface.any() for surface in surfaces):
        return None, None
    sampling = tuple(float(step) for step in spacing_mm[::-1])
    there = ndimage.distance_transform_edt(~surfaces[1], sampling=sampling)[surfaces[0]]
    back = ndimage.distance_transform_edt(~surfaces[0], sampling=sampling)[surfaces[1]]
    furthest = max(float(np.percentile(there, 95)), float(np.percentile(back, 95)))
    return float(np.concatenate([there, back]).mean()), furthest


def on_one_grid(auto: Mask, auto_grid: Grid, manual: Mask, manual_grid: Grid) -> tuple[Mask, Mask, Grid]:
    """Return both masks on a grid that holds both whole: lattice of the finer one, no larger than need be."""
    if auto_grid.same_as(manual_grid):
        box = _box(auto | manual)
        return auto[box], manual[box], cropped(auto_grid, box)
    if auto_grid.voxel_ml <= manual_grid.voxel_ml:
        grid = _around(auto_grid, auto, manual_grid, manual)
        return _carried(auto, auto_grid, grid), _carried(manual, manual_grid, grid), grid
    grid = _around(manual_grid, manual, auto_grid, auto)
    return _carried(auto, auto_grid, grid), _carried(manual, manual_grid, grid), grid


def _surface(mask: Mask) -> Mask:
    inner: Mask = ndimage.binary_erosion(mask)
    return mask & ~inner


def _box(mask: Mask) -> tuple[slice, ...]:
    found = ndimage.find_objects(mask.astype(np.uint8))
    return tuple(found[0]) if found else tuple(slice(0, n) for n in mask.shape)


def _around(fine_grid: Grid, fine: Mask, coarse_grid: Grid, coarse: Mask) -> Grid:
    """Return the lattice of the fine grid over both masks."""
    own = _box(fine)
    ends = np.array([[part.start, part.stop - 1] for part in own], dtype=np.float64)[::-1]  # (x, y, z)
    other = cropped(coarse_grid, _box(coarse))
    # faces lie half a voxel beyond the centres
    corners = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * np.array(other.shape[::-1]) - 0.5
    places = corners @ other.affine[:3, :3].T + other.origin_mm
    inverse = np.linalg.inv(fine_grid.affine)
    index = places @ inverse[:3, :3].T + inverse[:3, 3]
    low = np.floor(np.minimum(ends[:, 0], index.min(axis=0))).astype(int)
    high = np.ceil(np.maximum(ends[:, 1], index.max(axis=0))).astype(int)
    shape = tuple(int(n) for n in (high - low + 1)[::-1])
    origin = fine_grid.affine[:3, :3] @ low + fine_grid.origin_mm
    return Grid((shape[0], shape[1], shape[2]), fine_grid.spacing_mm, origin, fine_grid.direction)


def _carried(mask: Mask, grid: Grid, target: Grid) -> Mask:
    """Return the mask on another lattice: a voxel belongs to it where its centre lies in one that does, which keeps volumes."""
    box = _box(mask)
    matrix, offset = index_map(cropped(grid, box), target)
    found = ndimage.affine_transform(mask[box].astype(np.uint8), matrix, offset, output_shape=target.shape, order=0, mode="grid-constant")
    inside: Mask = found.astype(np.bool_)
    return inside
