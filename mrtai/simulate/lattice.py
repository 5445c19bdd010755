"""The anatomy on a 2 mm lattice: volumes, masses, and a quick answer to which tissue holds a point."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrtai.physics.tissue import density_kg_per_ml
from mrtai.simulate.anatomy import AIR, OUTSIDE, Anatomy
from mrtai.simulate.voxelise import Voxelised, voxelised
from mrtai.values.grid import Array, Grid

LATTICE_MM = 2.0
PER_EDGE = 3
"""Sub-points per edge of a cell where tissues meet."""


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """The anatomy on a 2 mm grid that holds the whole body.

    Attributes:
        cells: tissues at the cell centres and at the sub-points of the cells where tissues meet.
        border_row: row of a cell among those sub-points, -1 where one tissue fills it, ``(z, y, x)``.
        volume_ml: per region, the body in no region first, shape ``(regions + 1,)``; sub-points are counted where tissues meet.
        mass_kg: likewise, each tissue with its own density.
        density_kg_per_ml: per tissue, shape ``(tissues,)``.
    """

    anatomy: Anatomy
    cells: Voxelised
    border_row: NDArray[np.int32]
    volume_ml: Array
    mass_kg: Array
    density_kg_per_ml: Array

    @property
    def regions(self) -> tuple[str, ...]:
        """Names in the order of ``volume_ml``: ``remainder``, then the anatomy's regions."""
        return ("remainder", *self.anatomy.regions)

    def tissue_at(self, points_mm: NDArray[np.float32], *, by_formula: bool) -> NDArray[np.uint8]:
        """Return the tissue index at points ``(points, 3)`` LPS, air outside the lattice.

        Where tissues meet it is looked up by the anatomy's formulas or, faster, at the nearest sub-point (0.7 mm apart), which has
        the right volumes but a rough surface.
        """
        grid = self.cells.grid
        low_face = (grid.origin_mm - LATTICE_MM / 2).astype(np.float32)
        place = (points_mm - low_face) / np.float32(LATTICE_MM)
        index = np.floor(place).astype(np.int32)
        nz, ny, nx = grid.shape
        x, y, z = index.T
        inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny) & (z >= 0) & (z < nz)
        cell = np.where(inside, (z * ny + y) * nx + x, 0)
        found = np.where(inside, self.cells.centre.ravel()[cell], AIR).astype(np.uint8)
        row = self.border_row.ravel()[cell]
        mixed = np.flatnonzero(inside & (row >= 0))
        if by_formula:
            found[mixed] = self.anatomy.tissue_at(points_mm[mixed])
        else:
            # sub-points are numbered with the first axis (x) slowest, as in ``voxelised``
            i, j, k = ((place[mixed] - index[mixed]) * PER_EDGE).astype(np.int32).clip(0, PER_EDGE - 1).T
            found[mixed] = self.cells.sub[row[mixed], (i * PER_EDGE + j) * PER_EDGE + k]
        return found


def lattice(anatomy: Anatomy) -> Lattice:
    """Return the anatomy on the 2 mm lattice, with volumes and masses."""
    reach = np.max([np.abs(solid.centre_mm) + solid.reach_mm for solid in anatomy.solids], axis=0)
    # two cells of air around the body: its own border is then always seen
    cells = 2 * np.ceil(reach / LATTICE_MM).astype(int) + 5
    grid = Grid.axial((int(cells[2]), int(cells[1]), int(cells[0])), (LATTICE_MM,) * 3)
    voxels = voxelised(anatomy, grid, per_edge=PER_EDGE)
    border_row = np.full(grid.shape, -1, dtype=np.int32)
    border_row.ravel()[voxels.border] = np.arange(voxels.border.size)
    density = density_kg_per_ml(anatomy.hounsfield_of_tissue).astype(np.float64)
    region = anatomy.region_of_tissue
    volume_ml = np.where(region == OUTSIDE, 0.0, voxels.tissue_volume_ml(region.size))
    number = np.maximum(region, 0)
    return Lattice(
        anatomy,
        voxels,
        border_row,
        _sums(number, volume_ml),
        _sums(number, volume_ml * density),
        density,
    )


def _sums(number: NDArray[np.int_], values: Array) -> Array:
    sums: Array = np.bincount(number, weights=values).astype(np.float64)
    return sums
