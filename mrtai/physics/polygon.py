"""Areas of pixels inside polygons."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrtai.values.grid import Array

LINES_PER_ROW: Final = 8


def inside_fraction(polygons: Sequence[Array], shape: tuple[int, int]) -> Array:
    """Return the share of each pixel inside the polygons, shape ``(rows, columns)``, from 0 to 1.

    A point is inside when it lies within an odd number of polygons, so a polygon within another is a hole and the two runs of
    a keyhole's channel cancel. Along x the share is exact; along y it is the mean of ``LINES_PER_ROW`` lines per row.

    Args:
        polygons: corners ``(points, 2)`` as (x, y) in pixels, closed by themselves; pixel (0, 0) has its centre at (0, 0).
        shape: rows and columns.
    """
    rows, columns = shape
    lines, crossings = _crossings(polygons, rows)
    order = np.lexsort((crossings, lines))
    row = lines[order] // LINES_PER_ROW
    x = np.clip(crossings[order] + 0.5, 0.0, columns)
    # entering adds everything to the right of the crossing, leaving takes it away again
    sign = np.where(np.arange(x.size) % 2 == 0, 1.0, -1.0) / LINES_PER_ROW
    cell = np.minimum(x.astype(np.int64), columns - 1)
    change = np.zeros((rows, columns + 1))
    np.add.at(change, (row, cell), sign * (cell + 1 - x))
    np.add.at(change, (row, cell + 1), sign * (x - cell))
    fraction: Array = np.clip(np.cumsum(change, axis=1)[:, :columns], 0.0, 1.0)
    return fraction


def _crossings(polygons: Sequence[Array], rows: int) -> tuple[NDArray[np.int64], Array]:
    """Return line number and x of every crossing of an edge with a line; each line is crossed an even number of times."""
    numbers, places = [np.zeros(0, np.int64)], [np.zeros(0)]
    for corners in polygons:
        start, end = corners, np.roll(corners, -1, axis=0)
        # lines lie between the corners of a grid of sub-rows; the half-open interval counts a corner once
        low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
        first = np.maximum(np.ceil((low + 0.5) * LINES_PER_ROW - 0.5), 0).astype(np.int64)
        last = np.minimum(np.ceil((high + 0.5) * LINES_PER_ROW - 0.5), rows * LINES_PER_ROW).astype(np.int64)
        count = np.maximum(last - first, 0)
        edge = np.repeat(np.arange(len(corners)), count)
        line = np.arange(edge.size) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        y = (line + 0.5) / LINES_PER_ROW - 0.5
        share = (y - start[edge, 1]) / (end[edge, 1] - start[edge, 1])
        numbers.append(line)
        places.append(start[edge, 0] + share * (end[edge, 0] - start[edge, 0]))
    return np.concatenate(numbers), np.concatenate(places)
