"""Where blur moves a region's activity: how much stays within its outline, and what the rest falls on.

The point spread is a Gaussian of a given FWHM. What a region of any shape keeps of its own activity is the mean of its blurred outline
within it. The sphere that keeps as much stands for the region wherever something is known of spheres only: far from its smallest
radius a region loses in proportion to surface over volume, so the two have nearly the same one.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import brentq

from mrtai.physics.uncertainty_inputs import content_ml
from mrtai.units import FWHM_PER_SIGMA
from mrtai.values.grid import Array
from mrtai.values.labels import Labels

REACH: Final = 4.0
"""Standard deviations beyond which a point spread holds nothing."""

ENOUGH_VOXELS: Final = 100_000
COARSEST: Final = 4.0
"""A lattice of so many points, so many to a FWHM, says the same of a region as a finer one.

What is lost is right to a²/(12 σ²) for faces along the lattice and a sixth of that for spheres, a the edge of its voxels: 1 and 0.2 %
at 2.5 mm under 11 mm, 9 and 1.3 % at 4.8 mm."""

SPHERES_ML: Final = (1e-4, 1e7)


def kept_share(mask: NDArray[np.bool_], spacing_mm: Array, fwhm_mm: float) -> float:
    """Return which share of its own activity an even region keeps within its outline.

    Args:
        mask: the region, shape ``(z, y, x)``; beyond the array there is none of it.
        spacing_mm: of its voxels ``(x, y, z)``.
        fwhm_mm: of the point spread.
    """
    inside = mask[ndimage.find_objects(mask.astype(np.uint8))[0]]
    spacing = spacing_mm[::-1]
    thinner = np.floor(np.cbrt(max(np.count_nonzero(inside) / ENOUGH_VOXELS, 1.0)) * spacing.min() / spacing)
    step = np.clip(np.minimum(thinner, fwhm_mm / COARSEST / spacing), 1, None).astype(int)
    inside = inside[tuple(slice(s // 2, None, s) for s in step)]
    sigma = fwhm_mm / FWHM_PER_SIGMA / (spacing * step)
    padded = np.pad(inside.astype(np.float32), [(int(np.ceil(REACH * s)),) * 2 for s in sigma])
    blurred = ndimage.gaussian_filter(padded, sigma, mode="constant", truncate=REACH)
    return float(blurred[padded > 0].mean(dtype=np.float64))


def equivalent_sphere_ml(kept: float, fwhm_mm: float) -> float:
    """Return the volume of the sphere that keeps that share of its activity, within 0.1 µL and 10 m³."""

    def excess(log_volume: float) -> float:
        volume_ml = float(np.exp(log_volume))
        return float(content_ml(volume_ml, volume_ml, fwhm_mm)) / volume_ml - kept

    low, high = np.log(SPHERES_ML).tolist()
    if excess(low) >= 0 or excess(high) <= 0:
        return SPHERES_ML[0] if excess(low) >= 0 else SPHERES_ML[1]
    return float(np.exp(brentq(excess, low, high, xtol=1e-6)))


def falls_on(labels: Labels, value: int, body: NDArray[np.bool_], fwhm_mm: float) -> tuple[Array, float]:
    """Return on what falls the activity that leaves a region: shares by label value, and the share that falls beside the body.

    The first has shape ``(values + 1,)`` and at 0 what falls in no region, beside the body too. All sum to 1, less what falls out of
    the image; the region's own is 0.
    """
    sigma = fwhm_mm / FWHM_PER_SIGMA / labels.grid.spacing_mm[::-1]
    margin = np.ceil(REACH * sigma).astype(int)
    spans = ndimage.find_objects((labels.voxels == value).astype(np.uint8))[0]
    box = tuple(slice(max(span.start - m, 0), span.stop + m) for span, m in zip(spans, margin, strict=True))
    around, own = labels.voxels[box], labels.voxels[box] == value
    # beyond the image there is nothing to fall on, and nothing comes back from there
    blurred = ndimage.gaussian_filter(own.astype(np.float32), sigma, mode="constant", truncate=REACH)
    leaving = float(np.count_nonzero(own)) - float(blurred[own].sum(dtype=np.float64))
    blurred[own] = 0.0
    received = np.bincount(around.ravel(), weights=blurred.ravel(), minlength=int(max(labels.names)) + 1)
    beside = float(blurred[(around == 0) & ~body[box]].sum(dtype=np.float64))
    return (np.asarray(received / leaving), beside / leaving) if leaving > 0 else (np.zeros_like(received), 0.0)
