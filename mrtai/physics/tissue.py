"""Mass density from CT numbers, and the outline of the body."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.units import KG_PER_GRAM, WATER_DENSITY_KG_PER_ML
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity

# Control points of Schneider 2000 (Phys Med Biol 45:459) as tabulated by OpenGATE; the step down at 100-101 HU is theirs.
_HOUNSFIELD: Final = (-1000.0, -98.0, -97.0, 14.0, 23.0, 100.0, 101.0, 1600.0, 3000.0)
_GRAM_PER_ML: Final = (0.00121, 0.93, 0.930486, 1.03, 1.031, 1.1199, 1.0762, 1.9642, 2.8)

BODY_DENSITY_KG_PER_ML: Final = 0.3 * WATER_DENSITY_KG_PER_ML
"""Above this is tissue; between air and soft tissue, so that blurred skin is cut half-way."""

LEAST_ACTIVE_SHARE: Final = 2e-3
"""Of all activity: a leg holds more, blur and scatter on a couch less."""

LEAST_OF_BODY: Final = 0.7
"""Of what encloses a lung; a couch makes about half of what encloses the air above it."""

BODY_SHARE_OF_HIGHEST: Final = 0.01
"""Without CT the body is where smoothed activity exceeds this share of its 99.9th percentile."""


def density_kg_per_ml(hounsfield: NDArray[Any]) -> NDArray[np.float32]:
    """Return mass density [kg/mL] of CT numbers of any shape: linear between Schneider's points, clamped outside."""
    gram_per_ml = np.interp(hounsfield, _HOUNSFIELD, _GRAM_PER_ML)
    return np.asarray(gram_per_ml * KG_PER_GRAM, dtype=np.float32)


def density(ct: Image) -> Image:
    """Return the density map [kg/mL] of a CT in Hounsfield units, on the CT's grid."""
    return Image(density_kg_per_ml(ct.require(Quantity.HOUNSFIELD).voxels), Quantity.DENSITY, ct.grid)


def matter(density_map: Image) -> NDArray[np.bool_]:
    """Return all that is no surrounding air, shape ``(z, y, x)``: every dense object with the air inside it.

    Holes are filled slice by slice, since the airways of a cropped image are open at its first or last slice.
    """
    dense = density_map.require(Quantity.DENSITY).voxels > BODY_DENSITY_KG_PER_ML
    return np.stack([ndimage.binary_fill_holes(slab) for slab in dense])


def body_outline(density_map: Image, spect: Image) -> NDArray[np.bool_]:
    """Return the patient with lungs and bowel gas, shape ``(z, y, x)``.

    That is the largest dense object and every other that holds activity, as arms and legs do and a couch does not.
    """
    dense = density_map.require(Quantity.DENSITY).voxels > BODY_DENSITY_KG_PER_ML
    # an opening of one voxel cuts the thin bridges between patient and couch
    eroded = ndimage.binary_erosion(dense, border_value=1)
    body = _active(eroded if eroded.any() else dense, spect.require(Quantity.ACTIVITY_CONCENTRATION).voxels)
    # three steps bring back the eroded skin with its edges and corners, and no bridge longer than two voxels
    body = ndimage.binary_dilation(body, iterations=3, mask=dense)
    return np.stack([_with_lungs(ndimage.binary_fill_holes(slab), wall) for slab, wall in zip(body, dense, strict=True)])


def _with_lungs(body: NDArray[np.bool_], dense: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a slice of the body with the air that a wall too thin to outlast the erosion keeps from outside, and with that wall.

    Air between patient and couch is enclosed, too, but by the couch for a large part.
    """
    air, count = ndimage.label(ndimage.binary_fill_holes(dense) & ~dense & ~body)
    for number in range(1, count + 1):
        enclosed = air == number
        if body[ndimage.binary_dilation(enclosed) & dense].mean() >= LEAST_OF_BODY:
            # what one erosion removed is two voxels thick at most
            body = body | enclosed | (ndimage.binary_dilation(enclosed, iterations=2) & dense)
    return body


def body_from_activity(spect: Image) -> NDArray[np.bool_]:
    """Return a body outline where there is no CT: the filled region of smoothed activity above 1 % of its 99.9th percentile.

    Shape ``(z, y, x)``, as the image.
    """
    voxels = ndimage.gaussian_filter(spect.require(Quantity.ACTIVITY_CONCENTRATION).voxels.astype(np.float32), _sigma(spect.grid))
    level = BODY_SHARE_OF_HIGHEST * float(np.quantile(voxels, 0.999))
    if level <= 0:
        return np.ones(spect.grid.shape, dtype=np.bool_)
    body = _largest(voxels > level)
    return np.stack([ndimage.binary_fill_holes(slab) for slab in body])


def water_in(body: NDArray[np.bool_], grid: Grid) -> Image:
    """Return a density map [kg/mL] of water inside the outline, shape ``(z, y, x)``, and nothing outside."""
    return Image(body.astype(np.float32) * np.float32(WATER_DENSITY_KG_PER_ML), Quantity.DENSITY, grid)


def _sigma(grid: Grid, smoothing_mm: float = 5.0) -> tuple[float, float, float]:
    z, y, x = (smoothing_mm / grid.spacing_mm)[::-1]
    return float(z), float(y), float(x)


def _active(mask: NDArray[np.bool_], activity: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the largest object of the mask and every other that holds more than ``LEAST_ACTIVE_SHARE`` of the activity."""
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    share = np.bincount(parts.ravel(), weights=np.maximum(activity, 0.0).ravel(), minlength=count + 1)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    kept = share > LEAST_ACTIVE_SHARE * share.sum()
    sizes[0] = 0
    kept[sizes.argmax()], kept[0] = True, False
    found: NDArray[np.bool_] = kept[parts]
    return found


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    largest: NDArray[np.bool_] = parts == sizes.argmax()
    return largest
