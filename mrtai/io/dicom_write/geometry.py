"""A grid in DICOM's words: frames from the first position along row × column, every number a decimal string that fits."""

from dataclasses import replace

import numpy as np
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from mrtai.values.grid import Array, Grid
from mrtai.values.image import Image


def right_handed(grid: Grid) -> Grid:
    """Return the same lattice with its slices ascending along row × column: what every reader takes for granted."""
    if np.linalg.det(grid.direction) > 0:
        return grid
    direction = grid.direction.copy()
    direction[:, 2] *= -1
    last = grid.origin_mm + grid.direction[:, 2] * grid.spacing_mm[2] * (grid.shape[0] - 1)
    return replace(grid, origin_mm=last, direction=direction)


def upright(image: Image) -> Image:
    """Return the image on its right-handed grid."""
    grid = right_handed(image.grid)
    return image if grid is image.grid else replace(image, voxels=image.voxels[::-1], grid=grid)


def frame_positions(grid: Grid) -> Array:
    """Return the centre of the first voxel of every frame, shape ``(frames, 3)``, LPS millimetres."""
    steps = np.arange(grid.shape[0])[:, None] * grid.spacing_mm[2]
    positions: Array = grid.origin_mm + steps * grid.direction[:, 2]
    return positions


def decimals(*values: float) -> list[DSfloat]:
    """Return decimal strings of at most 16 characters."""
    return [decimal(value) for value in values]


def decimal(value: float) -> DSfloat:
    """Return a decimal string of at most 16 characters; numbers below 1e-12 of a millimetre are zero."""
    return DSfloat(float(value) if abs(value) > 1e-12 else 0.0, auto_format=True)


def place_plane(ds: Dataset, grid: Grid) -> None:
    """Write orientation, position of the first frame, pixel spacing and slice thickness as image plane attributes."""
    ds.ImagePositionPatient = decimals(*grid.origin_mm)
    ds.ImageOrientationPatient = decimals(*grid.direction[:, 0], *grid.direction[:, 1])
    ds.PixelSpacing = decimals(grid.spacing_mm[1], grid.spacing_mm[0])
    ds.SliceThickness = decimal(grid.spacing_mm[2])
    ds.Rows, ds.Columns = grid.shape[1], grid.shape[2]
