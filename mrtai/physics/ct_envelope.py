"""Statistics of a CT by which a gate knows a scan unlike those that a model was trained on.

Training writes ``envelope_of`` its CTs' ``ct_statistics`` into the model's bundle; a name that training cannot state (a generated CT
has no slice thickness of its own) it sets by hand or leaves out: only what the envelope names is judged.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.values.flag import Flag, Severity
from mrtai.values.image import Image, Quantity

SAMPLED_MM: Final = 4.0
"""Statistics are those of averages over about this much, so that they do not depend on the voxel size alone."""

TISSUE_HU: Final = -300.0
PERCENTILES: Final = (5, 25, 50, 75, 95)
WIDENED: Final = 0.1
"""Of its width, an envelope is widened at both ends: training sees a sample of what it covers."""

WORDS: Final = {
    "voxel_mm": "voxel edge [mm]",
    "slice_mm": "distance of slices [mm]",
    "extent_mm": "length from feet to head [mm]",
    "body_mm2": "cross-section of the body [mm²]",
    "noise_hu": "noise in the body [HU]",
    **{f"body_hu_p{p:02d}": f"{p}th percentile of CT numbers in the body [HU]" for p in PERCENTILES},
}


def ct_statistics(ct: Image) -> Mapping[str, float]:
    """Return the statistics of a CT that ``WORDS`` names; those of the body are 0 (its CT numbers -1000) where none is found."""
    grid = ct.require(Quantity.HOUNSFIELD).grid
    along_z = int(np.argmax(np.abs(grid.direction[2])))
    coarse, spacing_mm = _averaged(ct)
    body = np.moveaxis(_body(coarse), 2 - along_z, 0)
    inside = np.moveaxis(coarse, 2 - along_z, 0)[body]
    areas = body.sum(axis=(1, 2))
    levels = np.percentile(inside, PERCENTILES) if inside.size else np.full(len(PERCENTILES), -1000.0)
    return {
        "voxel_mm": float(np.delete(grid.spacing_mm, along_z).max()),
        "slice_mm": float(grid.spacing_mm[along_z]),
        "extent_mm": float(grid.spacing_mm[along_z] * grid.shape[2 - along_z]),
        "body_mm2": float(np.median(areas[areas > 0])) * float(np.prod(np.delete(spacing_mm, along_z))) if inside.size else 0.0,
        "noise_hu": _noise_hu(coarse),
        **{f"body_hu_p{p:02d}": float(level) for p, level in zip(PERCENTILES, levels, strict=True)},
    }


def envelope_of(statistics: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return the range of each statistic over many CTs, a little widened: ``{"noise_hu": [2.1, 18.4], …}``."""
    rows = list(statistics)
    envelope = {}
    for name in rows[0] if rows else ():
        low, high = min(row[name] for row in rows), max(row[name] for row in rows)
        envelope[name] = [low - WIDENED * (high - low), high + WIDENED * (high - low)]
    return envelope


def envelope_flags(ct: Image, envelope: Mapping[str, Any]) -> tuple[Flag, ...]:
    """Return a flag when the CT's statistics leave the envelope of a model's training; none without an envelope."""
    known = {name: bounds for name, bounds in envelope.items() if name in WORDS}
    if not known:
        return ()
    found = ct_statistics(ct)
    strange = [
        f"{WORDS[name]} {found[name]:.4g}, trained on {low:.4g} to {high:.4g}"
        for name, (low, high) in known.items()
        if not low <= found[name] <= high
    ]
    if not strange:
        return ()
    text = f"The CT is unlike those that the model was trained on: {'; '.join(strange)}."
    return (Flag("CT_UNFAMILIAR", Severity.REVIEW, text, "Look at every contour; give edited ones with --labels where they are wrong."),)


def _averaged(ct: Image) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return averages over blocks of ``SAMPLED_MM``, ``(z, y, x)`` without a rest at the far ends, and their spacing ``(x, y, z)``."""
    spacing = ct.grid.spacing_mm
    blocks = np.clip(np.round(SAMPLED_MM / spacing).astype(int), 1, ct.grid.shape[::-1])
    bx, by, bz = (int(n) for n in blocks)
    nz, ny, nx = (n // b for n, b in zip(ct.grid.shape, (bz, by, bx), strict=True))
    coarse = np.empty((nz, ny, nx), dtype=np.float32)
    for k in range(nz):
        slab = ct.voxels[k * bz : (k + 1) * bz, : ny * by, : nx * bx].astype(np.float32)
        coarse[k] = slab.reshape(bz, ny, by, nx, bx).mean(axis=(0, 2, 4))
    return coarse, spacing * blocks


def _body(coarse: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the largest dense object with lungs and bowel gas, shape as given; an opening cuts it off the couch."""
    dense = coarse > TISSUE_HU
    parts, count = ndimage.label(ndimage.binary_opening(dense))
    if not count:
        return np.zeros(coarse.shape, dtype=np.bool_)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    body = ndimage.binary_dilation(parts == sizes.argmax(), mask=dense)
    return np.stack([ndimage.binary_fill_holes(slab) for slab in body])


def _noise_hu(coarse: NDArray[np.float32]) -> float:
    """Return the standard deviation of noise between neighbours along x, in soft tissue away from edges, by the median deviation."""
    step = np.diff(coarse, axis=2)
    soft = (coarse[..., 1:] > -50) & (coarse[..., 1:] < 150) & (coarse[..., :-1] > -50) & (coarse[..., :-1] < 150)
    if not soft.any():
        return 0.0
    # a median absolute deviation is 0.6745 of a normal spread; a difference spreads √2 wider
    return float(np.median(np.abs(step[soft])) / 0.6745 / np.sqrt(2.0))
