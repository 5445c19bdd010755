"""Closed outlines of binary masks: along voxel edges, so that areas are exact and no voxel centre is in doubt.

Voxels that touch by a corner alone are separate, gaps that do are one (4-connected regions, 8-connected holes). A hole is joined to
what surrounds it by a channel of no width that runs along voxel edges (the keyhole of DICOM PS3.3 C.8.8.6.3), so one polygon says it
all by the even–odd and by the winding rule.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

from mrtai.values.grid import Array

STEPS: Final = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
"""Directions of an edge as (x, y): right, down, left, up; a region lies to the right of its edges as they are walked."""

Corner = tuple[int, int]


def outlines(mask: NDArray[np.bool_]) -> list[Array]:
    """Return the polygons of a mask of shape ``(y, x)``: corners ``(points, 2)`` as (x, y) in voxels, centres at whole numbers.

    Each polygon is one connected part with its holes; its shoelace area is the number of its voxels, positive.
    """
    box = next(iter(find_objects(mask.astype(np.uint8))), None)
    if box is None:
        return []
    top, left = box[0].start, box[1].start
    padded = np.pad(mask[box], 1)
    parts, _ = label(padded)
    outer: dict[int, list[Corner]] = {}
    holes: list[tuple[int, list[Corner]]] = []
    for part, loop in _loops(padded, parts):
        if _doubled_area(loop) > 0:
            outer[part] = loop
        else:
            holes.append((part, loop))
    # from the top down: a channel upwards then ends on a loop that is part of its polygon already
    for part, hole in sorted(holes, key=lambda one: min((y, x) for x, y in one[1])):
        outer[part] = _joined(outer[part], hole, padded)
    offset = np.array([left - 1.5, top - 1.5])
    return [_corners(loop) + offset for _, loop in sorted(outer.items())]


def area_and_centroid(polygon: Array) -> tuple[float, Array]:
    """Return signed area and centroid ``(2,)`` of a polygon ``(points, 2)`` by the shoelace formula, about its first point."""
    here = polygon - polygon[0]
    following = np.roll(here, -1, axis=0)
    cross = here[:, 0] * following[:, 1] - here[:, 1] * following[:, 0]
    area = float(cross.sum()) / 2
    if area == 0:
        return 0.0, polygon.mean(axis=0)
    centroid: Array = polygon[0] + ((here + following) * cross[:, None]).sum(axis=0) / (6 * area)
    return area, centroid


def _loops(padded: NDArray[np.bool_], parts: NDArray[np.int32]) -> list[tuple[int, list[Corner]]]:
    """Return every closed walk along the edges between inside and outside, corner by corner, with the part it bounds."""
    columns = padded.shape[1] + 1
    starts, directions, owners = _edges(padded, parts)
    numbers = {key: n for n, key in enumerate((starts * 4 + directions).tolist())}
    ends = starts + STEPS[directions] @ np.array([1, columns])
    following = [_next(int(end), int(d), numbers) for end, d in zip(ends, directions, strict=True)]
    loops = []
    seen = np.zeros(len(starts), dtype=bool)
    for first in range(len(starts)):
        if seen[first]:
            continue
        walk, edge = [], first
        while not seen[edge]:
            seen[edge] = True
            walk.append(edge)
            edge = following[edge]
        rows, places = np.divmod(starts[walk], columns)
        loops.append((int(owners[first]), list(zip(places.tolist(), rows.tolist(), strict=True))))
    return loops


def _edges(padded: NDArray[np.bool_], parts: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Return start corner (as one number), direction and part of every edge; corner (x, y) is the upper left of voxel (x, y)."""
    columns = padded.shape[1] + 1
    starts, directions, owners = [], [], []
    # direction: the neighbour that must be outside (y, x), and the corner of the voxel where the edge starts (x, y)
    for direction, (dy, dx), (cx, cy) in ((0, (-1, 0), (0, 0)), (1, (0, 1), (1, 0)), (2, (1, 0), (1, 1)), (3, (0, -1), (0, 1))):
        outside = ~np.roll(padded, (-dy, -dx), axis=(0, 1))
        y, x = np.nonzero(padded & outside)
        starts.append((y + cy) * columns + x + cx)
        directions.append(np.full(len(y), direction))
        owners.append(parts[y, x])
    return np.concatenate(starts), np.concatenate(directions), np.concatenate(owners)


def _next(corner: int, direction: int, numbers: dict[int, int]) -> int:
    """Return the edge that follows: a turn around the same voxel first, so that voxels touching by a corner stay apart."""
    for turn in (1, 0, 3):
        edge = numbers.get(corner * 4 + (direction + turn) % 4)
        if edge is not None:
            return edge
    raise AssertionError("an outline that does not close")


def _joined(loop: list[Corner], hole: list[Corner], padded: NDArray[np.bool_]) -> list[Corner]:
    """Return the loop with a hole in it, by a channel straight up from the hole's uppermost corner to the first border."""
    at = min(range(len(hole)), key=lambda n: (hole[n][1], hole[n][0]))
    x, bottom = hole[at]
    y = bottom - 1
    while padded[y - 1, x - 1] and padded[y - 1, x]:
        y -= 1
    entry = loop.index((x, y))
    channel = [(x, row) for row in range(y + 1, bottom)]
    return [*loop[: entry + 1], *channel, *hole[at:], *hole[: at + 1], *reversed(channel), *loop[entry:]]


def _corners(loop: list[Corner]) -> Array:
    """Return the points where the walk turns."""
    points = np.array(loop, dtype=np.float64)
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns: Array = points[np.any(before != after, axis=1)]
    return turns


def _doubled_area(loop: list[Corner]) -> int:
    points = np.array(loop)
    following = np.roll(points, -1, axis=0)
    return int((points[:, 0] * following[:, 1] - points[:, 1] * following[:, 0]).sum())
