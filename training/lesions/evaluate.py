"""How well lesions are drawn: Dice on real tumours, detection and false positives in bodies with physiological uptake."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.engines.lesion_input import LESION_CONTRACT, PHYSIOLOGICAL_ORGANS, lesion_input, organ_share
from mrtai.engines.prepare import Map, on_lattice
from mrtai.physics.lesion_score import LEAST_PEAK, LEAST_SCORE, sure
from mrtai.physics.resample import cropped
from mrtai.physics.similarity import dice
from mrtai.values.grid import Grid
from mrtai.values.labels import Labels
from training.lesions import simulated
from training.lesions.data import Scan

Mask = NDArray[np.bool_]
Shares = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A network: from the input of a whole image to the share of each class."""

LEAST_ML: Final = 0.5
COVERED: Final = 0.1
"""A lesion counts as found when a tenth of it is drawn."""

ANYWHERE: Final = np.ones((3, 3, 3))
CHOOSING: Final = 1_000_000
"""First seed of the simulated bodies on which the operating point is chosen; no training sees them."""

UNSEEN: Final = 3_000_000
"""First seed of those on which the figures are made: nobody looked at them before (2000000 were those of version 0.1)."""

Point = tuple[float, float]
"""An operating point: least score of a voxel, and of the surest voxel of a lesion."""

OURS: Final[Point] = (LEAST_SCORE, LEAST_PEAK)

OF_MAXIMUM: Final = tuple(np.arange(0.10, 0.71, 0.02).round(2).tolist())
SUV: Final = tuple(np.arange(0.6, 8.1, 0.2).round(1).tolist())


@dataclass(frozen=True, slots=True)
class Target:
    """One true lesion and whether it was found."""

    volume_ml: float
    contrast: float
    found: bool


@dataclass(frozen=True, slots=True)
class Counted:
    """One scan's outcome: its lesions, volumes [mL] of what was drawn where no lesion is, and Dice of all lesions together."""

    lesions: tuple[Target, ...]
    false_ml: tuple[float, ...]
    dice: float


def drawn(shares: Shares, uptake: Map, ct: Map | None = None, organs: Labels | None = None) -> tuple[Mask, Grid]:
    """Return the lesions on the network's lattice, without crumbs and without what lies mostly in organs of physiological uptake."""
    image, grid = lesion_input(*uptake, ct, LESION_CONTRACT, organs=organs)
    return drawn_at(OURS, shares(image)[1], _physiological(organs, grid), grid.voxel_ml), grid


def _physiological(organs: Labels | None, grid: Grid) -> Mask:
    inside: Mask = organ_share(organs, PHYSIOLOGICAL_ORGANS, grid) >= 0.5
    return inside


def drawn_at(point: Point, score: NDArray[np.float32], physiological: Mask, voxel_ml: float) -> Mask:
    """Return what is drawn at an operating point from the share of a lesion and where organs are, ``(z, y, x)``."""
    mask = sure(score, *point)
    pieces, count = ndimage.label(mask, ANYWHERE)
    if not count:
        return mask
    inside = np.bincount(pieces[mask], minlength=count + 1)
    outside_organs = np.bincount(pieces[mask & ~physiological], minlength=count + 1)
    kept = (outside_organs >= 0.5 * inside) & (outside_organs * voxel_ml >= LEAST_ML)
    kept[0] = False
    drawn: Mask = kept[pieces] & ~physiological
    return drawn


def crop_dice(shares: Shares, scan: Scan) -> tuple[float, float]:
    """Return the Dice of a crop's tumour on the PET's grid: of all that is drawn, and of the piece at one click on its hottest voxel."""
    uptake, grid = scan.uptake
    image, lattice = lesion_input(uptake, grid, scan.ct, LESION_CONTRACT)
    mask = sure(on_lattice(shares(image)[1], lattice, grid, 0.0))
    truth = scan.lesion[0] > 0.5
    return dice(mask, truth), dice(clicked(mask, uptake, truth), truth)


