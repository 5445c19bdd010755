"""A torso drawn at random from formulas: body, organs, spine with marrow, and lesions.

Sizes follow ICRP 89's adult organs with about 10 % spread a side; kidneys lie in fat, as in patients. Positions are LPS
millimetres around the middle of the view (liver on the patient's right: x negative; kidneys at the back: y positive; head:
z positive). The torso is closed at both ends inside the view, so nothing is cut.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mrtai.simulate.solids import Reals, Solid, Waves, turned
from mrtai.units import MM3_PER_ML
from mrtai.values.grid import Array

AIR = 0
OUTSIDE = -1
"""Region number of air around the body; 0 is the body in no region."""

FAT_MM = 12.0
HULL_MM = 3.0
PERIRENAL_FAT_MM = 8.0
LESION_GAP_MM = 6.0
VERTEBRA_PITCH_MM = 35.0


@dataclass(frozen=True, slots=True)
class Tissue:
    """What fills a solid: its region (None for air, empty for the body in no region) and its CT number."""

    name: str
    region: str | None
    hounsfield: float


ORGANS = (
    Tissue("air", None, -1000.0),
    Tissue("fat", "", -90.0),
    Tissue("soft tissue", "", 35.0),
    Tissue("left lung", "lung_left", -740.0),
    Tissue("right lung", "lung_right", -740.0),
    Tissue("stomach", "stomach", 25.0),
    Tissue("liver", "liver", 55.0),
    Tissue("bladder", "urinary_bladder", 8.0),
    Tissue("spleen", "spleen", 48.0),
    Tissue("left kidney", "kidney_left", 36.0),
    Tissue("right kidney", "kidney_right", 36.0),
    Tissue("disc", "spine", 80.0),
    Tissue("bone", "spine", 550.0),
    Tissue("marrow", "red_marrow", 160.0),
)
_INDEX = {tissue.name: index for index, tissue in enumerate(ORGANS)}

# name: centre, half-axes (x, y, z) [mm], exponents, largest tilt [deg], roughness of the surface
_SOFT_ORGANS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float], float, float]] = {
    "left lung": ((86, -2, 110), (54, 74, 84), (2.4, 2.4), 3, 0.02),
    "right lung": ((-86, -2, 112), (56, 76, 82), (2.4, 2.4), 3, 0.02),
    "stomach": ((62, -48, 22), (46, 32, 38), (2.0, 2.0), 12, 0.03),
    "liver": ((-62, -14, 14), (88, 68, 62), (2.0, 2.0), 6, 0.03),
    "bladder": ((0, -32, -168), (38, 32, 30), (2.0, 2.0), 4, 0.02),
    "spleen": ((108, 38, 30), (24, 38, 48), (2.0, 2.0), 10, 0.03),
    "left kidney": ((66, 44, -54), (27, 25, 54), (2.0, 2.0), 8, 0.02),
    "right kidney": ((-66, 46, -64), (27, 25, 53), (2.0, 2.0), 8, 0.02),
}


Renders = Callable[["Anatomy"], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """Solids of tissue; where two overlap the later one wins.

    Attributes:
        tissues: by tissue index.
        solids: in painting order.
        regions: names of the exclusive regions; region number is position + 1, 0 the rest of the body, ``OUTSIDE`` air.
        liver_lesions: names of the lesions that lie in the liver.
    """

    tissues: tuple[Tissue, ...]
    solids: tuple[Solid, ...]
    regions: tuple[str, ...]
    liver_lesions: tuple[str, ...]

    @property
    def region_of_tissue(self) -> NDArray[np.int_]:
        """Region number of each tissue, shape ``(tissues,)``."""
        number = {name: index + 1 for index, name in enumerate(self.regions)} | {"": 0}
        return np.array([OUTSIDE if t.region is None else number[t.region] for t in self.tissues])

    @property
    def hounsfield_of_tissue(self) -> Array:
        """CT number of each tissue, shape ``(tissues,)``."""
        return np.array([tissue.hounsfield for tissue in self.tissues])

    def tissue_at(self, points_mm: Reals) -> NDArray[np.uint8]:
        """Return the tissue index at points, shape ``(points, 3)`` LPS."""
        found = np.zeros(len(points_mm), dtype=np.uint8)
        x, y, z = np.ascontiguousarray(points_mm.T)
        for solid in self.solids:
            (cx, cy, cz), (rx, ry, rz) = solid.centre_mm, solid.reach_mm
            near = np.flatnonzero(np.abs(z - cz) < rz)
            near = near[(np.abs(x[near] - cx) < rx) & (np.abs(y[near] - cy) < ry)]
            if near.size:
                u, v, w = solid.local(points_mm[near]).T
                found[near[solid.holds(u, v, w)]] = solid.tissue
        return found


def torso(rng: np.random.Generator, *, only_liver_lesions: bool = False, renders: Renders | None = None) -> Anatomy:
    """Return a random anatomy with three to six lesions, at least one in the liver.

    A lesion is placed anew until ``renders`` (where given) accepts the anatomy that has it as its last region.
    """
    size = rng.normal(1.0, 0.03)
    *others, left, right = [*_body(rng, size), *(_organ(rng, name, size) for name in _SOFT_ORGANS)]
    # kidneys and the soft tissue around them have one CT number: as in patients, only the fat between shows where they end
    fat = [replace(kidney.grown(PERIRENAL_FAT_MM), tissue=_INDEX["fat"]) for kidney in (left, right)]
    solids = [*others, *fat, left, right, *_spine(rng, size)]
    regions = tuple(dict.fromkeys(t.region for t in ORGANS if t.region))
    anatomy = Anatomy(ORGANS, tuple(solids), regions, ())
    count = int(rng.integers(3, 7))
    in_liver = count if only_liver_lesions else int(rng.integers(1, count - 1))
    sites = ["liver"] * in_liver + [str(rng.choice(["node", "pelvis", "bone"])) for _ in range(count - in_liver)]
    for number, site in enumerate(sites, start=1):
        anatomy = _with_lesion(anatomy, rng, number, site, renders or _anyhow)
    return anatomy


def _anyhow(_: Anatomy) -> bool:
    return True


def _body(rng: np.random.Generator, size: float) -> list[Solid]:
    half = np.array([172.0, 112.0, 212.0]) * size * rng.normal(1.0, (0.03, 0.04, 0.01))
    half = np.clip(half, (150, 105, 195), (190, 128, 215))
    skin = Solid(_INDEX["fat"], np.zeros(3), half, np.eye(3), (2.5, 8.0), Waves.drawn(rng, 0.01))
    return [skin, replace(skin.grown(-FAT_MM), tissue=_INDEX["soft tissue"])]


def _organ(rng: np.random.Generator, name: str, size: float) -> Solid:
    centre, half, roundness, tilt_deg, roughness = _SOFT_ORGANS[name]
    middle = np.array(centre) * size + rng.uniform(-4, 4, 3)
    return Solid(
        _INDEX[name],
        middle,
        np.array(half) * size * rng.lognormal(0, 0.06, 3),
        turned(rng, tilt_deg),
        roundness,
        Waves.drawn(rng, roughness),
    )


def _spine(rng: np.random.Generator, size: float) -> list[Solid]:
    """Return discs, vertebral bodies with a hull of bone around marrow, and the arches behind them."""
    half = np.array([23.0, 18.0, 13.5]) * size * rng.normal(1.0, 0.04)
    bend_mm, phase = rng.uniform(4, 9), rng.uniform(-0.3, 0.3)
    back_mm = 64.0 * size
    solids = []
    for z in np.arange(-5, 6) * VERTEBRA_PITCH_MM:
        middle = np.array([0.0, back_mm + bend_mm * np.sin(z / 70.0 + phase), z])
        bone = Solid(_INDEX["bone"], middle, half, np.eye(3), (2.0, 8.0))
        arch = replace(bone, centre_mm=middle + np.array([0, half[1] + 6, 0]), half_mm=np.array([9.0, 12.0, 10.0]), roundness=(2.0, 2.0))
        disc = Solid(_INDEX["disc"], middle + np.array([0, 0, VERTEBRA_PITCH_MM / 2]), half * (0.95, 0.95, 0.45), np.eye(3), (2.0, 8.0))
        solids += [disc, arch, bone, replace(bone.grown(-HULL_MM), tissue=_INDEX["marrow"])]
    return solids


def _with_lesion(anatomy: Anatomy, rng: np.random.Generator, number: int, site: str, renders: Renders) -> Anatomy:
    """Return the anatomy with one lesion more, placed where it and a margin around it fit the site."""
    name = f"lesion_{number}"
    hounsfield, allowed, gap_mm = {
        "liver": (45.0, {"liver"}, LESION_GAP_MM),
        "node": (42.0, {"soft tissue", "fat"}, LESION_GAP_MM),
        "pelvis": (42.0, {"soft tissue"}, LESION_GAP_MM),
        "bone": (320.0, {"bone", "marrow"}, 0.5),
    }[site]
    tissues = (*anatomy.tissues, Tissue(name, name, hounsfield))
    for attempt in range(4000):
        # a crowded site gets smaller lesions the longer the search lasts
        lesion = _lesion_candidate(anatomy, rng, site, shrink=0.9 ** (attempt // 250))
        lesion = replace(lesion, tissue=len(anatomy.tissues))
        if {anatomy.tissues[t].name for t in anatomy.tissue_at(_surface(lesion, gap_mm))} <= allowed:
            in_liver = (*anatomy.liver_lesions, name) if site == "liver" else anatomy.liver_lesions
            placed = Anatomy(tissues, (*anatomy.solids, lesion), (*anatomy.regions, name), in_liver)
            if renders(placed):
                return placed
    raise ValueError(f"{name}: no room found at site {site}")


def _lesion_candidate(anatomy: Anatomy, rng: np.random.Generator, site: str, *, shrink: float) -> Solid:
    bones = [solid for solid in anatomy.solids if solid.tissue == _INDEX["bone"] and solid.roundness[1] > 2]
    liver = next(solid for solid in anatomy.solids if solid.tissue == _INDEX["liver"])
    waves, axes, shape = Waves.drawn(rng, 0.02), turned(rng, 40), rng.lognormal(0, 0.12, 3)
    volume_ml = max(8.0, shrink * float(np.exp(rng.uniform(np.log(12.0), np.log(40.0)))))
    if site == "bone":
        bone = bones[int(rng.integers(1, len(bones) - 1))]
        waves, axes, shape, volume_ml = Waves.drawn(rng, 0.01), np.eye(3), bone.half_mm - (3, 2, 1), rng.uniform(5.0, 9.0)
        centre = bone.centre_mm + rng.uniform(-2, 2, 3) * (1, 1, 0.3)
    elif site == "liver":
        centre = liver.centre_mm + liver.axes @ (rng.uniform(-0.75, 0.75, 3) * liver.half_mm)
    elif site == "node":
        centre = np.array([rng.uniform(-35, 35), rng.uniform(-5, 40), rng.uniform(-135, -60)])
    else:
        centre = np.array([rng.choice([-1, 1]) * rng.uniform(45, 95), rng.uniform(-30, 50), rng.uniform(-185, -135)])
    half = shape * (volume_ml * MM3_PER_ML / (4 / 3 * np.pi * np.prod(shape))) ** (1 / 3)
    return Solid(AIR, centre, half, axes, waves=waves)


def _surface(solid: Solid, gap_mm: float) -> Array:
    """Return points in and on the solid's enclosing ellipsoid and ``gap_mm`` beyond it, shape ``(points, 3)`` LPS."""
    steps = np.arange(120) + 0.5
    z, turn = 1 - 2 * steps / steps.size, np.pi * (1 + np.sqrt(5)) * steps
    sphere = np.stack([np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn), z], axis=1)
    half = solid.half_mm * (1 + np.abs(solid.waves.amplitude).sum()) + gap_mm
    shells = np.concatenate([sphere, 0.7 * sphere, 0.35 * sphere])
    points: Array = (shells * half) @ solid.axes.T + solid.centre_mm
    return points
