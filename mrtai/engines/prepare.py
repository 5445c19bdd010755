"""From an image to what a network sees, and from its scores back: shared by training and inference, so that it exists once.

A network sees cubic voxels along the patient axes whose centres lie on multiples of the spacing in world millimetres: copies
of one scan that are mirrored, turned, cropped or sheared in their axes become the same array.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.physics.resample import PARALLEL_TOLERANCE, index_map
from mrtai.values.bundle import Channel, InputContract
from mrtai.values.grid import Array, Grid

Map = tuple[NDArray[np.generic], Grid]
"""Voxels ``(z, y, x)`` with their grid."""

SLAB = 16
"""Slices of the target worked on at once: memory stays near that of the result."""

STEP = 16
"""Voxels between places where a window may begin: as many as one number of a network's deepest layer stands for."""

BODY_HU = -500.0
MARGIN = 2
"""Voxels around the body: with the STEP's rounding, of air that the network needs to see a skin."""

_FAR = 1e6
"""Voxels; beyond every image."""


def prepared(maps: Sequence[Map], contract: InputContract) -> tuple[NDArray[np.float32], Grid]:
    """Return the network's input, shape ``(channels, z, y, x)``, and its grid, which covers the first map.

    ``maps`` hold one image per channel in the contract's order, each in the channel's quantity. ``ValueError`` when their number differs.
    """
    if len(maps) != len(contract.channels):
        raise ValueError(f"the model needs {len(contract.channels)} channels, got {len(maps)}")
    grid = lattice(maps[0][1], contract.spacing_mm)
    stack = [
        normalised(on_lattice(voxels, own, grid, channel.outside), channel)
        for (voxels, own), channel in zip(maps, contract.channels, strict=True)
    ]
    return np.stack(stack), grid


def normalised(voxels: NDArray[np.float32], channel: Channel) -> NDArray[np.float32]:
    """Return a channel's values as the network sees them: clipped, shifted and scaled."""
    clipped = np.clip(voxels, channel.low, channel.high)
    scaled: NDArray[np.float32] = ((clipped - channel.shift) / channel.scale).astype(np.float32)
    return scaled


def filled_up(image: NDArray[np.float32], shape: Sequence[int], channels: Sequence[Channel]) -> NDArray[np.float32]:
    """Return an input ``(channels, z, y, x)`` that is at least of ``shape``, filled up at its far ends with what lies outside an image."""
    rest = [max(wanted - there, 0) for wanted, there in zip(shape, image.shape[1:], strict=True)]
    if not any(rest):
        return image
    beyond = [(0, missing) for missing in rest]
    planes = [np.pad(plane, beyond, constant_values=channel.seen_outside) for plane, channel in zip(image, channels, strict=True)]
    return np.stack(planes).astype(np.float32)


def lattice(grid: Grid, spacing_mm: float) -> Grid:
    """Return the grid along the patient axes that covers ``grid``, voxel centres on multiples of ``spacing_mm``."""
    ends = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * np.array(grid.shape[::-1]) - 0.5
    faces = ends @ grid.affine[:3, :3].T + grid.origin_mm
    # a thousandth of a voxel: rounding must not add a layer
    first = np.ceil(faces.min(axis=0) / spacing_mm - 1e-3)
    last = np.maximum(np.floor(faces.max(axis=0) / spacing_mm + 1e-3), first)
    x, y, z = (last - first).astype(int) + 1
    return Grid((int(z), int(y), int(x)), np.full(3, spacing_mm), first * spacing_mm, np.eye(3))


def on_lattice(voxels: NDArray[np.generic], own: Grid, grid: Grid, outside: float) -> NDArray[np.float32]:
    """Return the values at the centres of ``grid``: averaged over whole voxels where it is coarser, then interpolated linearly."""
    if own.same_as(grid):
        return np.array(voxels, dtype=np.float32)
    small, coarse = _block_averaged(voxels, own, float(grid.spacing_mm.min()))
    matrix, offset = index_map(coarse, grid)
    # beyond the outermost centres, as far as the voxels reach, the nearest value counts
    padded = np.pad(small, 1, mode="edge")
    result = ndimage.affine_transform(padded, matrix, offset + 1, output_shape=grid.shape, order=1, mode="constant", cval=outside)
    return np.asarray(result, dtype=np.float32)


