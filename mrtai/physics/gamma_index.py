"""Which points of a dose map another map passes: the gamma criterion of Low et al. 1998 (Med Phys 25:656).

A point of the reference passes where the evaluated map has, at some place within reach, a dose that is near enough:

    γ² = |r_e − r_r|² / Δd² + (D_e − D_r)² / ΔD² ≤ 1

The evaluated map is continued between its voxels linearly and searched on a lattice of a tenth of Δd, nearest places first.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.physics.resample import index_map, within
from mrtai.values.compared_maps import Criterion
from mrtai.values.grid import Array
from mrtai.values.image import Image, Quantity

CUT_OFF: Final = 0.1
"""Points below this share of the reference's maximum do not count (AAPM TG-218, Miften 2018)."""

CRITERIA: Final = (Criterion(3.0, 3.0), Criterion(2.0, 2.0), Criterion(3.0, 3.0, local=True))
PARTS: Final = 10
_ROUNDING: Final = 1e-6


def counted_points(evaluated: Image, reference: Image) -> NDArray[np.bool_]:
    """Return the points that count, shape ``(z, y, x)`` of the reference: above the cut-off, and inside the evaluated map."""
    dose = reference.require(Quantity.ABSORBED_DOSE).voxels
    high: NDArray[np.bool_] = (dose >= CUT_OFF * dose.max()) & (dose > 0)
    return high & within(evaluated.grid, reference.grid)


def passing(evaluated: Image, reference: Image, points: NDArray[np.bool_], criterion: Criterion) -> NDArray[np.bool_]:
    """Return which of the reference's points pass, shape ``(points,)`` in the order of the mask.

    Args:
        evaluated: dose [Gy].
        reference: dose [Gy] on its own grid, in the same place.
        points: of the reference, shape ``(z, y, x)``.
        criterion: what is near enough.
    """
    matrix, offset = index_map(evaluated.grid, reference.grid)
    place = np.argwhere(points) @ matrix.T + offset  # (points, 3) in voxels z, y, x of the evaluated map
    dose = reference.require(Quantity.ABSORBED_DOSE).voxels.astype(np.float64)
    wanted = dose[points]
    tolerance = criterion.percent / 100 * (wanted if criterion.local else np.full(wanted.size, dose.max()))
    source = evaluated.require(Quantity.ABSORBED_DOSE).voxels.astype(np.float64)
    open_points = np.arange(wanted.size)
    passed = np.zeros(wanted.size, dtype=np.bool_)
    for shift_mm, share in _places(criterion.mm):
        if not open_points.size:
            break
        step = (evaluated.grid.direction.T @ shift_mm / evaluated.grid.spacing_mm)[::-1]
        found = ndimage.map_coordinates(source, (place[open_points] + step).T, order=1, mode="nearest")
        off = (found - wanted[open_points]) / tolerance[open_points]
        near = off**2 + share <= 1.0 + _ROUNDING
        passed[open_points[near]] = True
        open_points = open_points[~near]
    return passed


def _places(reach_mm: float) -> list[tuple[Array, float]]:
    """Return shifts ``(x, y, z)`` [mm] within reach and their share of γ², nearest first."""
    axis = np.arange(-PARTS, PARTS + 1)
    steps = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    squares = (steps**2).sum(axis=1)
    order = np.argsort(squares, kind="stable")
    inside = order[squares[order] <= PARTS**2]
    return [(steps[n] * reach_mm / PARTS, float(squares[n]) / PARTS**2) for n in inside]