def threshold_dice(scan: Scan) -> dict[str, NDArray[np.float64]]:
    """Return the Dice of every fixed threshold, whole crop and one click: of the tumour's own maximum, and of SUV."""
    uptake, truth = scan.uptake[0], scan.lesion[0] > 0.5
    levels = {"share of maximum": np.array(OF_MAXIMUM) * uptake[truth].max(), "SUV": np.array(SUV)}
    result = {}
    for name, values in levels.items():
        masks = [uptake > value for value in values]
        result[f"{name}, whole crop"] = np.array([dice(mask, truth) for mask in masks])
        result[f"{name}, one click"] = np.array([dice(clicked(mask, uptake, truth), truth) for mask in masks])
    return result


def clicked(mask: Mask, uptake: NDArray[Any], truth: Mask) -> Mask:
    """Return the piece of a mask that holds the tumour's hottest voxel; nothing where the mask misses it."""
    pieces, _ = ndimage.label(mask)
    hottest = int(np.argmax(np.where(truth, uptake, -np.inf)))
    piece = pieces.ravel()[hottest]
    held: Mask = (pieces == piece) & (piece > 0)
    return held


def unevenly_cut(scan: Scan, seed: int, largest_mm: float = 40.0) -> Scan:
    """Return the crop with up to ``largest_mm`` less at each face: its end then says nothing of the tumour's."""
    rng = np.random.default_rng(seed)
    voxels, grid = scan.uptake
    most = (largest_mm / grid.spacing_mm[::-1]).astype(int)
    box = tuple(slice(int(rng.integers(0, m + 1)), n - int(rng.integers(0, m + 1))) for m, n in zip(most, grid.shape, strict=True))
    part = cropped(grid, box)
    return replace(scan, uptake=(voxels[box], part), lesion=(scan.lesion[0][box], part))


def on_simulated(shares: Shares, made: simulated.Scan, points: Sequence[Point], *, with_organs: bool, with_ct: bool) -> list[Counted]:
    """Return the outcome in a simulated body at each operating point."""
    ct, organs = (made.hounsfield, made.grid) if with_ct else None, made.organs if with_organs else None
    image, grid = lesion_input(made.uptake, made.grid, ct, LESION_CONTRACT, organs=organs)
    score, truth = shares(image)[1], [(lesion.volume_ml, lesion.contrast) for lesion in made.lesions]
    physiological = _physiological(organs, grid)
    return [counted(drawn_at(point, score, physiological, grid.voxel_ml), made.lesion, truth, grid.voxel_ml) for point in points]


def counted(mask: Mask, numbers: NDArray[np.integer[Any]], lesions: Sequence[tuple[float, float]], voxel_ml: float) -> Counted:
    """Return which of ``lesions`` (volume, contrast), numbered from 1, ``mask`` finds, and what it draws elsewhere."""
    there, seen = (np.bincount(values, minlength=len(lesions) + 1)[1:] for values in (numbers[numbers > 0], numbers[mask & (numbers > 0)]))
    covered = (seen / np.maximum(there, 1)).tolist()
    pieces, count = ndimage.label(mask, ANYWHERE)
    true_pieces = set(np.unique(pieces[numbers > 0]).tolist())
    sizes = np.bincount(pieces[mask], minlength=count + 1) * voxel_ml
    return Counted(
        tuple(Target(ml, contrast, share >= COVERED) for (ml, contrast), share in zip(lesions, covered, strict=True)),
        tuple(float(sizes[piece]) for piece in range(1, count + 1) if piece not in true_pieces),
        dice(mask, numbers > 0),
    )


def detected(
    outcomes: Iterable[Counted], least_ml: float, least_contrast: float, below_ml: float = np.inf, below: float = np.inf
) -> tuple[int, int]:
    """Return how many lesions of those sizes and contrasts were found, and how many there are."""
    wanted = [
        lesion.found
        for outcome in outcomes
        for lesion in outcome.lesions
        if least_ml <= lesion.volume_ml < below_ml and least_contrast <= lesion.contrast < below
    ]
    return sum(wanted), len(wanted)
