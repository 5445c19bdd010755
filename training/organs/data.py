"""Training data of `organs-ct`: generated anatomies painted anew for every sample, real CTs with contours, reviewed CASEs.

    python -m training.organs.data --work FOLDER [--label-maps FOLDER] [--anatomies 72]

makes the anatomies once (some five seconds each) into FOLDER; ``train.py`` reads them from there. A sample is a function of the
seed and its number alone, so a training that was cut goes on with exactly the samples it would have seen.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from scipy import ndimage

from mrtai.engines.prepare import lattice, normalised, on_lattice
from mrtai.simulate.anatomy import torso as formula_torso
from mrtai.simulate.voxelise import voxelised
from mrtai.values.bundle import Channel, InputContract
from mrtai.values.grid import Grid
from training.organs.anatomy import HIGH_MM, LOW_MM, torso
from training.organs.canvas import SPACING_MM, Canvas, Floats, smooth_noise
from training.organs.paint import AIR_HU, painted, scanned
from training.organs.shapes import from_ellipsoids, from_label_map, with_right_kidney
from training.organs.tissues import CLASSES, INDEX, LABEL_OF_TISSUE, TWINS, UNKNOWN

PATCH: Final = (80, 96, 128)
CONTRACT: Final = InputContract((Channel("HU", -1000.0, 1000.0, 0.0, 200.0, AIR_HU),), SPACING_MM, PATCH)
HELD_OUT: Final = 0.2
"""Of the patients of reviewed cases; they are measured, not learned from."""

CONTOURS: Final = Path(__file__).parent / "contours"

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A CT at 3 mm whose regions somebody drew: ``hu`` and ``labels`` (values of ``CLASSES``, 255 unknown), both ``(z, y, x)``."""

    name: str
    hu: Floats
    labels: Bytes


def make_anatomy(seed: int, label_maps: Sequence[Path]) -> Bytes:
    """Return the tissues of one torso, ``(z, y, x)`` at 3 mm; with label maps three in five are built around one of them."""
    rng = np.random.default_rng(seed)
    kind = rng.random()
    if kind < 0.15:
        return _simulated(rng)
    canvas = Canvas(LOW_MM, HIGH_MM)
    if label_maps and kind < 0.75:
        own, other = rng.choice(len(label_maps), 2)
        organs, spine_y = from_label_map(label_maps[own], canvas)
        left = from_label_map(label_maps[other], canvas)[0]["kidney_left"]
    else:
        organs, spine_y = from_ellipsoids(rng, canvas)
        left = from_ellipsoids(rng, canvas)[0]["kidney_left"]
    organs = with_right_kidney(rng, organs, left)
    for name in ("spleen", "kidney_left", "kidney_right"):  # some patients lost one
        if rng.random() < 0.03:
            organs.pop(name, None)
    return torso(rng, organs, canvas, spine_y)


def _simulated(rng: np.random.Generator) -> Bytes:
    """Return a torso of the simulator that virtual patients are made with."""
    names = {"soft tissue": "muscle", "bone": "spine bone", "left kidney": "left medulla", "right kidney": "right medulla"}
    anatomy = formula_torso(rng)
    z, y, x = (int(extent / SPACING_MM) for extent in (460, 300, 420))
    inside = voxelised(anatomy, Grid.axial((z, y, x), (SPACING_MM,) * 3), per_edge=1).centre
    lesion = {"liver": "liver lesion", "": "soft organ"}
    table = []
    for tissue in anatomy.tissues:
        name = names.get(tissue.name, tissue.name)
        if tissue.name.startswith("lesion"):
            name = lesion["liver" if tissue.name in anatomy.liver_lesions else ""] if tissue.hounsfield < 200 else "spine bone"
        table.append(INDEX[name])
    return np.array(table, dtype=np.uint8)[inside]


def read_contours(folder: Path = CONTOURS) -> list[Drawn]:
    """Return the real CTs that are shipped with their contours."""
    found = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            found.append(Drawn(path.stem, file["hu"].astype(np.float32), file["labels"]))
    return found


