"""Whole bodies whose physiological uptake is drawn at random: what a lesion network must learn to leave alone.

The simulator's torso gets a head, thighs, heart, bowel, glands and ureters. Uptake is relative to muscle and varies about the medians of
the tracer by ``SPREAD``; those are rough clinical experience, wide on purpose: the network shall know shapes and places, not numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrtai.simulate.anatomy import ORGANS, Anatomy, Tissue, torso
from mrtai.simulate.solids import Solid, Waves, turned
from mrtai.simulate.voxelise import Voxelised, voxelised
from mrtai.values.grid import Array, Grid

SPACING_MM = 4.0
SPREAD = 0.35
"""Standard deviation of the logarithm of an organ's uptake between patients."""

LIMITS_MM = {"pet": (-400.0, 376.0), "spect": (-300.0, 300.0)}
"""Lower and upper end of the longest view."""

# tissue: uptake relative to muscle for FDG, PSMA, DOTATATE and iodide
UPTAKE: dict[str, tuple[float, float, float, float]] = {
    "fat": (0.4, 0.4, 0.4, 0.5),
    "soft tissue": (1.0, 1.0, 1.0, 1.0),
    "left lung": (0.6, 0.6, 0.6, 0.5),
    "right lung": (0.6, 0.6, 0.6, 0.5),
    "stomach": (2.5, 2.5, 3.0, 15.0),
    "liver": (3.5, 9.0, 9.0, 3.0),
    "bladder": (25.0, 30.0, 25.0, 20.0),
    "spleen": (2.8, 9.0, 30.0, 1.5),
    "left kidney": (4.0, 50.0, 25.0, 3.0),
    "right kidney": (4.0, 50.0, 25.0, 3.0),
    "disc": (0.9, 0.8, 0.8, 0.7),
    "bone": (1.3, 1.0, 1.2, 0.9),
    "marrow": (2.2, 1.2, 1.8, 1.2),
    "brain": (11.0, 0.4, 0.5, 0.3),
    "skull": (1.0, 0.8, 0.8, 0.8),
    "parotid": (2.2, 25.0, 3.0, 12.0),
    "submandibular": (2.5, 25.0, 3.0, 12.0),
    "lacrimal": (1.5, 12.0, 1.5, 2.0),
    "thyroid": (1.8, 1.5, 3.0, 20.0),
    "pituitary": (3.0, 1.0, 10.0, 1.0),
    "adrenal": (1.5, 1.5, 7.0, 1.0),
    "myocardium": (6.0, 1.5, 1.5, 1.5),
    "blood": (2.0, 1.8, 1.6, 1.6),
    "gallbladder": (1.0, 12.0, 3.0, 2.0),
    "ureter": (12.0, 15.0, 12.0, 8.0),
    "bowel": (2.5, 9.0, 3.5, 5.0),
    "gas": (0.3, 0.3, 0.3, 0.3),
    "femur": (1.2, 1.0, 1.0, 0.8),
}
Add = Callable[..., None]
"""Adds a solid: name, HU, centre, half-axes, largest tilt."""

TRACERS = ("fdg", "psma", "dotatate", "iodide")
FICKLE = ("myocardium", "bowel", "ureter", "bladder", "gallbladder", "stomach")
"""Vary thrice as much, by fasting, time and hydration."""

PHYSIOLOGICAL_TISSUES = ("stomach", "bladder", "left kidney", "right kidney")
"""Drawn by the shipped organ model."""

FURTHER_TISSUES = ("brain", "parotid", "submandibular", "thyroid", "myocardium", "blood", "gallbladder", "bowel", "adrenal")
"""Drawn by larger organ models only."""

PARENCHYMA_TISSUES = ("liver", "spleen")
BACKGROUND_TISSUES = ("fat", "soft tissue", "left lung", "right lung", "disc", "bone", "marrow", "skull", "gas", "femur")
"""What late images are cleared of."""

FORBIDDEN = ("air", "gas", "skull", "lacrimal", "pituitary", "ureter", *PHYSIOLOGICAL_TISSUES, *FURTHER_TISSUES)
"""No lesion is put there."""

