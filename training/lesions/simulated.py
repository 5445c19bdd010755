"""Simulated whole-body PET and SPECT with lesions whose outline is known: cheap, many, unlike one another.

Lesions of 0.3 to 200 mL, 2 to 50 times the uptake around them, lumpy, some with a cold core, lie anywhere but in organs with
physiological uptake. Blur, scatter and noise are those of clinical scanners, roughly.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.engines.lesion_input import LESION_CONTRACT, lesion_input
from mrtai.units import FWHM_PER_SIGMA, MM3_PER_ML
from mrtai.values.grid import Grid
from mrtai.values.labels import Labels
from training.lesions.bodies import (
    FORBIDDEN,
    FURTHER_TISSUES,
    PARENCHYMA_TISSUES,
    PHYSIOLOGICAL_TISSUES,
    SPACING_MM,
    Body,
    body,
)

Floats = NDArray[np.float32]

FWHM_MM = {"pet": (5.0, 8.0), "spect": (10.0, 16.0)}
NOISE = {"pet": (0.05, 0.25), "spect": (0.1, 0.4)}
"""Relative noise at the level of muscle."""

WIDER_FWHM_MM = {"pet": (4.0, 10.0), "spect": (8.0, 20.0)}
WIDER_NOISE = {"pet": (0.03, 0.4), "spect": (0.05, 0.6)}
"""Training alone sees scanners beyond those of the evaluation, and in half of its SPECT a background cleared up to …"""

CLEARANCE = 8.0
"""… times as far: what late images show."""

SITES = {"liver": 0.25, "marrow": 0.2, "bone": 0.05, "soft tissue": 0.4, "left lung": 0.05, "right lung": 0.05}
LARGEST_ML = {"liver": 80.0, "marrow": 15.0, "bone": 15.0, "left lung": 40.0, "right lung": 40.0}


@dataclass(frozen=True, slots=True)
class Lesion:
    """One lesion's truth: volume, and mean uptake over that of the tissue around it."""

    volume_ml: float
    contrast: float
    site: str


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """A simulated scan on the network's lattice.

    Attributes:
        uptake: as measured, any unit; ``hounsfield`` of the CT; both ``(z, y, x)``.
        lesion: number of the lesion, 0 elsewhere; ``lesions[number - 1]`` describes it.
        organs: contours as a segmenter would draw them.
    """

    kind: str
    tracer: str
    uptake: Floats
    hounsfield: Floats
    lesion: NDArray[np.uint8]
    lesions: tuple[Lesion, ...]
    organs: Labels

    @property
    def grid(self) -> Grid:
        """The lattice."""
        return self.organs.grid


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """Where a new lesion lies: its box, and in it the share of each voxel it fills and its uptake about 1."""

    box: tuple[slice, ...]
    share: Floats
    lumps: Floats
    site: str


@dataclass(frozen=True, slots=True, eq=False)
class _Maps:
    """What is painted on, all ``(z, y, x)``."""

    uptake: Floats
    hounsfield: Floats
    numbers: NDArray[np.uint8]


def scan(seed: int, kind: str, *, wider: bool = False) -> Scan:
    """Return the scan of a seed; ``kind`` is ``pet`` or ``spect``; ``wider`` scanners, clearances and organ models for training."""
    rng = np.random.default_rng([seed, kind == "spect"])
    clearance = float(np.exp(rng.uniform(0.0, np.log(CLEARANCE)))) if wider and kind == "spect" and rng.random() < 0.5 else 1.0
    patient = body(rng, kind, clearance)
    uptake = patient.uptake * _texture(rng, patient.uptake.shape, 0.12, 5.0)
    maps = _Maps(uptake, patient.hounsfield.copy(), np.zeros(uptake.shape, dtype=np.uint8))
    lesions: list[Lesion] = []
    forbidden = patient.share(FORBIDDEN)
    for _ in range(0 if rng.random() < 0.1 else int(rng.integers(1, 13))):
        place = _placed(rng, patient, maps.numbers, forbidden)
        if place is not None:
            lesions.append(_painted(rng, maps, len(lesions) + 1, place, clearance))
    organs = _contours(rng, patient, PHYSIOLOGICAL_TISSUES + (FURTHER_TISSUES if wider and rng.random() < 0.3 else ()))
    fwhm_mm, noise = (WIDER_FWHM_MM, WIDER_NOISE) if wider else (FWHM_MM, NOISE)
    measured, ct = _measured(rng, uptake, kind, fwhm_mm[kind], noise[kind]), _ct(rng, maps.hounsfield)
    return Scan(kind, patient.tracer, measured, ct, maps.numbers, tuple(lesions), organs)


