"""Where voxels lie in the patient.

Conventions, stated once: arrays are indexed ``[z, y, x]``, positions and spacings are given as ``(x, y, z)`` in
millimetres of the DICOM patient system (LPS: x to the left, y to the back, z to the head). ``direction`` has the unit
vectors of the x (column), y (row) and z (slice) array axes as its columns.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mrtai.units import ML_PER_MM3

Array = NDArray[np.float64]

GEOMETRY_TOLERANCE_MM = 0.01
"""Two grids are the same when no voxel centre differs by more than this (headers round to about 1e-4 mm)."""


def _frozen(values: object, shape: tuple[int, ...]) -> Array:
    array = np.array(values, dtype=np.float64)
    if array.shape != shape or not np.all(np.isfinite(array)):
        raise ValueError(f"grid: finite numbers of shape {shape} needed, got {array.tolist()}")
    array.setflags(write=False)
    return array


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A regular voxel lattice in patient space.

    Attributes:
        shape: number of voxels ``(z, y, x)``.
        spacing_mm: voxel edge lengths ``(x, y, z)``.
        origin_mm: centre of voxel ``[0, 0, 0]``, ``(x, y, z)`` LPS.
        direction: shape ``(3, 3)``, columns are the unit vectors of the x, y and z array axes; right- or left-handed.
    """

    shape: tuple[int, int, int]
    spacing_mm: Array
    origin_mm: Array
    direction: Array

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"grid: three positive axis lengths needed, got {self.shape}")
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "spacing_mm", _frozen(self.spacing_mm, (3,)))
        object.__setattr__(self, "origin_mm", _frozen(self.origin_mm, (3,)))
        object.__setattr__(self, "direction", _frozen(self.direction, (3, 3)))
        if np.any(self.spacing_mm <= 0):
            raise ValueError(f"grid: spacing must be positive, got {self.spacing_mm.tolist()} mm")
        if not np.allclose(self.direction.T @ self.direction, np.eye(3), atol=1e-4):
            raise ValueError("grid: direction vectors must be orthonormal; sheared (tilted) volumes must be resampled first")

    @classmethod
    def axial(cls, shape: tuple[int, int, int], spacing_mm: object, origin_mm: object | None = None) -> Self:
        """Return a grid along the patient axes; without ``origin_mm`` it is centred on (0, 0, 0)."""
        spacing = _frozen(spacing_mm, (3,))
        origin = -0.5 * spacing * (np.array(shape[::-1]) - 1) if origin_mm is None else origin_mm
        return cls(shape, spacing, _frozen(origin, (3,)), np.eye(3))

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel [mL]."""
        return float(np.prod(self.spacing_mm)) * ML_PER_MM3

    @property
    def affine(self) -> Array:
        """Matrix ``(4, 4)`` from voxel index ``(i, j, k, 1)`` along x, y, z to LPS millimetres."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.direction * self.spacing_mm
        matrix[:3, 3] = self.origin_mm
        return matrix

    @property
    def corners_mm(self) -> Array:
        """Centres of the eight corner voxels, shape ``(8, 3)``, LPS."""
        ends = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)])
        index = ends * (np.array(self.shape[::-1]) - 1)
        corners: Array = index @ self.affine[:3, :3].T + self.origin_mm
        return corners

    def same_as(self, other: "Grid", tolerance_mm: float = GEOMETRY_TOLERANCE_MM) -> bool:
        """True when both grids have the same shape and no voxel centre differs by more than the tolerance."""
        return self.shape == other.shape and bool(np.abs(self.corners_mm - other.corners_mm).max() <= tolerance_mm)

    def moved(self, transform: Array) -> "Grid":
        """Return the grid carried by a rigid ``transform`` (4, 4) acting on LPS millimetres."""
        origin = transform[:3, :3] @ self.origin_mm + transform[:3, 3]
        return replace(self, origin_mm=origin, direction=transform[:3, :3] @ self.direction)
