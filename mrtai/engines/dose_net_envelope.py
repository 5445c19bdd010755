"""What `dose-net` was trained on, in numbers that a map tells of itself; outside of them its answer means nothing."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from scipy import ndimage

from mrtai.physics.tissue import matter
from mrtai.units import ML_PER_MM3, WATER_DENSITY_KG_PER_ML
from mrtai.values.image import Image

WORTH: Final = 0.05
"""Of the 99.9th percentile of TIA: voxels above it tell noise and blur."""

LARGEST_ANISOTROPY: Final = 1.05

RECOVERED: Final = "recovered"
"""Name of the ranges that hold in place of others for maps with recovery."""

WORDS: Final = {
    "voxel_mm": "voxel of {:.2f} mm",
    "fwhm_mm": "resolution of {:.1f} mm",
    "extent_mm": "field of view of {:.0f} mm",
    "body_ml": "{:.0f} mL of matter",
    "body_gram_per_ml": "mean density of {:.2f} g/mL",
    "grain": "relative noise of {:.3f} from voxel to voxel, as another count level gives",
    "edge": "edges of {:.2f} a voxel in the logarithm, as another blur gives",
}


def measured(tia: Image, density: Image) -> dict[str, float]:
    """Return what a case is like, by name: see ``WORDS``.

    ``grain`` is the median difference of a voxel from the mean of its neighbourhood, relative to that; ``edge`` the 99th percentile of
    differences between the logarithms of neighbouring voxels.
    """
    grid, body = tia.grid, matter(density)
    ml = float(np.prod(grid.spacing_mm)) * ML_PER_MM3
    found = {
        "voxel_mm": float(grid.spacing_mm.mean()),
        "extent_mm": float((np.array(grid.shape[::-1]) * grid.spacing_mm).min()),
        "body_ml": float(body.sum()) * ml,
        "body_gram_per_ml": float(density.voxels[body].mean()) / WATER_DENSITY_KG_PER_ML if body.any() else 0.0,
    }
    high = float(np.percentile(tia.voxels[body], 99.9)) if body.any() else 0.0
    if high <= 0:
        return found
    values = tia.voxels.astype(np.float64)
    local = ndimage.uniform_filter(values, 3)
    worth = body & (local > WORTH * high)
    if not worth.any():
        return found
    found["grain"] = float(np.median(np.abs(values[worth] / local[worth] - 1)))
    logs = np.log(np.maximum(values, 1e-3 * WORTH * high))
    steps = [np.abs(np.diff(logs, axis=axis))[_both(worth, axis)] for axis in range(3)]
    found["edge"] = float(np.percentile(np.concatenate(steps), 99))
    return found


def _both(worth: Any, axis: int) -> Any:
    low, high = [slice(None)] * 3, [slice(None)] * 3
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return worth[tuple(low)] & worth[tuple(high)]


def outside(
    nuclide: str, tia: Image, density: Image, fwhm_mm: float, envelope: Mapping[str, Any], *, recovered: bool = False
) -> Sequence[str]:
    """Return in words what lies outside the envelope of a case; empty where nothing does.

    A ``recovered`` map that was blurred again is rougher than a scan, most of all where regions meet: its ranges are its own.
    """
    envelope = {**envelope, **envelope[RECOVERED]} if recovered else envelope
    told = [] if nuclide in envelope["nuclides"] else [f"nuclide {nuclide}"]
    spacing = tia.grid.spacing_mm
    if spacing.max() / spacing.min() > LARGEST_ANISOTROPY:
        told.append(f"voxels of {' x '.join(f'{mm:.2f}' for mm in spacing)} mm")
    found = measured(tia, density) | {"fwhm_mm": fwhm_mm}
    for name, words in WORDS.items():
        low, high = envelope[name]
        if name not in found:
            told.append("no activity to speak of")
            break
        if not low <= found[name] <= high:
            told.append(f"{words.format(found[name])} ({low:.3g} to {high:.3g} learned)")
    return told
