"""Abdominal organs to build a torso around: from published label maps, or from ellipsoids where there are none."""

from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.simulate.solids import turned
from training.organs.canvas import Canvas, Mask, smooth_noise

Organs = dict[str, Mask]
Reals = NDArray[np.float64]

nib: Any = nibabel  # typed in parts only, so its calls are left unchecked

LABELS: Final = {
    1: "spleen",
    2: "pancreas",
    3: "kidney_left",
    4: "gallbladder",
    5: "esophagus",
    6: "liver",
    7: "stomach",
    8: "duodenum",
}
"""Values of the label maps (Gibson et al., IEEE TMI 2018, doi 10.1109/TMI.2018.2806309)."""

# name: centre (x, y, z) and half-axes [mm] with the spine at x = 0 and the kidneys' level at z = 0
_ELLIPSOIDS: Final = {
    "liver": ((-58, 0, 62), (88, 72, 68)),
    "stomach": ((62, -40, 70), (44, 34, 42)),
    "spleen": ((104, 45, 72), (26, 40, 50)),
    "kidney_left": ((62, 0, 0), (29, 27, 56)),
    "pancreas": ((15, -45, 22), (60, 14, 14)),
    "gallbladder": ((-50, -55, 15), (15, 18, 24)),
}


def from_label_map(path: Path, canvas: Canvas) -> tuple[Organs, float]:
    """Return the organs of a label map on the canvas, and the spine's y [mm] that fits them.

    The map has no spine: its middle lies some 62 mm beside the left kidney and 42 mm behind the gullet at the diaphragm.
    """
    values, affine, kidney, gullet = _read(path)
    spine_x = kidney[0] - 62 if gullet is None else (kidney[0] - 62 + gullet[0] - 14) / 2
    spine_y = kidney[1] - 6 if gullet is None else (kidney[1] - 6 + gullet[1] + 42) / 2
    origin = np.array([spine_x, spine_y - 62.0, kidney[2]])
    inverse = np.linalg.inv(affine)
    points = np.stack(np.broadcast_arrays(canvas.x, canvas.y, canvas.z)).reshape(3, -1) + origin[:, None]
    index = np.rint(inverse[:3, :3] @ points + inverse[:3, 3:]).astype(np.int32)
    inside = np.all((index >= 0) & (index < np.array(values.shape)[:, None]), axis=0)
    found = np.zeros(inside.size, dtype=np.uint8)
    found[inside] = values[tuple(index[:, inside])]
    found = found.reshape(canvas.shape)
    return {name: found == value for value, name in LABELS.items() if (found == value).any()}, 62.0


def from_ellipsoids(rng: np.random.Generator, canvas: Canvas) -> tuple[Organs, float]:
    """Return organs as bent ellipsoids, and the spine's y [mm]."""
    spine_y = 62.0
    shift = np.array([0, spine_y - 8, 0])
    organs: Organs = {}
    size = rng.normal(1, 0.06)
    for name, (centre, half) in _ELLIPSOIDS.items():
        middle = np.array(centre) * size + shift * (name == "kidney_left") + rng.normal(0, 6, 3)
        middle[0] = max(middle[0], 48.0) if name == "kidney_left" else middle[0]
        axes, own = turned(rng, 18), np.array(half) * size * rng.lognormal(0, 0.13, 3)
        points = np.stack(np.broadcast_arrays(canvas.x, canvas.y, canvas.z)).reshape(3, -1) - middle[:, None]
        local = (axes.T @ points / own[:, None]).astype(np.float32)
        radius = np.sqrt((local**2).sum(axis=0)).reshape(canvas.shape)
        inside = radius * (1 + 0.08 * smooth_noise(rng, canvas.shape, 45)) < 1
        if name == "kidney_left":
            notch = (local[0] + 0.9) ** 2 + (local[1] / 0.6) ** 2 + (local[2] / 0.45) ** 2
            inside &= notch.reshape(canvas.shape) > 0.4
        organs[name] = inside & ~np.any([*organs.values()], axis=0) if organs else inside
    return organs, spine_y


def with_right_kidney(rng: np.random.Generator, organs: Organs, left: Mask) -> Organs:
    """Return the organs with ``left`` mirrored as right kidney, moved down and back until it leaves the liver."""
    mirrored = left[:, :, ::-1]
    for step in range(16):
        drop, back = int(rng.integers(2, 6)) + 2 * step, step // 3
        moved = ndimage.shift(mirrored, (-drop, back, -(step // 4)), order=0)
        overlap = (moved & organs["liver"]).sum() / max(moved.sum(), 1)
        if overlap < 0.12:
            break
    return {**organs, "kidney_right": moved & ~organs["liver"]}


@lru_cache(maxsize=16)
def _read(path: Path) -> tuple[NDArray[np.uint8], Reals, Reals, Reals | None]:
    """Return a label map cut to what it shows, its affine, and where kidney and gullet have their middle [mm]; kept for the next torso."""
    image = nib.load(path)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    values = np.asanyarray(image.dataobj).astype(np.uint8)
    parts = ndimage.find_objects((values > 0).view(np.uint8))[0]
    values, lps[:3, 3] = values[parts].copy(), lps[:3, :3] @ [part.start for part in parts] + lps[:3, 3]
    kidney, gullet = ((values == value).nonzero() for value in (3, 5))
    return values, lps, _mean_mm(kidney, lps), _mean_mm(gullet, lps) if gullet[0].size else None


def _mean_mm(index: tuple[NDArray[np.intp], ...], affine: Reals) -> Reals:
    middle: Reals = affine[:3, :3] @ np.mean(index, axis=1) + affine[:3, 3]
    return middle
