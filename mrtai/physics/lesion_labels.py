"""Lesions numbered on the grid they were drawn on become regions beside organs, over which they win."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.physics.lesions import head_to_foot
from mrtai.physics.resample import index_map
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Grid
from mrtai.values.labels import Labels
from mrtai.values.regions import is_lesion

Flags = tuple[Flag, ...]


def with_lesions(
    organs: Labels, numbers: NDArray[np.int32], grid: Grid, *, origin: str, flags: Mapping[int, Flags] | None = None
) -> Labels:
    """Return the organs with ``lesion_1``, ``lesion_2``, … on the organs' grid, numbered head to foot.

    Args:
        organs: contours without lesions.
        numbers: of lesions by voxel, 0 for none, ``(z, y, x)`` on ``grid``.
        grid: of the lesions.
        origin: who drew the lesions.
        flags: what makes a lesion doubtful, by its number.
    """
    placed = on_grid(numbers, grid, organs.grid)
    kept = head_to_foot(placed, organs.grid)
    first = max(organs.names, default=0) + 1
    voxels = organs.voxels.astype(np.min_scalar_type(first + len(kept)))
    values = np.zeros(int(numbers.max()) + 1, dtype=voxels.dtype)
    values[list(kept)] = np.arange(first, first + len(kept))
    voxels = np.where(placed > 0, values[placed], voxels)
    names = {first + n: f"lesion_{n + 1}" for n in range(len(kept))}
    own = {f"lesion_{n + 1}": flags[number] for n, number in enumerate(kept) if flags and flags.get(number)}
    lost = int(np.unique(numbers[numbers > 0]).size) - len(kept)
    case = (*organs.flags.get("", ()), *((_outside(lost),) if lost else ()))
    told = {**organs.flags, **own, **({"": case} if case else {})}
    return replace(organs, voxels=voxels, names={**organs.names, **names}, origin=f"{organs.origin}, lesions: {origin}", flags=told)


def without_lesions(labels: Labels) -> Labels:
    """Return the contours of organs alone; a lesion's voxels belong to nothing."""
    drawn = [value for value, name in labels.names.items() if is_lesion(name)]
    if not drawn:
        return labels
    names = {value: name for value, name in labels.names.items() if value not in drawn}
    return replace(labels, voxels=np.where(np.isin(labels.voxels, drawn), 0, labels.voxels), names=names)


def on_grid(numbers: NDArray[Any], own: Grid, grid: Grid) -> NDArray[np.int32]:
    """Return the numbers at the voxel centres of ``grid``: of the voxel each lies in, which keeps volumes; 0 outside; ``(z, y, x)``."""
    if own.same_as(grid):
        return numbers.astype(np.int32)
    found = np.zeros(grid.shape, dtype=np.int32)
    box = _box(numbers > 0, own, grid)
    if box is None:
        return found
    matrix, offset = index_map(own, grid)
    start = np.array([part.start for part in box])
    shape = tuple(part.stop - part.start for part in box)
    found[box] = ndimage.affine_transform(
        numbers.astype(np.int32), matrix, offset + matrix @ start, output_shape=shape, order=0, mode="grid-constant", cval=0
    )
    return found


def _box(mask: NDArray[np.bool_], own: Grid, grid: Grid) -> tuple[slice, ...] | None:
    """Return the part of ``grid`` that the mask's bounding box can touch."""
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    if not boxes:
        return None
    low, high = ([part.start - 0.5 for part in boxes[0]], [part.stop - 0.5 for part in boxes[0]])
    ends = np.array([[(low, high)[a][0], (low, high)[b][1], (low, high)[c][2]] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    matrix, offset = index_map(grid, own)
    corners = ends @ matrix.T + offset
    first = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, grid.shape)
    last = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, grid.shape)
    return None if np.any(first >= last) else tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))


def _outside(count: int) -> Flag:
    text = f"{count} lesions lie outside the image that carries the contours and have no contour there."
    return Flag("LESIONS_OUTSIDE_CONTOURS", Severity.REVIEW, text, "Use a CT that covers the SPECT.")
