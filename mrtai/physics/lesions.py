"""Lesions by uptake: found as peaks above what is expected without them, each outlined by a classical rule, and named in order."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.physics.lesion_background import Background, background
from mrtai.physics.lesion_basins import basins
from mrtai.physics.lesion_contours import FRACTION, by_adaptive_threshold, by_gradient, by_threshold
from mrtai.units import FWHM_PER_SIGMA
from mrtai.values.grid import Grid
from mrtai.values.image import Image
from mrtai.values.labels import Labels
from mrtai.values.protocol import SPECT_FWHM_MM

Mask = NDArray[np.bool_]

CLASSICAL: Final = ("threshold", "adaptive", "gradient")
PET_FWHM_MM: Final = 6.5
NOISE_SDS: Final = 5.0
"""A peak must stand out of the spread of what surrounds it by so many standard deviations."""

SLOPE: Final = 0.4
"""Of the least contrast: a lesion's slope is followed down to there."""

SMOOTHING: Final = 0.6
SMOOTHING_WIDENS: Final = float(np.hypot(1.0, SMOOTHING))
"""Peaks are looked for after a blur of this share of the resolution, which takes noise and widens the resolution a little."""


@dataclass(frozen=True, slots=True)
class Search:
    """How lesions are looked for.

    Attributes:
        method: the rule of the outline, one of ``CLASSICAL``; ``fraction`` or ``level`` are those of ``threshold``.
        fwhm_mm: resolution of the image.
        contrast: of a peak to what is expected there; ``parenchyma_contrast`` in an organ that is searched by its own level.
        smallest_ml: volume below which a contour is not kept.
        dip: see ``basins``.
    """

    method: str = "adaptive"
    fwhm_mm: float = SPECT_FWHM_MM
    contrast: float = 3.0
    parenchyma_contrast: float = 1.5
    smallest_ml: float = 0.5
    dip: float = 0.2
    fraction: float = FRACTION
    level: float | None = None

    def __post_init__(self) -> None:
        if self.method not in CLASSICAL:
            raise ValueError(f"lesion outline must be one of {', '.join(CLASSICAL)}, got {self.method!r}")


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """An image ready to be searched: the uptake with and without its finest noise, and what is expected without lesions."""

    uptake: Image
    smooth: NDArray[np.float32]
    body: Mask
    there: Background
    search: Search

    @property
    def least(self) -> NDArray[np.float32]:
        """The ratio to the expected level that a peak must reach, by voxel: the asked contrast, more where noise is larger."""
        body, organ = (np.exp(NOISE_SDS * sd) for sd in self.there.log_sd)
        asked = max(self.search.contrast, body), max(self.search.parenchyma_contrast, organ)
        ratio: NDArray[np.float32] = np.where(self.there.parenchyma, asked[1], asked[0]).astype(np.float32)
        return ratio


def scene(uptake: Image, body: Mask, organs: Labels, agent: str, search: Search) -> Scene:
    """Return the image ready to be searched.

    Args:
        uptake: SPECT or PET, any unit that grows with concentration.
        body: outline of the patient on its grid.
        organs: contours on its grid; those of lesions are left out.
        agent: what is imaged; it decides which organs' uptake is physiological.
        search: how lesions are looked for.
    """
    smooth = smoothed(uptake, search.fwhm_mm)
    wide_mm = search.fwhm_mm * SMOOTHING_WIDENS
    there = background(smooth, body, organs, agent, fwhm_mm=wide_mm, margin_mm=search.fwhm_mm / 2)
    return Scene(uptake, smooth, body, there, search)


def lesions(seen: Scene) -> NDArray[np.int32]:
    """Return the lesions' voxels numbered from 1, head to foot, 0 elsewhere, shape ``(z, y, x)``."""
    there, smooth, least, voxel_ml = seen.there, seen.smooth, seen.least, seen.uptake.grid.voxel_ml
    slopes = seen.body & (smooth > there.level * (1 + SLOPE * (least - 1)))
    found, peaks = basins(smooth, slopes, there.level, dip=seen.search.dip)
    result = np.zeros(found.shape, dtype=np.int32)
    for number, (peak, box) in enumerate(zip(map(tuple, peaks), ndimage.find_objects(found), strict=True), start=1):
        if there.physiological[peak] or smooth[peak] < least[peak] * there.level[peak]:
            continue
        near = widened(box, found.shape, 2)
        mask = outlined(seen, near, (found[near] == number) & ~there.physiological[near], float(there.level[peak]))
        if mask.sum() * voxel_ml >= seen.search.smallest_ml:
            result[near][mask] = number
    return in_order(result, seen.uptake.grid)


