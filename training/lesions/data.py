"""What the lesion network learns from: real PET with drawn lesions, simulated bodies, and reviewed cases; made once, kept as ``.npz``.

A *volume* is the network's input as ``lesion_input`` makes it, with the lesions on the same lattice. Patients, never volumes, are
split between training and test, and ``require_apart`` refuses a mixture.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.engines.lesion_input import LESION_CONTRACT, LOG_UPTAKE, lesion_input
from mrtai.engines.prepare import Map, on_lattice
from mrtai.io.nifti import read_image, read_labels
from mrtai.simulate.solids import rotation
from mrtai.units import FWHM_PER_SIGMA
from mrtai.values.grid import Grid
from mrtai.values.image import Quantity
from mrtai.values.ledger import CLOSED
from training.lesions import simulated

Floats = NDArray[np.float32]

QUANTITIES: Final = tuple(channel.quantity for channel in LESION_CONTRACT.channels)
COPIES: Final = 16
"""Turned, stretched and blurred copies of every real volume, the original first."""

PLACES: Final = 64
"""Voxels of a lesion that a patch may be centred on."""


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """One image as the network sees it.

    Attributes:
        patient: pseudonym; volumes of one patient are never in training and test at once.
        source: ``sts``, ``case``, ``pet`` or ``spect`` (the latter two simulated).
        image: ``(channels, z, y, x)``; half precision, since it is only stored.
        lesion: True inside a lesion, ``(z, y, x)``.
        lesions: where a patch may be centred to show a lesion, as many voxels of every lesion, ``(places, 3)``.
        hot: where to show high uptake that is none, likewise.
    """

    patient: str
    source: str
    image: torch.Tensor
    lesion: torch.Tensor
    lesions: NDArray[np.int16]
    hot: NDArray[np.int16]

    @property
    def is_real(self) -> bool:
        """Whether a patient was scanned."""
        return self.source in ("sts", "case")

    def on(self, device: str) -> "Volume":
        """Return the volume with its voxels on a device."""
        return replace(self, image=self.image.to(device), lesion=self.lesion.to(device))


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
        if said.get("state") in CLOSED:
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
    return _volume(scan.patient, scan.source, image, lesion)


def _volume(patient: str, source: str, image: Floats, lesion: NDArray[np.bool_]) -> Volume:
    rng = np.random.default_rng(list(patient.encode()))
    parts, count = ndimage.label(lesion)
    # a lesion voxel drawn from all would nearly always be one of the largest lesion
    lesions = [_places(parts == number, rng, PLACES) for number in range(1, count + 1)]
    hot = (image[QUANTITIES.index(LOG_UPTAKE)] > 1.0) & ~lesion
    return Volume(
        patient,
        source,
        torch.from_numpy(image.astype(np.float16)),
        torch.from_numpy(lesion),
        np.concatenate([*lesions, np.zeros((0, 3), dtype=np.int16)]),
        _places(hot if hot.any() else ~lesion, rng, 32 * PLACES),
    )


def _places(where: NDArray[np.bool_], rng: np.random.Generator, count: int) -> NDArray[np.int16]:
    """Return ``count`` voxels of a mask, drawn with repetition, ``(count, 3)``; none of an empty one."""
    flat = np.flatnonzero(where)
    drawn = flat[rng.integers(flat.size, size=count)] if flat.size else flat
    return np.stack(np.unravel_index(drawn, where.shape), axis=1).astype(np.int16)


def _moved(grid: Grid, *, turn: NDArray[np.float64], stretch: float) -> Grid:
    """Return the grid of a patient who is turned and ``stretch`` times as large."""
    return replace(grid, spacing_mm=grid.spacing_mm * stretch, origin_mm=turn @ grid.origin_mm * stretch, direction=turn @ grid.direction)


def simulated_volume(seed: int, kind: str) -> Volume:
    """Return the simulated volume of a seed; ``kind`` is ``pet`` or ``spect``."""
    made = simulated.scan(seed, kind, wider=True)
    return _volume(f"{kind}-{seed}", kind, simulated.network_input(made), made.lesion > 0)


def kept(path: Path, make: Callable[[], Volume]) -> Volume:
    """Return the volume kept at ``path``, made and kept first where there is none."""
    if not path.exists():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.npz")
        image, lesion = made.image.numpy(), made.lesion.numpy()
        np.savez(part, patient=made.patient, source=made.source, image=image, lesion=lesion, lesions=made.lesions, hot=made.hot)
        part.replace(path)
    with np.load(path) as stored:
        voxels = torch.from_numpy(stored["image"]), torch.from_numpy(stored["lesion"])
        return Volume(str(stored["patient"]), str(stored["source"]), *voxels, stored["lesions"], stored["hot"])


def real_volumes(scans: Sequence[Scan], work: Path, copies: int = COPIES) -> list[Volume]:
    """Return all copies of all scans, kept below ``work``."""
    return [_real(scan, number, copy, work) for number, scan in enumerate(scans) for copy in range(copies)]


def _real(scan: Scan, number: int, copy: int, work: Path) -> Volume:
    return kept(work / "volumes" / f"{scan.source}-{scan.patient}-{number}-{copy}.npz", partial(real_volume, scan, copy))


def simulated_volumes(seeds: Iterable[int], work: Path) -> list[Volume]:
    """Return a simulated PET for every even seed and a SPECT for every odd one, kept below ``work``."""
    return [_simulated(seed, work) for seed in seeds]


def _simulated(seed: int, work: Path) -> Volume:
    kind = "spect" if seed % 2 else "pet"
    return kept(work / "volumes" / f"{kind}-{seed}.npz", partial(simulated_volume, seed, kind))


def prepare(work: Path, seeds: Iterable[int], scans: Sequence[Scan], processes: int) -> None:
    """Make the volumes that are not kept below ``work`` yet, several at a time, the simulated ones first."""
    with ProcessPoolExecutor(processes) as workers:
        asked = [workers.submit(_there, _simulated, seed, work) for seed in seeds]
        asked += [workers.submit(_there, _real, scan, number, copy, work) for number, scan in enumerate(scans) for copy in range(COPIES)]
        for one in asked:
            one.result()


def _there(make: Callable[..., Volume], *of: Any) -> None:
    """Make a volume and send nothing back: it is on disk."""
    make(*of)


def folds(patients: Iterable[str], count: int = 5, seed: int = 7) -> list[tuple[str, ...]]:
    """Return ``count`` disjoint groups of patients that together are all of them."""
    names = sorted(set(patients))
    order = np.random.default_rng(seed).permutation(len(names))
    return [tuple(sorted(names[i] for i in order[start::count])) for start in range(count)]


def held_out_groups(scans: Iterable[Scan]) -> list[tuple[str, ...]]:
    """Return the folds of the sarcomas, of which figures are made; reviewed cases are learned from by all folds and are in no figure."""
    return folds(scan.patient for scan in scans if scan.source == "sts")


def require_apart(train: Iterable[str], test: Iterable[str]) -> None:
    """Raise ``ValueError`` when a patient is in both."""
    both = set(train) & set(test)
    if both:
        raise ValueError(f"training and test share {len(both)} of their patients; split by patient")


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
