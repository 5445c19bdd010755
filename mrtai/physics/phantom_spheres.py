"""Spheres of a phantom in a tomogram: their voxels, where they lie, and how much of their contrast is found within them."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from scipy import ndimage, signal

from mrtai.units import FWHM_PER_SIGMA
from mrtai.values.grid import Array, Grid
from mrtai.values.phantom import Phantom, Sphere, SphereRecovery
from mrtai.values.refusal import DosimetryError

SUBPOINTS: Final = 7
"""Per edge of a voxel: shares of a 10 mm sphere on 4.8 mm voxels then sum to its volume within 1 %."""

SEARCH_MM: Final = 20.0
"""How far a phantom may lie from where it was said to; beyond, another sphere of a ring may be nearer."""

MATCHED_FWHM_MM: Final = 10.0
AROUND: Final = 3.0
"""The template's surroundings are that much wider than its spheres' blur: an even background and a slow slope then give nothing."""

LEAST_FOUND: Final = 0.3
"""Share of all spheres' contrast that must be found within them; spheres that lie elsewhere give about none."""

Box = tuple[slice, slice, slice]


def sphere_shares(grid: Grid, centre_mm: Array, radius_mm: float) -> tuple[Box, Array]:
    """Return the box of voxels that a sphere can reach, and which share of each of them it fills, ``(z, y, x)`` of the box.

    Args:
        grid: may end before the sphere does; the box ends with it.
        centre_mm: LPS, shape ``(3,)`` x, y, z.
        radius_mm: of the sphere.
    """
    box = _box(grid, centre_mm, radius_mm)
    steps = (np.arange(SUBPOINTS) + 0.5) / SUBPOINTS - 0.5
    z, y, x = (np.add.outer(np.arange(part.start, part.stop), steps).ravel() for part in box)
    distance2 = np.zeros((z.size, y.size, x.size))
    for row, offset in zip(grid.affine[:3, :3], grid.origin_mm - centre_mm, strict=True):
        distance2 += (row[2] * z[:, None, None] + row[1] * y[:, None] + row[0] * x + offset) ** 2
    inside = (distance2 < radius_mm**2).reshape([n for part in box for n in (part.stop - part.start, SUBPOINTS)])
    shares: Array = inside.mean(axis=(1, 3, 5))
    return box, shares


def in_view(grid: Grid, sphere: Sphere, shift_mm: Array) -> bool:
    """Say whether all of a sphere, shifted by ``shift_mm`` of shape ``(3,)``, lies within the grid's voxels."""
    low, high = _reach(grid, np.array(sphere.centre_mm) + shift_mm, sphere.diameter_mm / 2)
    return bool(np.all(low >= -0.5) and np.all(high <= np.array(grid.shape) - 0.5))


def found_shift(image: Array, grid: Grid, phantom: Phantom) -> Array:
    """Return by how much the spheres lie away from where the phantom says [mm], LPS, shape ``(3,)`` x, y, z.

    The image, ``(z, y, x)`` in any unit, is correlated with a template of the blurred spheres less their surroundings; the
    peak is refined by a parabola along each axis.

    Raises:
        DosimetryError: no peak within ``SEARCH_MM``.
    """
    reach = np.ceil(SEARCH_MM / grid.spacing_mm[::-1]).astype(int)
    template, start = _template(grid, phantom)
    # beyond the view lies nothing that was seen
    padded = np.pad(image, [(n, n) for n in reach])
    part = padded[tuple(slice(a, a + n + 2 * r) for a, n, r in zip(start, template.shape, reach, strict=True))]
    score = signal.correlate(part, template, mode="valid", method="fft")
    peak = np.unravel_index(int(score.argmax()), score.shape)
    if np.any(np.array(peak) % (2 * reach) == 0):
        raise not_found(f"no peak within {SEARCH_MM:g} mm of where they should be")
    index = np.array(peak) - reach + _vertex(score, peak)
    shift: Array = grid.affine[:3, :3] @ index[::-1]
    return shift


