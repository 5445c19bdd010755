"""Training data of `organs-ct`: generated anatomies, real CTs with contours, reviewed CASEs.

    python -m training.organs.data --work FOLDER [--label-maps FOLDER] [--anatomies 72]

makes the anatomies once (some three seconds each) into FOLDER; ``train.py`` reads them from there.
"""

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy import ndimage

from mrtai.engines.prepare import lattice, on_lattice
from mrtai.simulate.anatomy import torso as formula_torso
from mrtai.simulate.voxelise import voxelised
from mrtai.values.bundle import Channel, InputContract
from mrtai.values.grid import Grid
from mrtai.values.ledger import CLOSED
from training.organs.anatomy import HIGH_MM, LOW_MM, torso
from training.organs.canvas import SPACING_MM, Canvas, Floats
from training.organs.paint import AIR_HU
from training.organs.shapes import from_ellipsoids, from_label_map, with_right_kidney
from training.organs.tissues import CLASSES, INDEX, UNKNOWN

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
    """Return the tissues of one torso, ``(z, y, x)`` at 3 mm; with label maps half of them are built around one of these."""
    rng = np.random.default_rng(seed)
    kind = rng.random()
    if kind < 0.25:
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

    A department's corrections become training data this way, and what a model drew and a person signed does too.
    Outside all contours nobody said what lies there, so only the drawn regions teach; ``name`` is the patient's pseudonym, by which
    ``split`` keeps patients apart.
    """
    from mrtai.io.nifti import read_image, read_labels
    from mrtai.values.image import Quantity

    found = []
    for path in sorted(folder.rglob("results.json")):
        results = json.loads(path.read_text())
        if results["state"] not in CLOSED:
            continue
        images = path.parent / "images"
        ct, labels = read_image(images / "ct.nii.gz", Quantity.HOUNSFIELD), read_labels(images / "contours.nii.gz")
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


def read_anatomies(work: Path) -> list[Bytes]:
    """Return the anatomies of a work folder. ``FileNotFoundError`` when it has none."""
    paths = sorted(work.glob("anatomy-?????.npz"))
    if not paths:
        raise FileNotFoundError(f"no anatomies in {work}; make them with: python -m training.organs.data --work {work}")
    return [np.load(path)["tissue"] for path in paths]


def make_anatomies(work: Path, label_maps: Path | None, count: int, seed: int, workers: int = 1) -> None:
    """Write ``count`` anatomies into ``work`` by so many processes; those that are there already stay."""
    work.mkdir(parents=True, exist_ok=True)
    maps = [] if label_maps is None else sorted(label_maps.glob("*_labels.nii.gz"))
    write = partial(_write_anatomy, work, maps)
    seeds = range(seed, seed + count)
    if workers == 1:
        for number in track(seeds, description="anatomies"):
            write(number)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for _ in track(pool.map(write, seeds), total=count, description="anatomies"):
            pass


def _write_anatomy(work: Path, maps: Sequence[Path], seed: int) -> None:
    path = work / f"anatomy-{seed:05d}.npz"
    if not path.exists():
        np.savez_compressed(path.with_suffix(".part.npz"), tissue=make_anatomy(seed, maps))
        path.with_suffix(".part.npz").rename(path)


def main() -> None:
    """Make the anatomies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the anatomies")
    parser.add_argument("--label-maps", type=Path, help="folder with *_labels.nii.gz of abdominal organs to build around")
    parser.add_argument("--anatomies", type=int, default=160)
    parser.add_argument("--seed", type=int, default=1000, help="seed of the first anatomy")
    parser.add_argument("--workers", type=int, default=1, help="processes that make them")
    asked = parser.parse_args()
    make_anatomies(asked.work, asked.label_maps, asked.anatomies, asked.seed, asked.workers)


if __name__ == "__main__":
    main()