# centre, half-axes (x, y, z) [mm], HU; the left one of pairs, mirrored for the right
_SINGLE = {
    "brain": ((0, -8, 322), (64, 80, 58), 35.0),
    "thyroid": ((0, -28, 228), (24, 9, 18), 90.0),
    "pituitary": ((0, -22, 292), (6, 5, 5), 40.0),
    "blood": ((-4, 34, 0), (11, 11, 120), 45.0),
    "gallbladder": ((-48, -52, -22), (14, 15, 28), 10.0),
}
_PAIRED = {
    "parotid": ((54, 4, 262), (13, 19, 25), 20.0),
    "submandibular": ((30, -34, 240), (11, 15, 13), 35.0),
    "lacrimal": ((36, -66, 306), (6, 5, 7), 30.0),
    "adrenal": ((42, 34, 8), (6, 10, 16), 30.0),
}


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A body without lesions on the network's lattice.

    Attributes:
        voxels: its tissues; ``names`` of them by index.
        uptake: true concentration relative to muscle, ``(z, y, x)``; ``hounsfield`` likewise.
        tracer: one of ``TRACERS``.
    """

    voxels: Voxelised
    names: tuple[str, ...]
    uptake: NDArray[np.float32]
    hounsfield: NDArray[np.float32]
    tracer: str

    def share(self, tissues: tuple[str, ...]) -> NDArray[np.float32]:
        """Return which share of each voxel those tissues fill, ``(z, y, x)``."""
        return self.voxels.mixed(np.isin(self.names, tissues).astype(np.float64))


def body(rng: np.random.Generator, kind: str, clearance: float = 1.0) -> Body:
    """Return a random body in a random view of a ``pet`` or ``spect`` scanner.

    ``clearance``: how many times further than usual the background lies below the organs.
    """
    anatomy = _whole_body(rng)
    voxels = voxelised(anatomy, _view(rng, kind), per_edge=2)
    names = tuple(tissue.name for tissue in anatomy.tissues)
    tracer = TRACERS[int(rng.choice(4, p=(0.5, 0.25, 0.25, 0.0) if kind == "pet" else (0.0, 0.4, 0.4, 0.2)))]
    uptakes = _uptakes(rng, names, tracer) * np.where(np.isin(names, BACKGROUND_TISSUES), 1.0, clearance)
    return Body(voxels, names, voxels.mixed(uptakes), voxels.mixed(anatomy.hounsfield_of_tissue), tracer)


def _uptakes(rng: np.random.Generator, names: tuple[str, ...], tracer: str) -> Array:
    """Return the uptake of each tissue, shape ``(tissues,)``; both of a pair alike, each piece of bowel its own."""
    z = {name: rng.normal() for name in UPTAKE}
    z["right kidney"], z["right lung"] = z["left kidney"], z["left lung"]
    values = np.zeros(len(names))
    for index, name in enumerate(names):
        if name in UPTAKE:
            own = z[name] + (0.8 * rng.normal() if name in ("bowel", "ureter") else 0.0)
            spread = 3 * SPREAD if name in FICKLE else 0.0 if name == "soft tissue" else SPREAD
            values[index] = UPTAKE[name][TRACERS.index(tracer)] * np.exp(spread * 0.7 * own)
    return values


def _view(rng: np.random.Generator, kind: str) -> Grid:
    """Return the lattice of one view: at least 360 mm long, anywhere between the limits."""
    low, high = LIMITS_MM[kind]
    length = rng.uniform(360.0, high - low)
    start = rng.uniform(low, high - length)
    slices = int(length / SPACING_MM)
    origin = np.array([-53, -34, np.round(start / SPACING_MM)]) * SPACING_MM
    return Grid.axial((slices, 69, 107), (SPACING_MM,) * 3, origin)


def _whole_body(rng: np.random.Generator) -> Anatomy:
    """Return the simulator's torso without its lesions, and what else takes up activity."""
    drawn = torso(rng)
    trunk = [solid for solid in drawn.solids if solid.tissue < len(ORGANS)]
    index = {tissue.name: number for number, tissue in enumerate(ORGANS)}
    tissues, solids = list(ORGANS), [trunk[0], *_limbs(rng, index), *trunk[1:]]

    def add(name: str, hounsfield: float, centre: Array, half: Array, tilt_deg: float = 10.0) -> None:
        tissues.append(Tissue(name, "", hounsfield))
        solids.append(Solid(len(tissues) - 1, centre, half, turned(rng, tilt_deg), waves=Waves.drawn(rng, 0.03)))

    add("skull", 700.0, np.array([0.0, -8, 322]), np.array([70.0, 86, 64]), 0.0)
    for name, (place, size, hounsfield) in _SINGLE.items():
        centre = np.array(place, dtype=float) + rng.uniform(-3, 3, 3)
        add(name, hounsfield, centre, np.array(size) * rng.lognormal(0, 0.1, 3), 0.0 if name == "blood" else 6.0)
    for name, (place, size, hounsfield) in _PAIRED.items():
        for side in (1, -1):
            centre = (np.array(place) + rng.uniform(-3, 3, 3)) * (side, 1, 1)
            add(name, hounsfield, centre, np.array(size) * rng.lognormal(0, 0.12, 3))
    _heart(rng, add)
    _bowel(rng, add)
    _ureters(rng, add)
    for side in (1, -1):
        add("femur", 500.0, np.array([side * 88.0, 0, -340]), np.array([13.0, 13, 150]), 3.0)
    # the bladder lies in front of all that was painted after it
    solids.append(next(solid for solid in trunk if solid.tissue == index["bladder"]))
    return Anatomy(tuple(tissues), tuple(solids), drawn.regions, ())


