"""Which lesion of this cycle is which of an earlier one: matched one to one in space, and what split, merged, came or went."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from mrtai.physics.lesion_labels import on_grid
from mrtai.values.grid import Array
from mrtai.values.labels import Labels

GATE_MM: Final = 15.0
"""Lesions that do not overlap are one when their centroids are no further apart: breathing, posture, and what registration leaves."""

PART: Final = 0.5
"""A lesion of which this share lies in another is a part of it: split off, or merged into it."""

FORBIDDEN: Final = 1e6


@dataclass(frozen=True, slots=True)
class Match:
    """How the lesions of now and then belong together, all by name.

    Attributes:
        same: then's name by now's, one to one.
        split_from: by now's name the lesion of then it is a part of, where another part is that lesion's own.
        merged: by now's name further lesions of then that lie in it.
        vanished: lesions of then that nothing of now is.
        new: lesions of now that nothing of then was.
    """

    same: Mapping[str, str]
    split_from: Mapping[str, str]
    merged: Mapping[str, tuple[str, ...]]
    vanished: tuple[str, ...]
    new: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Shapes:
    """Lesions in space: names, volumes [voxels of the present grid] and centroids [mm], with the overlaps between now and then."""

    now: tuple[str, ...]
    then: tuple[str, ...]
    now_volume: Array
    then_volume: Array
    overlap: Array
    distance_mm: Array


def matched(now: Labels, then: Labels) -> Match:
    """Return how lesions belong together; ``then`` is already moved into the space of ``now``, and both hold nothing but lesions.

    Of all one-to-one pairings that one is taken whose pairs together overlap most and lie nearest (Kuhn 1955, by
    ``scipy.optimize.linear_sum_assignment``); pairs that neither overlap nor lie within the gate are none.
    """
    shapes = _shapes(now, then)
    if not shapes.now or not shapes.then:
        return Match({}, {}, {}, shapes.then, shapes.now)
    rows, columns = optimize.linear_sum_assignment(_cost(shapes))
    pairs = {int(i): int(j) for i, j in zip(rows, columns, strict=True) if _possible(shapes)[i, j]}
    taken = set(pairs.values())
    in_then = shapes.overlap / np.maximum(shapes.now_volume, 1.0)[:, None]
    in_now = shapes.overlap / np.maximum(shapes.then_volume, 1.0)[None, :]
    split = {i: int(in_then[i].argmax()) for i in range(len(shapes.now)) if i not in pairs and in_then[i].max() >= PART}
    gone = [j for j in range(len(shapes.then)) if j not in taken]
    into = {j: int(in_now[:, j].argmax()) for j in gone if in_now[:, j].max() >= PART}
    return Match(
        same={shapes.now[i]: shapes.then[j] for i, j in pairs.items()},
        split_from={shapes.now[i]: shapes.then[j] for i, j in split.items()},
        merged=_grouped((shapes.now[i], shapes.then[j]) for j, i in into.items()),
        vanished=tuple(shapes.then[j] for j in gone if j not in into),
        new=tuple(name for i, name in enumerate(shapes.now) if i not in pairs and i not in split),
    )


def renamed(now: Sequence[str], same: Mapping[str, str], taken: Sequence[str]) -> dict[str, str]:
    """Return the name of each lesion: the earlier one where it is the same, else the next number that no lesion of the patient had."""
    numbers = [int(name.removeprefix("lesion_")) for name in (*taken, *same.values()) if name.removeprefix("lesion_").isdigit()]
    following = iter(range(max(numbers, default=0) + 1, max(numbers, default=0) + 1 + len(now)))
    return {name: same[name] if name in same else f"lesion_{next(following)}" for name in now}


def _possible(shapes: _Shapes) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = (shapes.overlap > 0) | (shapes.distance_mm <= GATE_MM)
    return near


def _cost(shapes: _Shapes) -> Array:
    """Return what a pair costs: little where it overlaps, else its distance; none at all costs more than any pairs that there could be."""
    both = shapes.now_volume[:, None] + shapes.then_volume[None, :]
    cost: Array = np.where(_possible(shapes), shapes.distance_mm / GATE_MM - 4.0 * shapes.overlap / both, FORBIDDEN)
    return cost


def _shapes(now: Labels, then: Labels) -> _Shapes:
    here = on_grid(then.voxels, then.grid, now.grid)
    now_values, then_values = list(now.names), list(then.names)
    counts = np.zeros((max(now_values, default=0) + 1, max(then_values, default=0) + 1))
    either = (now.voxels > 0) | (here > 0)
    np.add.at(counts, (now.voxels[either], here[either]), 1.0)
    chosen = counts[np.ix_(now_values, then_values)]
    apart = _centroids_mm(now)[:, None, :] - _centroids_mm(then)[None, :, :]
    scale = then.grid.voxel_ml / now.grid.voxel_ml
    return _Shapes(
        now=tuple(now.names.values()),
        then=tuple(then.names.values()),
        now_volume=counts.sum(axis=1)[now_values],
        # on its own grid: what lies outside the present view counts too
        then_volume=np.asarray(np.bincount(then.voxels.ravel(), minlength=counts.shape[1])[then_values] * scale, dtype=np.float64),
        overlap=chosen,
        distance_mm=np.asarray(np.linalg.norm(apart, axis=2), dtype=np.float64),
    )


def _centroids_mm(labels: Labels) -> Array:
    index = np.array(ndimage.center_of_mass(labels.voxels > 0, labels.voxels, list(labels.names))).reshape(-1, 3)
    centres: Array = index[:, ::-1] @ labels.grid.affine[:3, :3].T + labels.grid.origin_mm
    return centres


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for key, value in pairs:
        found[key] = (*found.get(key, ()), value)
    return found
