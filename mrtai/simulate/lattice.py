"""The anatomy on a 2 mm lattice: volumes, masses, and a quick answer to which tissue holds a point."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrtai.physics.tissue import density_kg_per_ml
from mrtai.simulate.anatomy import AIR, OUTSIDE, Anatomy
from mrtai.simulate.voxelise import voxelised
from mrtai.values.grid import Array, Grid

LATTICE_MM = 2.0
MIXED = 255
"""Stands for a cell where tissues meet, so that a point in it needs the formulas."""


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """The anatomy on a 2 mm grid that holds the whole body.

    Attributes:
        centre: tissue index at the cell centres ``(z, y, x)``; ``filled`` the same with ``MIXED`` where tissues meet.
        volume_ml: per region, the body in no region first, shape ``(regions + 1,)``; sub-points are counted where tissues meet.
        mass_kg: likewise, each tissue with its own density.
        density_kg_per_ml: per tissue, shape ``(tissues,)``.
    """

    anatomy: Anatomy
    grid: Grid
    centre: NDArray[np.uint8]
    filled: NDArray[np.uint8]
    volume_ml: Array
    mass_kg: Array
    density_kg_per_ml: Array

    @property
    def regions(self) -> tuple[str, ...]:
        """Names in the order of ``volume_ml``: ``remainder``, then the anatomy's regions."""
        return ("remainder", *self.anatomy.regions)

    def tissue_at(self, points_mm: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the tissue index at points ``(points, 3)`` LPS: by cell where one tissue fills it, else by formula."""
        low_face = self.grid.origin_mm - LATTICE_MM / 2
        index = np.floor((points_mm - low_face.astype(np.float32)) / np.float32(LATTICE_MM)).astype(np.int32)
        nz, ny, nx = self.grid.shape
        x, y, z = index.T
        inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny) & (z >= 0) & (z < nz)
        flat = np.where(inside, (z * ny + y) * nx + x, 0)
        found = np.where(inside, self.filled.ravel()[flat], AIR).astype(np.uint8)
        unsure = np.flatnonzero(found == MIXED)
        found[unsure] = self.anatomy.tissue_at(points_mm[unsure])
        return found


def lattice(anatomy: Anatomy) -> Lattice:
    """Return the anatomy on the 2 mm lattice, with volumes and masses."""
    reach = np.max([np.abs(solid.centre_mm) + solid.reach_mm for solid in anatomy.solids], axis=0)
    # two cells of air around the body: its own border is then always seen
    cells = 2 * np.ceil(reach / LATTICE_MM).astype(int) + 5
    grid = Grid.axial((int(cells[2]), int(cells[1]), int(cells[0])), (LATTICE_MM,) * 3)
    voxels = voxelised(anatomy, grid)
    filled = voxels.centre.copy()
    filled.ravel()[voxels.border] = MIXED
    density = density_kg_per_ml(anatomy.hounsfield_of_tissue).astype(np.float64)
    region = anatomy.region_of_tissue
    volume_ml = np.where(region == OUTSIDE, 0.0, voxels.tissue_volume_ml(region.size))
    number = np.maximum(region, 0)
    return Lattice(
        anatomy,
        grid,
        voxels.centre,
        filled,
        np.bincount(number, weights=volume_ml),
        np.bincount(number, weights=volume_ml * density),
        density,
    )