def recoveries(
    concentration: Array, grid: Grid, phantom: Phantom, *, shift_mm: Array, remaining: float, counts_per_bq_per_ml: float
) -> tuple[SphereRecovery, ...]:
    """Return RC = (m - b)/(c - b) of every sphere, with b of the surroundings as filled.

    m is the mean within the sphere's own surface, with the share of it in every voxel as weight.

    Args:
        concentration: measured [Bq/mL], ``(z, y, x)``.
        grid: of the image.
        phantom: as filled.
        shift_mm: by which the phantom lies elsewhere, shape ``(3,)``.
        remaining: share of the filled activities that was there, on average, during the scan.
        counts_per_bq_per_ml: counts in a voxel of 1 Bq/mL; the noise is the Poisson noise of a sphere's own counts.

    Raises:
        DosimetryError: hardly any of the spheres' contrast is found where they should be.
    """
    found = []
    for sphere in phantom.spheres:
        box, shares = sphere_shares(grid, np.array(sphere.centre_mm) + shift_mm, sphere.diameter_mm / 2)
        mean = float((concentration[box] * shares).sum() / shares.sum())
        contrast = (sphere.concentration_bq_per_ml - phantom.around_bq_per_ml) * remaining
        coefficient = (mean - phantom.around_bq_per_ml * remaining) / contrast
        # a sphere without a count has the noise of one
        counts = max(mean * counts_per_bq_per_ml * (shares**2).sum(), 1.0)
        noise = np.sqrt(counts) / shares.sum() / counts_per_bq_per_ml
        found.append(SphereRecovery(sphere.diameter_mm, sphere.volume_ml, coefficient, float(noise / abs(contrast))))
    _require_found(found, phantom)
    return tuple(found)


def not_found(found: str) -> DosimetryError:
    """Return the refusal of a phantom whose spheres are not where it says."""
    return DosimetryError(
        "the spheres cannot be found", where="scan", found=found, remedy="correct centre_mm of the phantom file", code="SPHERES_NOT_FOUND"
    )


def _require_found(found: Sequence[SphereRecovery], phantom: Phantom) -> None:
    weights = [abs(s.concentration_bq_per_ml - phantom.around_bq_per_ml) * s.volume_ml for s in phantom.spheres]
    share = float(np.average([one.coefficient for one in found], weights=weights))
    if share < LEAST_FOUND:
        raise not_found(f"{share:.0%} of their contrast to the background")


def _reach(grid: Grid, centre_mm: Array, radius_mm: float) -> tuple[Array, Array]:
    """Return the lowest and highest index (z, y, x) of a sphere's surface."""
    to_index = np.linalg.inv(grid.affine)
    centre = to_index[:3, :3] @ centre_mm + to_index[:3, 3]
    half = radius_mm / grid.spacing_mm
    return (centre - half)[::-1], (centre + half)[::-1]


def _box(grid: Grid, centre_mm: Array, radius_mm: float) -> Box:
    low, high = _reach(grid, centre_mm, radius_mm)
    start = np.clip(np.rint(low), 0, np.array(grid.shape) - 1).astype(int)
    stop = np.clip(np.rint(high) + 1, start + 1, grid.shape).astype(int)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return z, y, x


def _template(grid: Grid, phantom: Phantom) -> tuple[Array, Array]:
    """Return the template in a box around all spheres, and the box's first index (z, y, x)."""
    full = np.zeros(grid.shape)
    for sphere in phantom.spheres:
        box, shares = sphere_shares(grid, np.array(sphere.centre_mm), sphere.diameter_mm / 2)
        full[box] += shares * (sphere.concentration_bq_per_ml - phantom.around_bq_per_ml)
    sigma = MATCHED_FWHM_MM / FWHM_PER_SIGMA / grid.spacing_mm[::-1]
    where = np.argwhere(full)
    margin = np.ceil(3 * AROUND * sigma).astype(int)
    low, high = np.clip(where.min(axis=0) - margin, 0, None), np.minimum(where.max(axis=0) + margin + 1, grid.shape)
    part = full[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    template: Array = ndimage.gaussian_filter(part, sigma) - ndimage.gaussian_filter(part, AROUND * sigma)
    return template, low


def _vertex(score: Array, peak: Sequence[Any]) -> Array:
    """Return the vertex of the parabola through the peak and its neighbours, per axis, in voxels from the peak."""
    offset = np.zeros(3)
    for axis in range(3):
        step = np.eye(3, dtype=int)[axis]
        before, at, after = (float(score[tuple(np.array(peak) + sign * step)]) for sign in (-1, 0, 1))
        curvature = before - 2 * at + after
        offset[axis] = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
    return offset