def around_body(image: NDArray[np.float32], grid: Grid, contract: InputContract) -> tuple[NDArray[np.float32], Grid]:
    """Return the part of a CT on its lattice that holds the body, cut or filled up at multiples of ``STEP`` of the world's lattice.

    A network that averages and strides sees the patient alike then, however much air is around and wherever the CT was cut. Beyond
    the CT's ends along the patient its last slices go on, so that a window fits: a patient who ended in air there would be no patient.
    """
    channel = contract.channels[0]
    found = ndimage.find_objects((image[0] > (BODY_HU - channel.shift) / channel.scale).view(np.uint8))
    if not found:
        return image, grid
    first = np.rint(grid.origin_mm / grid.spacing_mm).astype(int)[::-1]
    low = np.array([part.start for part in found[0]]) - MARGIN
    high = np.array([part.stop for part in found[0]]) + MARGIN
    low, high = (first + low) // STEP * STEP - first, -(-(first + high) // STEP) * STEP - first
    missing = max(-(-(contract.patch[0] - int(high[0] - low[0])) // STEP), 0)
    low[0], high[0] = low[0] - missing // 2 * STEP, high[0] + (missing - missing // 2) * STEP
    z, y, x = (int(n) for n in high - low)
    result = np.full((1, z, y, x), channel.seen_outside, dtype=np.float32)
    rows, columns = (slice(max(a, 0), min(b, n)) for a, b, n in zip(low[1:], high[1:], grid.shape[1:], strict=True))
    there = (slice(part.start - a, part.stop - a) for part, a in zip((rows, columns), low[1:], strict=True))
    slices = np.clip(np.arange(low[0], high[0]), 0, grid.shape[0] - 1)
    result[0][:, *there] = image[0][slices, rows, columns]
    return result, Grid((z, y, x), grid.spacing_mm, grid.origin_mm + low[::-1] * grid.spacing_mm, grid.direction)


def labels_on(scores: NDArray[np.float32], own: Grid, grid: Grid) -> NDArray[np.uint8]:
    """Return on ``grid`` the class with the highest score, shape ``(z, y, x)``; 0 beyond the lattice.

    ``scores`` of shape ``(classes, z, y, x)`` on ``own`` are interpolated linearly first: an argmax before would leave steps.
    """
    matrix, offset = index_map(own, grid)
    found = np.zeros(grid.shape, dtype=np.uint8)
    # the highest of several numbers is not below their mean: where a class is everywhere less, it cannot win
    least = float(scores.sum(axis=0).min()) / len(scores)
    boxes = [_box_above(score, least, own, grid) for score in scores]
    for start in range(0, grid.shape[0], SLAB):
        stop = min(start + SLAB, grid.shape[0])
        best = np.full((stop - start, *grid.shape[1:]), -np.inf, dtype=np.float32)
        for value, (score, (z, y, x)) in enumerate(zip(scores, boxes, strict=True)):
            low, high = max(z.start, start), min(z.stop, stop)
            if low >= high:
                continue
            shape, corner = (high - low, y.stop - y.start, x.stop - x.start), np.array([low, y.start, x.start])
            here = _interpolated(score, matrix, offset + matrix @ corner, shape)
            so_far = best[low - start : high - start, y, x]
            wins = here > so_far
            so_far[wins] = here[wins]
            found[low:high, y, x][wins] = value
    return found


def _interpolated(score: NDArray[np.float32], matrix: Array, offset: Array, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return linear interpolation at ``matrix @ index + offset``; axis by axis where axes are parallel, which is ten times as fast."""
    axes = np.abs(matrix).argmax(axis=0)
    steps = matrix[axes, range(3)]
    if len(set(axes)) < 3 or not np.allclose(np.abs(matrix).sum(), np.abs(steps).sum(), rtol=0, atol=PARALLEL_TOLERANCE):
        found: NDArray[np.float32] = ndimage.affine_transform(score, matrix, offset, output_shape=shape, order=1, mode="nearest")
        return found
    found = score.transpose(axes)
    for axis, length in enumerate(shape):
        found = _interpolated_along(found, axis, offset[axes[axis]] + steps[axis] * np.arange(length))
    return found


def _interpolated_along(values: NDArray[np.float32], axis: int, at: Array) -> NDArray[np.float32]:
    last = values.shape[axis] - 1
    at = np.clip(at, 0, last)
    low = at.astype(int)
    share = np.expand_dims((at - low).astype(np.float32), tuple({0, 1, 2} - {axis}))
    first = values.take(low, axis)
    result: NDArray[np.float32] = first + share * (values.take(np.minimum(low + 1, last), axis) - first)
    return result


def _box_above(score: NDArray[np.float32], least: float, own: Grid, grid: Grid) -> tuple[slice, slice, slice]:
    """Return the slices ``(z, y, x)`` of ``grid`` outside of which linear interpolation of ``score`` stays below ``least``."""
    found = ndimage.find_objects((score >= least).view(np.uint8))
    if not found:
        return (slice(0, 0),) * 3
    # half-way to the next voxel and beyond it counts; past the lattice's end its last voxel goes on
    low = [part.start - 1 if part.start else -_FAR for part in found[0]]
    high = [part.stop if part.stop < n else _FAR for part, n in zip(found[0], own.shape, strict=True)]
    ends = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1)
    matrix, offset = index_map(grid, own)
    corners = (matrix @ ends).T + offset
    first = np.clip(np.floor(corners.min(axis=0)), 0, grid.shape).astype(int)
    last = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, grid.shape).astype(int)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return z, y, x


def _block_averaged(voxels: NDArray[np.generic], grid: Grid, spacing_mm: float) -> tuple[NDArray[np.float32], Grid]:
    """Return averages over blocks of whole voxels, none wider than ``spacing_mm``; a rest at the far end is left as it is cut."""
    blocks = np.maximum(np.floor(spacing_mm / grid.spacing_mm + 1e-3).astype(int), 1)[::-1]
    blocks = np.minimum(blocks, grid.shape)
    if np.all(blocks == 1):
        return voxels.astype(np.float32), grid
    counts = [n // b for n, b in zip(grid.shape, blocks, strict=True)]
    # the rest is shared by both ends, so that a mirrored copy is cut alike
    starts = [(n - c * b) // 2 for n, c, b in zip(grid.shape, counts, blocks, strict=True)]
    result = np.empty(counts, dtype=np.float32)
    (nz, ny, nx), (bz, by, bx) = counts, blocks
    rows = slice(starts[1], starts[1] + ny * by), slice(starts[2], starts[2] + nx * bx)
    for k in range(nz):
        part = voxels[starts[0] + k * bz : starts[0] + (k + 1) * bz, rows[0], rows[1]].astype(np.float32)
        result[k] = part.reshape(bz, ny, by, nx, bx).mean(axis=(0, 2, 4))
    middle = np.array(starts[::-1]) + (np.array(blocks[::-1]) - 1) / 2
    origin = grid.affine[:3, :3] @ middle + grid.origin_mm
    return result, Grid((nz, ny, nx), grid.spacing_mm * blocks[::-1], origin, grid.direction)
