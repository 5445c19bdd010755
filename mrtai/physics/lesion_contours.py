"""Where the edge of a lesion is, by classical rules that need no training.

Each rule takes the uptake around one lesion, the voxels that may be its own (``inside``), and the uptake of what surrounds it
(``background``), and returns a mask of the same shape ``(z, y, x)``.
"""

from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, ndimage, special

from mrtai.units import FWHM_PER_SIGMA, MM3_PER_ML
from mrtai.values.grid import Array, Grid

Mask = NDArray[np.bool_]

FRACTION: Final = 0.41
"""Of the maximum: the threshold most in use, of spheres beyond three resolutions at high contrast (EANM 2.0, Boellaard 2015)."""

ROUNDS: Final = 30
LEAST_RADIUS: Final = 0.5
"""In standard deviations of the point spread: of anything smaller only the point spread is seen."""

LEVELS: Final = tuple(np.round(np.arange(0.2, 0.81, 0.025), 3).tolist())
BAND: Final = 0.06
"""Heights between background and peak that are tried as contours, and how far from one its slope is averaged."""


def by_threshold(uptake: NDArray[Any], inside: Mask, *, fraction: float = FRACTION, level: float | None = None) -> Mask:
    """Return the voxels above ``fraction`` of the lesion's maximum, or above a ``level`` in the image's unit (an SUV), ``(z, y, x)``."""
    return _whole(inside & (uptake >= (fraction * float(uptake[inside].max()) if level is None else level)), uptake)


def by_adaptive_threshold(uptake: NDArray[Any], inside: Mask, background: float, grid: Grid, *, fwhm_mm: float) -> Mask:
    """Return the voxels above T = B + (m - B) c(R)/m(R), a threshold that knows the background and the lesion's size; ``(z, y, x)``.

    B is the background, m the mean in the contour, c(R) and m(R) height at the edge and mean of a sphere of unit uptake and the
    contour's volume, blurred by the scanner: for large lesions half the height, for small ones more. The contour and its threshold
    are found in turns (van Dalen 2007, Nucl Med Commun 28:485; with the mean instead of the maximum Jentzen 2015, J Nucl Med Technol
    43:28).
    """
    sigma_mm = fwhm_mm / FWHM_PER_SIGMA
    top = float(uptake[inside].max())
    found = _whole(inside & (uptake >= background + 0.5 * (top - background)), uptake)
    for _ in range(ROUNDS):
        volume_mm3 = float(found.sum()) * grid.voxel_ml * MM3_PER_ML
        radius = (0.75 * volume_mm3 / np.pi) ** (1 / 3) / sigma_mm
        share = edge_share(max(round(float(radius), 2), LEAST_RADIUS))
        level = background + share * (float(uptake[found].mean()) - background)
        again = _whole(inside & (uptake >= min(level, top)), uptake)
        if np.array_equal(again, found):
            break
        found = again
    return found


def by_gradient(uptake: NDArray[Any], inside: Mask, background: float, grid: Grid) -> Mask:
    """Return the voxels within the contour of equal uptake along which slope times radius is largest, ``(z, y, x)``.

    The slope alone is steepest at the edge of a blurred plane, but σ²/R inside that of a sphere of radius R; the second derivative across
    the edge plus the Laplacian vanishes at the edge itself (Bouma 2005, IEEE Trans Pattern Anal Mach Intell 27:1501), which is where
    slope times radius peaks. One level for the whole contour averages the noise of slopes over it, where a watershed of single slopes
    (Geets 2007, Eur J Nucl Med Mol Imaging 34:1427) needs a denoised image.
    """
    slope = np.linalg.norm(np.gradient(uptake.astype(np.float64), *grid.spacing_mm[::-1]), axis=0)
    height = (uptake - background) / max(float(uptake[inside].max()) - background, np.finfo(np.float64).tiny)
    weight = [_mean(slope[inside & (np.abs(height - level) < BAND)]) * np.cbrt((inside & (height >= level)).sum()) for level in LEVELS]
    return _whole(inside & (height >= LEVELS[int(np.argmax(weight))]), uptake)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else 0.0


@lru_cache(maxsize=4096)
def edge_share(radius: float) -> float:
    """Return c(R)/m(R): height at the edge of a blurred sphere over the mean within, radius in standard deviations of the blur."""
    mean, _ = integrate.quad(lambda r: float(blurred_sphere(np.array(r), radius)) * r * r, 0.0, radius)
    return float(blurred_sphere(np.array(radius), radius) / (3.0 * mean / radius**3))


def blurred_sphere(r: Array, radius: float) -> Array:
    """Return the profile at ``r`` of a unit sphere of ``radius`` blurred by a Gaussian, lengths in its standard deviation, any shape."""
    at = np.maximum(np.asarray(r, dtype=np.float64), 1e-6)
    edges = 0.5 * (special.erf((radius - at) / np.sqrt(2)) + special.erf((radius + at) / np.sqrt(2)))
    wings = (np.exp(-((radius - at) ** 2) / 2) - np.exp(-((radius + at) ** 2) / 2)) / (at * np.sqrt(2 * np.pi))
    profile: Array = edges - wings
    return profile


def _whole(mask: Mask, uptake: NDArray[Any]) -> Mask:
    """Return the part of the mask that is one piece with its hottest voxel, holes filled."""
    parts, count = ndimage.label(mask)
    if count > 1:
        hottest = np.unravel_index(np.argmax(np.where(mask, uptake, -np.inf)), mask.shape)
        mask = parts == parts[hottest]
    filled: Mask = ndimage.binary_fill_holes(mask)
    return filled