def read_cases(folder: Path) -> list[Drawn]:
    """Return the CTs of signed CASE folders under ``folder``; regions that this model does not know are left unknown.

    A department's corrections become training data this way. Outside all contours nobody said what lies there, so only the drawn
    regions teach; ``name`` is the patient's pseudonym, by which ``split`` keeps patients apart.
    """
    from mrtai.io.nifti import read_image, read_labels
    from mrtai.values.image import Quantity

    found = []
    for path in sorted(folder.rglob("results.json")):
        results = json.loads(path.read_text())
        if results["state"] not in ("signed", "released"):
            continue
        images = path.parent / "images"
        ct, labels = read_image(images / "ct.nii.gz", Quantity.HOUNSFIELD), read_labels(images / "labels.nii.gz")
        grid = lattice(ct.grid, SPACING_MM)
        value = {old: CLASSES.index(name) if name in CLASSES else UNKNOWN for old, name in labels.names.items()}
        table = np.full(max(labels.names, default=0) + 1, UNKNOWN, dtype=np.uint8)
        for old, new in value.items():
            table[old] = new
        known = on_lattice_nearest(table[labels.voxels], labels.grid, grid)
        found.append(Drawn(results["patient"]["pseudonym"], on_lattice(ct.voxels, ct.grid, grid, AIR_HU), known))
    return found


def on_lattice_nearest(values: Bytes, own: Grid, grid: Grid) -> Bytes:
    """Return label values at the centres of ``grid``, unknown beyond their own grid."""
    from mrtai.physics.resample import index_map

    matrix, offset = index_map(own, grid)
    found: Bytes = ndimage.affine_transform(values, matrix, offset, output_shape=grid.shape, order=0, cval=UNKNOWN)
    return found


def split(cases: Sequence[Drawn], held_out: float, seed: int) -> tuple[list[Drawn], list[Drawn]]:
    """Return cases for training and for checking; all CTs of one patient fall on one side."""
    names = sorted({case.name for case in cases})
    chosen = set(np.random.default_rng(seed).permutation(names)[: round(held_out * len(names))].tolist())
    return [c for c in cases if c.name not in chosen], [c for c in cases if c.name in chosen]


