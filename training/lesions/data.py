"""What the lesion network learns from: real PET with drawn lesions, simulated bodies, and reviewed cases; made once, kept as ``.npz``.

A *volume* is the network's input as ``lesion_input`` makes it, with the lesions on the same lattice. Patients, never volumes, are
split between training and test, and ``require_apart`` refuses a mixture.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.engines.lesion_input import HOUNSFIELD, LESION_CONTRACT, LOG_UPTAKE, PARENCHYMA, PHYSIOLOGICAL, lesion_input
from mrtai.engines.prepare import Map, on_lattice
from mrtai.io.nifti import read_image, read_labels
from mrtai.simulate.solids import rotation
from mrtai.units import FWHM_PER_SIGMA
from mrtai.values.grid import Grid
from mrtai.values.image import Quantity
from training.lesions import simulated

Floats = NDArray[np.float32]

QUANTITIES: Final = tuple(channel.quantity for channel in LESION_CONTRACT.channels)
OUTSIDE: Final = np.array([(np.clip(c.outside, c.low, c.high) - c.shift) / c.scale for c in LESION_CONTRACT.channels], dtype=np.float32)
"""What each channel says beyond the image."""

LARGEST_CUT: Final = 15
"""Voxels taken from each end of a real volume, at random, whenever a patch is drawn from it."""

COPIES: Final = 8
"""Turned, stretched and blurred copies of every real volume, the original first."""


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """One image as the network sees it.

    Attributes:
        patient: pseudonym; volumes of one patient are never in training and test at once.
        source: ``sts``, ``case``, ``pet`` or ``spect`` (the latter two simulated).
        image: ``(channels, z, y, x)``; half precision, since it is only stored.
        lesion: True inside a lesion, ``(z, y, x)``.
    """

    patient: str
    source: str
    image: NDArray[np.float16]
    lesion: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """One real scan with its drawn lesions on the grid they were drawn on."""

    patient: str
    source: str
    uptake: tuple[Floats, Grid]
    lesion: tuple[Floats, Grid]
    ct: Map | None


def sts_scans(folder: Path) -> list[Scan]:
    """Return the soft-tissue sarcomas of a folder ``STS_<n>/pet_suv.nii.gz, pet_label.nii.gz``, ``ct.nii.gz`` where there is one."""
    return [_sts_scan(path) for path in sorted(folder.glob("STS_*"))]


def _sts_scan(folder: Path) -> Scan:
    pet, ct = _map(folder / "pet_suv.nii.gz", Quantity.ACTIVITY_CONCENTRATION), folder / "ct.nii.gz"
    drawn = _map(folder / "pet_label.nii.gz", Quantity.ACTIVITY_CONCENTRATION)
    return Scan(folder.name, "sts", pet, drawn, _map(ct, Quantity.HOUNSFIELD) if ct.exists() else None)


def case_scans(folder: Path) -> list[Scan]:
    """Return the reviewed cases below a folder: every ``CASE`` that a person has signed, one scan for each aligned SPECT."""
    scans: list[Scan] = []
    for results in sorted(folder.rglob("results.json")):
        said = json.loads(results.read_text(encoding="utf-8"))
        if said.get("state") in ("signed", "released"):
            scans += _of_case(results.parent / "images", str(said["patient"]["pseudonym"]))
    return scans


def _of_case(images: Path, patient: str) -> list[Scan]:
    labels, ct = read_labels(images / "labels.nii.gz"), images / "ct.nii.gz"
    values = [value for value, name in labels.names.items() if name.startswith("lesion_")]
    lesion = np.isin(labels.voxels, values).astype(np.float32), labels.grid
    hounsfield = _map(ct, Quantity.HOUNSFIELD) if ct.exists() else None
    spects = [_map(path, Quantity.ACTIVITY_CONCENTRATION) for path in sorted(images.glob("spect_*.nii.gz"))]
    return [Scan(patient, "case", spect, lesion, hounsfield) for spect in spects]


def _map(path: Path, quantity: Quantity) -> tuple[Floats, Grid]:
    image = read_image(path, quantity)
    return image.voxels.astype(np.float32), image.grid


def real_volume(scan: Scan, copy: int) -> Volume:
    """Return a scan as a volume; copies beyond 0 are turned, stretched and some blurred like a SPECT, the same for the same number."""
    rng = np.random.default_rng([copy, *scan.patient.encode()])
    moved = (lambda grid: grid) if copy == 0 else partial(_moved, turn=rotation(rng.uniform(-0.35, 0.35, 3)), stretch=rng.uniform(0.8, 1.3))
    uptake, grid = scan.uptake
    if copy and rng.random() < 0.35:
        sigma = rng.uniform(6.0, 14.0) / FWHM_PER_SIGMA / grid.spacing_mm[::-1]
        uptake = ndimage.gaussian_filter(uptake, sigma)
    ct = None if scan.ct is None else (scan.ct[0], moved(scan.ct[1]))
    image, lattice = lesion_input(uptake, moved(grid), ct, LESION_CONTRACT)
    lesion = on_lattice(scan.lesion[0], moved(scan.lesion[1]), lattice, 0.0) >= 0.5
    return Volume(scan.patient, scan.source, image.astype(np.float16), lesion)


def _moved(grid: Grid, *, turn: NDArray[np.float64], stretch: float) -> Grid:
    """Return the grid of a patient who is turned and ``stretch`` times as large."""
    return replace(grid, spacing_mm=grid.spacing_mm * stretch, origin_mm=turn @ grid.origin_mm * stretch, direction=turn @ grid.direction)


def simulated_volume(seed: int, kind: str) -> Volume:
    """Return the simulated volume of a seed; ``kind`` is ``pet`` or ``spect``."""
    made = simulated.scan(seed, kind)
    image = simulated.network_input(made, np.random.default_rng([seed, 1]))
    return Volume(f"{kind}-{seed}", kind, image.astype(np.float16), made.lesion > 0)


def kept(path: Path, make: Callable[[], Volume]) -> Volume:
    """Return the volume kept at ``path``, made and kept first where there is none."""
    if not path.exists():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(part, patient=made.patient, source=made.source, image=made.image, lesion=made.lesion)
        part.replace(path)
    with np.load(path) as stored:
        return Volume(str(stored["patient"]), str(stored["source"]), stored["image"], stored["lesion"])


def real_volumes(scans: Sequence[Scan], work: Path, copies: int = COPIES) -> list[Volume]:
    """Return all copies of all scans, kept below ``work``."""
    return [
        kept(work / "volumes" / f"{scan.source}-{scan.patient}-{number}-{copy}.npz", partial(real_volume, scan, copy))
        for number, scan in enumerate(scans)
        for copy in range(copies)
    ]


def simulated_volumes(seeds: Iterable[int], work: Path) -> list[Volume]:
    """Return a simulated PET for every even seed and a SPECT for every odd one, kept below ``work``."""
    kinds = [(seed, "spect" if seed % 2 else "pet") for seed in seeds]
    return [kept(work / "volumes" / f"{kind}-{seed}.npz", partial(simulated_volume, seed, kind)) for seed, kind in kinds]


def folds(patients: Iterable[str], count: int = 5, seed: int = 7) -> list[tuple[str, ...]]:
    """Return ``count`` disjoint groups of patients that together are all of them."""
    names = sorted(set(patients))
    order = np.random.default_rng(seed).permutation(len(names))
    return [tuple(sorted(names[i] for i in order[start::count])) for start in range(count)]


def require_apart(train: Iterable[str], test: Iterable[str]) -> None:
    """Raise ``ValueError`` when a patient is in both."""
    both = set(train) & set(test)
    if both:
        raise ValueError(f"training and test share {len(both)} of their patients; split by patient")


def batch(real: Sequence[Volume], made: Sequence[Volume], *, size: int, edge: int, key: Sequence[int]) -> tuple[Floats, NDArray[np.int64]]:
    """Return patches ``(n, channels, edge, edge, edge)`` with their labels ``(n, edge, edge, edge)``, the same for the same ``key``.

    Half of them are real where there are real volumes and simulated ones.
    """
    rng = np.random.default_rng(key)
    pools = [pool for pool in (real, made) if pool]
    drawn = [_patch(pool[int(rng.integers(len(pool)))], edge, rng) for n in range(size) for pool in [pools[n % len(pools)]]]
    return np.stack([image for image, _ in drawn]), np.stack([lesion for _, lesion in drawn])


def _patch(volume: Volume, edge: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.int64]]:
    start = _centre(volume, rng) - edge // 2 + rng.integers(-edge // 4, edge // 4 + 1, 3)
    image = np.empty((len(QUANTITIES), edge, edge, edge), dtype=np.float32)
    image[:] = OUTSIDE[:, None, None, None]
    lesion = np.zeros((edge,) * 3, dtype=np.int64)
    low, high = np.maximum(start, 0), np.minimum(start + edge, volume.lesion.shape)
    real = volume.source in ("sts", "case")
    if real:
        # crops end at a fixed distance from their lesion: where the image ends must tell nothing
        ends = np.minimum(rng.integers(0, LARGEST_CUT, (2, 3)), np.array(volume.lesion.shape) // 5)
        low, high = np.maximum(low, ends[0]), np.minimum(high, volume.lesion.shape - ends[1])
    there = tuple(slice(a, max(a, b)) for a, b in zip(low, high, strict=True))
    here = tuple(slice(a - s, max(a, b) - s) for a, b, s in zip(low, high, start, strict=True))
    image[(slice(None), *here)] = volume.image[(slice(None), *there)]
    lesion[here] = volume.lesion[there]
    return _varied(image, lesion, rng, real=real)


def _centre(volume: Volume, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the middle of a patch: in a lesion, at high uptake that is none, or anywhere."""
    kind = rng.random()
    if kind < 0.5 and volume.lesion.any():
        # a lesion voxel drawn from all would nearly always be one of the largest lesion
        parts, count = ndimage.label(volume.lesion)
        where = parts == rng.integers(1, count + 1)
    elif kind < 0.8:
        hot = (volume.image[0] > 1.0) & ~volume.lesion
        where = hot if hot.any() else ~volume.lesion
    else:
        return np.array([rng.integers(n) for n in volume.lesion.shape])
    flat = np.flatnonzero(where)
    return np.array(np.unravel_index(flat[rng.integers(flat.size)], where.shape))