def _limbs(rng: np.random.Generator, index: dict[str, int]) -> list[Solid]:
    """Return head, neck and thighs: fat around soft tissue."""
    parts = [((0, -6, 310), (78, 94, 84), (2.0, 2.0)), ((0, 4, 230), (58, 58, 60), (2.0, 8.0))]
    parts += [((side * 84, 4, -330), (80, 86, 170), (2.0, 6.0)) for side in (1, -1)]
    scale = rng.lognormal(0, 0.04, (len(parts), 1))
    made = []
    for thinner, tissue in ((0.0, "fat"), (5.0, "soft tissue")):
        for (centre, half, roundness), size in zip(parts, scale, strict=True):
            solid = Solid(index[tissue], np.array(centre, dtype=float), np.array(half) * size, np.eye(3), roundness)
            made.append(solid.grown(-thinner))
    return made


def _ureters(rng: np.random.Generator, add: Add) -> None:
    """Drops of urine between kidney and bladder."""
    for side in (1, -1):
        for _ in range(int(rng.integers(0, 4))):
            down = rng.uniform(0.2, 0.9)
            centre = np.array([side * (50 * (1 - down) + 22 * down), 38 - 55 * down, -60 - 95 * down])
            add("ureter", 20.0, centre + rng.uniform(-5, 5, 3), np.array([3.5, 3.5, rng.uniform(4, 18)]))


def _heart(rng: np.random.Generator, add: Add) -> None:
    centre = np.array([26.0, -42, 78]) + rng.uniform(-5, 5, 3)
    add("blood", 45.0, centre + np.array([-24.0, 6, 6]), np.array([34.0, 32, 40]))
    wall = np.array([36.0, 32, 44]) * rng.normal(1, 0.05)
    add("myocardium", 45.0, centre, wall, 25.0)
    add("blood", 45.0, centre, wall - 11, 25.0)


def _bowel(rng: np.random.Generator, add: Add) -> None:
    """Short bent tubes: a walk in the abdomen, each piece with an uptake of its own."""
    for _ in range(int(rng.integers(2, 5))):
        place = np.array([rng.uniform(-80, 80), rng.uniform(-70, -15), rng.uniform(-130, -20)])
        for _ in range(int(rng.integers(3, 9))):
            radius = rng.uniform(8, 16)
            half = np.array([radius, radius, radius * rng.uniform(1.2, 2.2)])
            add("bowel", rng.uniform(-20.0, 60.0), place, half, 90.0)
            if rng.random() < 0.6:
                # gas rises to the belly's side
                add("gas", -900.0, place - np.array([0.0, 0.4 * radius, 0.0]), half * rng.uniform(0.3, 0.6), 90.0)
            place = np.clip(place + rng.normal(0, 22, 3), (-100, -75, -140), (100, 5, -10))