def split(mask: Mask, seen: Scene) -> NDArray[np.int32]:
    """Return a mask of lesions that others drew as single ones, numbered head to foot: lesions that touch are parted at the saddle.

    Shape ``(z, y, x)``. Pieces that lie mostly in organs of physiological uptake, or are smaller than the least volume, are left out.
    """
    drawn = mask & seen.body & ~seen.there.physiological
    pieces, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    # heights above nothing: above the expected level noise on a faint lesion would part it
    parts, _ = basins(seen.smooth, drawn, np.zeros_like(seen.smooth), dip=seen.search.dip)
    smallest, sizes = seen.search.smallest_ml / seen.uptake.grid.voxel_ml, np.bincount(parts.ravel())
    result, count = np.zeros(mask.shape, dtype=np.int32), 0
    for piece, box in enumerate(ndimage.find_objects(pieces), start=1):
        whole = pieces[box] == piece
        own = whole & drawn[box]
        if own.sum() < max(smallest, 0.5 * whole.sum()):
            continue
        # noise at the rim makes slivers: a piece is parted only into parts that could be lesions
        large = [int(n) for n in np.unique(parts[box][own]) if sizes[n] >= smallest]
        result[box][own] = count + 1 + (_nearest(parts[box], own, large) if len(large) > 1 else 0)
        count += max(len(large), 1)
    return in_order(result, seen.uptake.grid)


def _nearest(parts: NDArray[np.int32], own: Mask, large: list[int]) -> NDArray[np.intp]:
    """Return for each voxel of ``own`` the position in ``large`` of its part, or of the nearest one."""
    index = ndimage.distance_transform_edt(~(np.isin(parts, large) & own), return_distances=False, return_indices=True)
    position: NDArray[np.intp] = np.searchsorted(large, parts[tuple(index)][own])
    return position


def outlined(seen: Scene, near: tuple[slice, ...], inside: Mask, surroundings: float) -> Mask:
    """Return one lesion's voxels in the box ``near`` among those that may be its own, by the rule of the search."""
    if not inside.any():
        return inside
    search, grid, raw, smooth = seen.search, seen.uptake.grid, seen.uptake.voxels[near], seen.smooth[near]
    match search.method:
        case "threshold":
            return by_threshold(raw, inside, fraction=search.fraction, level=search.level)
        case "adaptive":
            return by_adaptive_threshold(smooth, inside, surroundings, grid, fwhm_mm=search.fwhm_mm * SMOOTHING_WIDENS)
        case _:
            return by_gradient(raw, inside, surroundings, grid)


def smoothed(uptake: Image, fwhm_mm: float) -> NDArray[np.float32]:
    """Return the uptake without its finest noise, never negative, ``(z, y, x)``."""
    sigma = (SMOOTHING * fwhm_mm / FWHM_PER_SIGMA / uptake.grid.spacing_mm)[::-1]
    positive = np.maximum(uptake.voxels.astype(np.float32), 0.0)
    return np.asarray(ndimage.gaussian_filter(positive, sigma), dtype=np.float32)


def widened(box: Iterable[slice], shape: tuple[int, ...], by: int) -> tuple[slice, ...]:
    """Return the box larger by some voxels a side, within the array."""
    return tuple(slice(max(part.start - by, 0), min(part.stop + by, n)) for part, n in zip(box, shape, strict=True))


def in_order(numbers: NDArray[np.int32], grid: Grid) -> NDArray[np.int32]:
    """Return the same lesions numbered from 1 in the order of ``head_to_foot``, ``(z, y, x)``."""
    order = head_to_foot(numbers, grid)
    renumbered = np.zeros(int(numbers.max()) + 1, dtype=np.int32)
    renumbered[list(order)] = np.arange(1, len(order) + 1)
    result: NDArray[np.int32] = renumbered[numbers]
    return result


def head_to_foot(numbers: NDArray[Any], grid: Grid) -> tuple[int, ...]:
    """Return the numbers that occur by the height of their centroids, the highest first; of equal heights the more right first.

    ``numbers`` have the shape of the grid, ``(z, y, x)``.
    """
    present = np.unique(numbers[numbers > 0])
    # a micrometre: the order must not hang on the last bits of a sum
    keys = np.round(centroids_mm(numbers, present.tolist(), grid), 3)
    return tuple(int(present[n]) for n in np.lexsort((keys[:, 1], keys[:, 0], -keys[:, 2])))


def centroids_mm(numbers: NDArray[Any], present: Iterable[int], grid: Grid) -> NDArray[np.float64]:
    """Return the centroid of each numbered region, LPS millimetres, shape ``(regions, 3)``."""
    index = np.array(ndimage.center_of_mass(numbers > 0, numbers, np.array(list(present), dtype=np.int64))).reshape(-1, 3)
    centres: NDArray[np.float64] = index[:, ::-1] @ grid.affine[:3, :3].T + grid.origin_mm
    return centres
