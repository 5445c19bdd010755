"""Torsos of another generator than training's, around published label maps of abdominal organs, on the voxels of a SPECT."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.dose_net.evaluate import GRID, SPECT_MM
from training.organs.anatomy import HIGH_MM, LOW_MM, torso
from training.organs.canvas import SPACING_MM, Canvas
from training.organs.shapes import from_label_map, with_right_kidney
from training.organs.tissues import CLASSES, INDEX, LABEL_OF_TISSUE


def tissues(seed: int, label_maps: Sequence[Path]) -> NDArray[np.uint8]:
    """Return the tissues of a torso around the organs of one label map, with the right kidney of another; the view holds 480 mm of it."""
    rng = np.random.default_rng(seed)
    canvas = Canvas(LOW_MM, HIGH_MM)
    own, other = rng.choice(len(label_maps), 2, replace=False)
    organs, spine_y = from_label_map(label_maps[own], canvas)
    left = from_label_map(label_maps[other], canvas)[0]["kidney_left"]
    tissue = torso(rng, with_right_kidney(rng, organs, left), canvas, spine_y)
    wanted = np.isin(LABEL_OF_TISSUE[tissue], [CLASSES.index(name) for name in ("liver", "kidney_left", "kidney_right")])
    middle = np.argwhere(wanted).mean(axis=0)
    middle[2] = (tissue.shape[2] - 1) / 2
    at = [np.rint(m + (np.arange(n) - (n - 1) / 2) * SPECT_MM / SPACING_MM).astype(int) for m, n in zip(middle, GRID.shape, strict=True)]
    inside = [(index >= 0) & (index < n) for index, n in zip(at, tissue.shape, strict=True)]
    seen = tissue[np.ix_(*[np.clip(index, 0, n - 1) for index, n in zip(at, tissue.shape, strict=True)])]
    held = inside[0][:, None, None] & inside[1][:, None] & inside[2]
    return np.where(held, seen, INDEX["air"]).astype(np.uint8)