def _varied(image: Floats, lesion: NDArray[np.int64], rng: np.random.Generator, *, real: bool) -> tuple[Floats, NDArray[np.int64]]:
    """Return a patch with another body level, mirrored, with CT or organs left out now and then."""
    index = {quantity: number for number, quantity in enumerate(QUANTITIES)}
    log_channel = LESION_CONTRACT.channels[index[LOG_UPTAKE]]
    relative = np.expm1(image[index[LOG_UPTAKE]] * log_channel.scale + log_channel.shift)
    image[index[LOG_UPTAKE]] = (np.log1p(relative * np.float32(rng.lognormal(0.0, 0.25))) - log_channel.shift) / log_channel.scale
    if rng.random() < 0.35:
        image[index[HOUNSFIELD]] = OUTSIDE[index[HOUNSFIELD]]
    if rng.random() < 0.25:
        image[[index[PHYSIOLOGICAL], index[PARENCHYMA]]] = 0
    # head and belly stay where they are, except in crops that show no whole body
    axes = [axis for axis in ((0, 1, 2) if real else (2,)) if rng.random() < 0.5]
    return np.flip(image, tuple(axis + 1 for axis in axes)).copy(), np.flip(lesion, tuple(axes)).copy()


def summary(volumes: Sequence[Volume]) -> dict[str, Any]:
    """Return how many volumes and patients of each source there are, for the log."""
    sources = sorted({volume.source for volume in volumes})
    return {
        source: {
            "volumes": sum(volume.source == source for volume in volumes),
            "patients": len({volume.patient for volume in volumes if volume.source == source}),
        }
        for source in sources
    }