class Samples(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Sample number → (input ``(1, z, y, x)`` float32, labels ``(z, y, x)`` int64); the same for the same seed and number."""

    def __init__(
        self, anatomies: Sequence[Bytes], real: Sequence[Drawn], *, seed: int, patch: tuple[int, int, int] = PATCH, coarser: int = 1
    ) -> None:
        """Keep anatomies and real CTs in memory; a fifth of the samples are real where there are any.

        Voxels of the patch are ``coarser`` times 3 mm wide.
        """
        self.anatomies, self.seed, self.patch, self.coarser = anatomies, seed, patch, coarser
        self.points = [_points(LABEL_OF_TISSUE[tissue]) for tissue in anatomies]
        self.real_points = [_points(case.labels) for case in real]
        # what a coarse voxel sees is an average
        self.real = [replace(case, hu=ndimage.uniform_filter(case.hu, coarser)) for case in real]
        # a CT that shows more organs is seen more often
        organs = np.array([0.2 + np.setdiff1d(np.unique(case.labels), (0, 1, UNKNOWN)).size for case in real])
        self.shares = organs / organs.sum() if real else organs

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return sample ``number``."""
        rng = np.random.default_rng((self.seed, number))
        if self.real and (not self.anatomies or rng.random() < 0.2):
            which = int(rng.choice(len(self.real), p=self.shares))
            case = self.real[which]
            at, mirrored = _warp(rng, _middle(rng, self.real_points[which], case.labels.shape), self.patch, self.coarser)
            labels, image = _taken(case.labels, at, UNKNOWN), scanned(rng, _taken(case.hu, at, AIR_HU), self.coarser)
        else:
            which = int(rng.integers(len(self.anatomies)))
            tissue = self.anatomies[which]
            at, mirrored = _warp(rng, _middle(rng, self.points[which], tissue.shape), self.patch, self.coarser)
            tissue = _taken(tissue, at, INDEX["air"])
            labels, image = LABEL_OF_TISSUE[tissue], painted(rng, tissue, self.coarser)
        if mirrored:
            labels = MIRRORED[labels]
        image = normalised(image, CONTRACT.channels[0])
        return torch.from_numpy(image[None]), torch.from_numpy(labels.astype(np.int64))


def _mirror_table() -> Bytes:
    table = np.arange(256, dtype=np.uint8)
    for name in {LABEL_OF_TISSUE[INDEX[left]]: LABEL_OF_TISSUE[INDEX[right]] for left, right in TWINS}.items():
        table[name[0]], table[name[1]] = name[1], name[0]
    return table


MIRRORED: Final = _mirror_table()
"""Class in a mirror by class: a mirrored left kidney is a right kidney."""


def _warp(rng: np.random.Generator, middle: NDArray[np.float64], patch: tuple[int, int, int], coarser: int) -> tuple[Floats, bool]:
    """Return where each voxel of a patch comes from, shape ``(3, z, y, x)``, and whether left and right changed sides."""
    matrix = np.diag(1 / rng.normal(1, 0.09, 3)) @ _turn(rng)
    mirrored = bool(rng.random() < 0.1)
    if mirrored:
        matrix[:, 2] *= -1
    axes = [coarser * (np.arange(n, dtype=np.float32) - (n - 1) / 2) for n in patch]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    at = np.einsum("ij,jzyx->izyx", matrix.astype(np.float32), grid) + middle.astype(np.float32)[:, None, None, None]
    size = rng.uniform(0, 3.5)
    for axis in range(3):
        at[axis] += size * smooth_noise(rng, patch, rng.uniform(60, 140) / coarser)
    return at, mirrored


def _points(labels: Bytes) -> dict[int, NDArray[np.int32]]:
    """Return some voxels ``(points, 3)`` of every class but air."""
    counts = np.bincount(labels.ravel(), minlength=len(CLASSES))[: len(CLASSES)]
    found = {}
    for value in np.flatnonzero(counts[1:]) + 1:
        flat = np.flatnonzero(labels == value)
        some = flat[:: max(flat.size // 500, 1)]
        found[int(value)] = np.stack(np.unravel_index(some, labels.shape), axis=1).astype(np.int32)
    return found


def _middle(rng: np.random.Generator, points: dict[int, NDArray[np.int32]], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the patch's middle: near a voxel of a class drawn at random, or anywhere in the body."""
    value = int(rng.choice(list(points))) if rng.random() < 0.8 else 1
    some = points.get(value, next(iter(points.values())))
    point = some[int(rng.integers(len(some)))].astype(float)
    centre = (np.array(shape) - 1) / 2
    # a window of inference lies anywhere along z, but mostly around the body's middle across
    point[1:] = centre[1:] + 0.35 * (point[1:] - centre[1:])
    return np.asarray(point + rng.normal(0, (14, 5, 5)))


def _turn(rng: np.random.Generator) -> NDArray[np.float64]:
    from mrtai.simulate.solids import rotation

    return rotation(np.deg2rad(rng.normal(0, 6, 3)))


def _taken(volume: NDArray[Any], at: Floats, outside: float) -> NDArray[Any]:
    """Return a volume's values at positions: the nearest of a label, interpolated of an image."""
    if volume.dtype != np.uint8:
        scale = torch.tensor([2 / max(n - 1, 1) for n in volume.shape[::-1]])
        grid = torch.from_numpy(np.moveaxis(at[::-1], 0, -1).copy()) * scale - 1
        source = torch.from_numpy(volume.astype(np.float32) - np.float32(outside))[None, None]
        found = torch.nn.functional.grid_sample(source, grid[None], align_corners=True)
        return found[0, 0].numpy() + np.float32(outside)
    index = np.rint(at).astype(np.int32)
    inside = np.ones(at.shape[1:], dtype=bool)
    for axis, length in enumerate(volume.shape):
        inside &= (index[axis] >= 0) & (index[axis] < length)
        np.clip(index[axis], 0, length - 1, out=index[axis])
    return np.where(inside, volume[tuple(index)], np.uint8(outside))


def read_anatomies(work: Path) -> list[Bytes]:
    """Return the anatomies of a work folder. ``FileNotFoundError`` when it has none."""
    paths = sorted(work.glob("anatomy-*.npz"))
    if not paths:
        raise FileNotFoundError(f"no anatomies in {work}; make them with: python -m training.organs.data --work {work}")
    return [np.load(path)["tissue"] for path in paths]


def make_anatomies(work: Path, label_maps: Path | None, count: int, seed: int) -> None:
    """Write ``count`` anatomies into ``work``; those that are there already stay."""
    work.mkdir(parents=True, exist_ok=True)
    maps = [] if label_maps is None else sorted(label_maps.glob("*_labels.nii.gz"))
    for number in track(range(count), description="anatomies"):
        path = work / f"anatomy-{seed + number:05d}.npz"
        if not path.exists():
            np.savez_compressed(path.with_suffix(".part.npz"), tissue=make_anatomy(seed + number, maps))
            path.with_suffix(".part.npz").rename(path)


def main() -> None:
    """Make the anatomies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the anatomies")
    parser.add_argument("--label-maps", type=Path, help="folder with *_labels.nii.gz of abdominal organs to build around")
    parser.add_argument("--anatomies", type=int, default=72)
    parser.add_argument("--seed", type=int, default=1000, help="seed of the first anatomy")
    asked = parser.parse_args()
    make_anatomies(asked.work, asked.label_maps, asked.anatomies, asked.seed)


if __name__ == "__main__":
    main()
