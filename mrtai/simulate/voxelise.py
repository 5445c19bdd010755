"""From formulas to voxels: tissue at every centre, and at sub-points where tissues meet."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.simulate.anatomy import Anatomy
from mrtai.simulate.solids import Solid
from mrtai.values.grid import Array, Grid

Tissues = NDArray[np.uint8]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class Voxelised:
    """An anatomy on a grid.

    Attributes:
        centre: tissue index at the voxel centres, ``(z, y, x)``.
        border: flat indices of voxels with a neighbour of another tissue, ``(borders,)``.
        sub: tissue index at regular sub-points of those voxels, ``(borders, sub-points)``.
    """

    grid: Grid
    centre: Tissues
    border: NDArray[np.intp]
    sub: Tissues

    def tissue_volume_ml(self, tissues: int) -> Array:
        """Return the volume of each tissue [mL], shape ``(tissues,)``."""
        whole = np.bincount(self.centre.ravel(), minlength=tissues) - np.bincount(self.centre.ravel()[self.border], minlength=tissues)
        parts = np.bincount(self.sub.ravel(), minlength=tissues) / self.sub.shape[1]
        volume: Array = (whole + parts) * self.grid.voxel_ml
        return volume

    def mixed(self, value_of_tissue: Array) -> NDArray[np.float32]:
        """Return the volume average of a value per tissue over each voxel, ``(z, y, x)``."""
        values = value_of_tissue.astype(np.float32)
        image = values[self.centre]
        image.ravel()[self.border] = values[self.sub].mean(axis=1)
        return image

    def largest(self, region_of_tissue: NDArray[np.integer]) -> Tissues:
        """Return for each voxel the region that fills most of it, ``(z, y, x)``; of equal shares the centre's region wins."""
        table = region_of_tissue.astype(np.uint8)
        regions = table[self.centre]
        sub = table[self.sub]
        at_centre = regions.ravel()[self.border]
        best, best_count = at_centre.copy(), (sub == at_centre[:, None]).sum(axis=1)
        for region in np.unique(table):
            count = (sub == region).sum(axis=1)
            wins = count > best_count
            best[wins], best_count[wins] = region, count[wins]
        regions.ravel()[self.border] = best
        return regions


def voxelised(anatomy: Anatomy, grid: Grid, *, per_edge: int = 3) -> Voxelised:
    """Return the anatomy on ``grid`` with ``per_edge``³ sub-points in every voxel where tissues meet.

    Structures thinner than a voxel are seen where they meet a voxel centre or a border of something else.
    """
    centre = np.zeros(grid.shape, dtype=np.uint8)
    for solid, box in _placed(anatomy, grid):
        u, v, w = _own_coordinates(solid, grid, box)
        centre[box][solid.holds(u, v, w)] = solid.tissue
    border = np.flatnonzero(ndimage.maximum_filter(centre, 3) != ndimage.minimum_filter(centre, 3))
    return Voxelised(grid, centre, border, _sub_points(anatomy, grid, border, per_edge))


def _sub_points(anatomy: Anatomy, grid: Grid, border: NDArray[np.intp], per_edge: int) -> Tissues:
    steps = (np.arange(per_edge) + 0.5) / per_edge - 0.5
    shifts = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    sub = np.zeros((border.size, per_edge**3), dtype=np.uint8)
    number = np.full(grid.shape, -1, dtype=np.int32)
    number.ravel()[border] = np.arange(border.size)
    index = np.stack(np.unravel_index(border, grid.shape)[::-1], axis=1).astype(np.float64)  # (borders, 3) along x, y, z
    reach_mm = float(np.linalg.norm(shifts.max(axis=0) * grid.spacing_mm))
    for solid, box in _placed(anatomy, grid):
        rows = number[box]
        rows = rows[rows >= 0]
        matrix, offset = _to_own(solid, grid)
        base, steps_own = (index[rows] @ matrix.T + offset).astype(np.float32), (shifts @ matrix.T).astype(np.float32)
        excess = solid.excess(*base.T)
        cut = np.abs(excess) <= solid.steepest_per_mm() * reach_mm
        sub[rows[(excess < 0) & ~cut]] = solid.tissue
        own = base[cut][:, None, :] + steps_own[None, :, :]
        part = sub[rows[cut]]
        part[solid.holds(own[..., 0], own[..., 1], own[..., 2])] = solid.tissue
        sub[rows[cut]] = part
    return sub


def _placed(anatomy: Anatomy, grid: Grid) -> Iterator[tuple[Solid, Box]]:
    """Yield the solids that reach the grid, in painting order, with the box of voxels (z, y, x) they can reach."""
    to_index = np.linalg.inv(grid.affine)
    for solid in anatomy.solids:
        centre = to_index[:3, :3] @ solid.centre_mm + to_index[:3, 3]
        reach = np.abs(to_index[:3, :3]) @ solid.reach_mm
        # one voxel more, so that border voxels whose centres lie outside are kept
        low = np.clip(np.floor(centre - reach).astype(int) - 1, 0, None)[::-1]
        high = np.clip(np.ceil(centre + reach).astype(int) + 2, None, grid.shape[::-1])[::-1]
        if np.all(low < high):
            yield solid, (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))


def _to_own(solid: Solid, grid: Grid) -> tuple[Array, Array]:
    """Return ``(matrix, offset)`` from voxel index (x, y, z) to the solid's own coordinates."""
    scale = solid.axes.T / solid.half_mm[:, None]
    return scale @ grid.affine[:3, :3], scale @ (grid.origin_mm - solid.centre_mm)


def _own_coordinates(solid: Solid, grid: Grid, box: Box) -> list[Array]:
    """Return u, v, w of the voxel centres in ``box``; arrays of its shape (z, y, x)."""
    matrix, offset = _to_own(solid, grid)
    k, j, i = (axis.astype(np.float32) for axis in np.ogrid[box])
    rows = matrix.astype(np.float32)
    return [row[0] * i + (row[1] * j + (row[2] * k + start)) for row, start in zip(rows, offset.astype(np.float32), strict=True)]
