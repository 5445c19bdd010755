"""Which peak of uptake a voxel belongs to: what lies on the slope of a peak is its basin.

Basins are found by steepest ascent and joined where the saddle between two peaks is hardly lower than the lower peak, so that
noise on one lesion is not two lesions and two lesions that touch are not one (Edelsbrunner 2002, topological persistence).
"""

from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.intp]

AROUND: Final = tuple(step for step in product((-1, 0, 1), repeat=3) if any(step))
"""The 26 neighbours of a voxel."""


def basins(values: NDArray[Any], mask: NDArray[np.bool_], floor: NDArray[Any], *, dip: float) -> tuple[NDArray[np.int32], Ints]:
    """Return the basins inside ``mask`` numbered from 1, 0 elsewhere, and the index of each one's peak, ``(basins, 3)``, highest first.

    Args:
        values: uptake, ``(z, y, x)``.
        mask: where to look.
        floor: uptake that is there without any peak; peaks and saddles are heights above it.
        dip: two peaks are two where the saddle is lower than the lower peak by more than this share of its height.
    """
    found = np.zeros(values.shape, dtype=np.int32)
    where = np.flatnonzero(np.pad(mask, 1))
    if not where.size:
        return found, np.zeros((0, 3), dtype=np.intp)
    # positions in the list of masked voxels; one past the end is "outside"
    position = np.full(np.prod(np.array(mask.shape) + 2), where.size, dtype=np.intp)
    position[where] = np.arange(where.size)
    height = np.append((values[mask] - floor[mask]).astype(np.float64), -np.inf)
    rows, columns = mask.shape[1] + 2, mask.shape[2] + 2
    neighbours = [position[where + (z * rows + y) * columns + x] for z, y, x in AROUND]
    root = _summits(height, neighbours)
    joined = _joined(height, root, neighbours, dip)
    peaks, number = np.unique(joined[root], return_inverse=True)
    order = np.argsort(-height[peaks], kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    found[mask] = rank[number] + 1
    index: Ints = np.argwhere(mask)[peaks[order]]
    return found, index


def _summits(height: NDArray[np.float64], neighbours: list[Ints]) -> Ints:
    """Return the peak that steepest ascent from each voxel ends at."""
    own = np.arange(height.size - 1)
    best, up = height[:-1].copy(), own.copy()
    for other in neighbours:
        # of equal heights the later voxel is the higher, so that no plateau is a circle
        higher = (height[other] > best) | ((height[other] == best) & (other > up) & (other < own.size))
        best, up = np.where(higher, height[other], best), np.where(higher, other, up)
    while True:
        further = up[up]
        if np.array_equal(further, up):
            return up
        up = further


def _joined(height: NDArray[np.float64], root: Ints, neighbours: list[Ints], dip: float) -> Ints:
    """Return for each voxel that is a peak the peak it counts to."""
    leader = np.arange(root.size)

    def lead(one: int) -> int:
        while leader[one] != one:
            leader[one] = leader[leader[one]]
            one = int(leader[one])
        return one

    for a, b, saddle in _saddles(height, root, neighbours):
        high, low = sorted((lead(a), lead(b)), key=lambda peak: (height[peak], peak), reverse=True)
        if high != low and saddle >= (1.0 - dip) * height[low]:
            leader[low] = high
    peaks = np.unique(root)
    leader[peaks] = [lead(int(peak)) for peak in peaks]
    return leader


def _saddles(height: NDArray[np.float64], root: Ints, neighbours: list[Ints]) -> list[tuple[int, int, float]]:
    """Return every pair of touching basins with the height of the pass between them, the highest pass first."""
    own = np.arange(root.size)
    pairs, passes = [], []
    for other in neighbours[: len(neighbours) // 2]:
        inside = other < root.size
        a, b = root[inside], root[other[inside]]
        apart = a != b
        low, high = np.minimum(a, b)[apart], np.maximum(a, b)[apart]
        pairs.append(low * root.size + high)
        passes.append(np.minimum(height[own[inside]], height[other[inside]])[apart])
    keys, which = np.unique(np.concatenate(pairs), return_inverse=True)
    highest = np.full(keys.size, -np.inf)
    np.maximum.at(highest, which, np.concatenate(passes))
    order = np.argsort(-highest, kind="stable")
    return [(int(keys[n] // root.size), int(keys[n] % root.size), float(highest[n])) for n in order]