def network_input(made: Scan) -> Floats:
    """Return the scan as the network sees it."""
    return lesion_input(made.uptake, made.grid, (made.hounsfield, made.grid), LESION_CONTRACT, organs=made.organs)[0]


def _texture(rng: np.random.Generator, shape: tuple[int, ...], relative_sd: float, sigma: float) -> Floats:
    field = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
    texture: Floats = np.exp(field * np.float32(relative_sd / field.std()))
    return texture


def _placed(rng: np.random.Generator, patient: Body, numbers: NDArray[np.uint8], forbidden: Floats) -> _Place | None:
    """Return a place for a new lesion where it touches no other, None where there is no room."""
    site = str(rng.choice(list(SITES), p=list(SITES.values())))
    volume_ml = float(np.exp(rng.uniform(np.log(0.5), np.log(LARGEST_ML.get(site, 200.0)))))
    where = np.flatnonzero(patient.voxels.centre == patient.names.index(site))
    if not where.size:
        return None
    for _ in range(10):
        share, lumps = lump(rng, volume_ml)
        centre = np.array(np.unravel_index(rng.choice(where), numbers.shape))
        box, inner = _overlap(centre - np.array(share.shape) // 2, share.shape, numbers.shape)
        kept = share[inner] * (forbidden[box] < 0.3)
        near = tuple(slice(max(b.start - 2, 0), b.stop + 2) for b in box)
        # most of it must find room, and two voxels of distance keep lesions apart
        if kept.sum() > 0.7 * share.sum() and (kept >= 0.5).sum() >= 4 and not numbers[near].any():
            return _Place(box, kept.astype(np.float32), lumps[inner], site)
    return None


def _overlap(start: NDArray[np.int_], part: tuple[int, ...], whole: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return what a part that begins at ``start`` covers, in the whole's indices and in its own."""
    inner = tuple(slice(max(0, -a), max(0, min(n, m - a))) for a, n, m in zip(start.tolist(), part, whole, strict=True))
    box = tuple(slice(max(a, 0), max(a, 0) + i.stop - i.start) for a, i in zip(start.tolist(), inner, strict=True))
    return box, inner


def lump(rng: np.random.Generator, volume_ml: float) -> tuple[Floats, Floats]:
    """Return the share of each voxel that an irregular lesion fills, and its uptake about 1; both ``(z, y, x)``, a margin around."""
    fine_mm = SPACING_MM / 2
    radius = (volume_ml * MM3_PER_ML * 3 / (4 * np.pi)) ** (1 / 3) / fine_mm
    axes = rng.lognormal(0, 0.25, 3)
    axes /= np.prod(axes) ** (1 / 3)
    half = int(np.ceil(radius * axes.max() * 1.5)) + 4
    side = 2 * (half + half % 2)
    points = np.stack(np.meshgrid(*[np.arange(side) - (side - 1) / 2 + rng.uniform(-1, 1)] * 3, indexing="ij"), axis=-1)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    distance = np.linalg.norm((points @ turn) / (radius * axes), axis=-1)
    noise = ndimage.gaussian_filter(rng.standard_normal((side,) * 3), max(radius * 0.35, 1.0))
    rough = distance + rng.uniform(0.0, 0.3) * noise / noise.std()
    # the level that gives the volume wanted
    voxels = int(volume_ml * MM3_PER_ML / fine_mm**3)
    inside = rough <= np.partition(rough.ravel(), voxels)[voxels]
    parts, count = ndimage.label(inside)
    if count > 1:
        inside = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    grain = ndimage.gaussian_filter(rng.standard_normal((side,) * 3), max(radius * 0.25, 1.0))
    uptake = np.exp(rng.uniform(0.0, 0.5) * grain / grain.std())
    if rng.random() < (0.5 if volume_ml > 30 else 0.15):
        core = rough < rng.uniform(0.4, 0.8) * rough[inside].max()
        uptake[core] *= rng.uniform(0.1, 0.5)
    return _halved(inside), _halved(uptake)


def _halved(fine: NDArray[np.generic]) -> Floats:
    n = fine.shape[0] // 2
    halved: Floats = fine.astype(np.float32).reshape(n, 2, n, 2, n, 2).mean(axis=(1, 3, 5))
    return halved


def _painted(rng: np.random.Generator, maps: _Maps, number: int, place: _Place, clearance: float) -> Lesion:
    """Paint a lesion into the maps and return its truth; over a cleared background its contrast may be higher."""
    box, share = place.box, place.share
    inside = share >= 0.5
    ring = ndimage.binary_dilation(inside, iterations=3) & (share == 0)
    around = float(np.median(maps.uptake[box][ring])) if ring.any() else 1.0
    contrast = float(np.exp(rng.uniform(np.log(2.0), np.log(50.0 * clearance if around < 4 else 20.0))))
    level = contrast * around * place.lumps / place.lumps[inside].mean()
    hounsfield = 300.0 if place.site in ("marrow", "bone") else rng.normal(40.0, 12.0)
    maps.uptake[box] = maps.uptake[box] * (1 - share) + level * share
    maps.hounsfield[box] = maps.hounsfield[box] * (1 - share) + share * hounsfield
    maps.numbers[box][inside] = number
    return Lesion(float(share.sum()) * SPACING_MM**3 / MM3_PER_ML, contrast, place.site)


def _measured(
    rng: np.random.Generator, uptake: Floats, kind: str, fwhm_mm: tuple[float, float], noise_level: tuple[float, float]
) -> Floats:
    """Return the map blurred, with some scatter and noise that grows with the root of uptake."""
    sigma = rng.uniform(*fwhm_mm) / FWHM_PER_SIGMA / SPACING_MM
    seen = ndimage.gaussian_filter(uptake, sigma)
    if kind == "spect":
        share = rng.uniform(0.0, 0.08)
        seen = (1 - share) * seen + share * ndimage.gaussian_filter(uptake, 50.0 / SPACING_MM, truncate=2.5)
    noise = ndimage.gaussian_filter(rng.standard_normal(uptake.shape, dtype=np.float32), 0.6 * sigma)
    noise *= np.float32(rng.uniform(*noise_level)) / noise.std()
    measured: Floats = np.maximum(seen + np.sqrt(np.maximum(seen, 0)) * noise, 0).astype(np.float32)
    return measured


def _ct(rng: np.random.Generator, hounsfield: Floats) -> Floats:
    noise = ndimage.gaussian_filter(rng.standard_normal(hounsfield.shape, dtype=np.float32), 0.5)
    ct: Floats = ndimage.gaussian_filter(hounsfield, 0.3) + noise * np.float32(rng.uniform(8, 35)) / noise.std()
    return ct


def _around(share: Floats) -> tuple[tuple[slice, ...], Floats]:
    """Return the box that holds an organ and what a shift by some voxels may reach, and the organ in it."""
    found = ndimage.find_objects((share > 0).view(np.uint8))
    if not found:
        return (slice(0, 0),) * 3, share[:0, :0, :0]
    box = tuple(slice(max(part.start - 4, 0), part.stop + 4) for part in found[0])
    return box, share[box]


def _contours(rng: np.random.Generator, patient: Body, physiological: tuple[str, ...]) -> Labels:
    """Return what a segmenter would draw: borders a little off, now and then an organ missed."""
    grid = patient.voxels.grid
    voxels = np.zeros(grid.shape, dtype=np.uint8)
    # the names stand for their group, as the network's input knows no single organs
    for value, tissues in ((1, physiological), (2, PARENCHYMA_TISSUES)):
        for name in tissues:
            if rng.random() < 0.95:
                box, share = _around(patient.share((name,)))
                moved = ndimage.shift(share, rng.normal(0, 0.5, 3), order=1)
                voxels[box][moved > rng.uniform(0.25, 0.75)] = value
    return Labels(voxels, {1: "kidney_left", 2: "liver"}, grid)
