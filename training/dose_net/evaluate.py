"""Patients that `dose-net` is judged by: torsos of another generator, under cameras of other resolution, counts and scatter.

A case is kept in three files of a work folder, each made once: its tissues, what engines are given, and the Monte Carlo of its true
activity, which takes minutes.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.engines.dose_net_input import body_box
from mrtai.simulate.scanner import Camera
from mrtai.values.calibration import Recovery
from mrtai.values.dose import Dose
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from training.dose_net.bodies import FIELD_MM, Body, body_of
from training.dose_net.data import convolved, on, true_dose
from training.dose_net.scans import AGENTS, Conditions, Scanned, World, scanned, walked
from training.organs.tissues import CLASSES, LABEL_OF_TISSUE, drawn_hounsfield

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

FIRST_SEED: Final = 2_000_000
SPECT_MM: Final = 4.8
GRID: Final = Grid.axial((int(FIELD_MM[0] / SPECT_MM), int(FIELD_MM[1] / SPECT_MM), int(FIELD_MM[1] / SPECT_MM)), (SPECT_MM,) * 3)
FWHM_MM: Final = (11.0 * 0.8, 11.0 * 1.2)
COUNT_LEVEL: Final = (0.6, 1.7)
SCATTER: Final = (0.02, 0.09)
TIMES_H: Final = (24.0, 96.0, 168.0)
NOT_TOLD: Final = ("background", "body", "aorta")
AROUND: Final = 2
"""Voxels around the regions whose true dose is kept, too."""


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What engines are given of a case, on the body's box, and what they make of it without a network.

    Attributes:
        tia, recovered_tia, density: as the walk has them, the TIA map without and with recovery.
        convolution, recovery: dose [Gy] without and with recovery correction, ``(z, y, x)``.
        regions: exclusive regions by ``names``, 255 outside the body; contours are true.
        fwhm_mm: of the camera.
    """

    tia: Image
    recovered_tia: Image
    density: Image
    convolution: Floats
    recovery: Floats
    regions: Bytes
    names: dict[int, str]
    fwhm_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A dose that was calculated before, as the engine that gives it."""

    dose: Image

    def __call__(self, tia: Image, density: Image) -> Dose:
        """Return the dose; see ``ports.DoseEngine``."""
        return Dose({"electron": self.dose})


def body(seed: int, tissue: Bytes) -> Body:
    """Return the body of a tissue map on ``GRID``, with lesions and uneven uptake."""
    rng = np.random.default_rng((seed, 3))
    hounsfield = drawn_hounsfield(rng, 1)[0][0]
    names = {value: name for value, name in enumerate(CLASSES) if name not in NOT_TOLD}
    region = LABEL_OF_TISSUE[tissue]
    exclusive = np.where(np.isin(region, list(names)), region, 0).astype(np.uint8)
    return body_of(rng, exclusive, names, region != CLASSES.index("background"), hounsfield[tissue], GRID)


def conditions(seed: int) -> Conditions:
    """Return how a judged patient is scanned."""
    rng = np.random.default_rng((seed, 1))
    camera = Camera(fwhm_mm=float(rng.choice(FWHM_MM)), scatter_share=float(rng.choice(SCATTER)))
    level = float(rng.choice(COUNT_LEVEL))
    return Conditions(AGENTS[seed % len(AGENTS)], TIMES_H, camera, level, stated_fwhm_mm=camera.fwhm_mm, misplaced_mm=1.0)


def case_of(seed: int, tissue: Bytes, of: World) -> Scanned:
    """Return the scanned patient of a seed."""
    return scanned(np.random.default_rng((seed, 2)), body(seed, tissue), conditions(seed), of)


def given(seed: int, case: Scanned, recovery: Recovery, of: World) -> Given:
    """Return what engines are given of a case; ``recovery`` is the curve of its camera."""
    how, density = conditions(seed), case.aligned.density
    box = body_box(density)
    tia, _ = walked(case, how, of)
    given_back, _ = walked(case, how, of, recovery)
    plain, recovered = (np.asarray(convolved(each, density, of).total.voxels[box], np.float32) for each in (tia, given_back))
    maps = [on(image, box) for image in (tia, given_back, density)]
    return Given(maps[0], maps[1], maps[2], plain, recovered, regions_of(case), dict(case.contours.names), how.camera.fwhm_mm)


def true(seed: int, case: Scanned, of: World, *, histories: int, device: str = "cpu") -> Dose:
    """Return the dose of a case's true activity by Monte Carlo."""
    return true_dose(case, of, truth="monte-carlo", seed=seed, histories=histories, device=device)


def kept(regions: Bytes) -> NDArray[np.bool_]:
    """Return the voxels whose true dose is kept: regions and a little around them, in the body."""
    near: NDArray[np.bool_] = ndimage.binary_dilation((regions > 0) & (regions < 255), iterations=AROUND) & (regions < 255)
    return near


def write_given(one: Given, path: Path) -> None:
    """Write what engines are given, whole or not at all."""
    grid = one.tia.grid
    maps: dict[str, Any] = {name: getattr(one, name) for name in ("convolution", "recovery", "regions", "fwhm_mm")}
    maps |= {name: getattr(one, name).voxels for name in ("tia", "recovered_tia", "density")} | {"names": json.dumps(one.names)}
    write_whole(path, **maps, spacing_mm=grid.spacing_mm, origin_mm=grid.origin_mm)


def read_given(path: Path) -> Given:
    """Return what engines are given, from its file."""
    with np.load(path) as f:
        grid = Grid.axial(f["tia"].shape, f["spacing_mm"], f["origin_mm"])
        tia, recovered = (Image(f[name], Quantity.TIME_INTEGRATED_ACTIVITY, grid) for name in ("tia", "recovered_tia"))
        density = Image(f["density"], Quantity.DENSITY, grid)
        names = {int(value): name for value, name in json.loads(str(f["names"])).items()}
        return Given(tia, recovered, density, f["convolution"], f["recovery"], f["regions"], names, float(f["fwhm_mm"]))


def regions_of(case: Scanned) -> Bytes:
    """Return the true regions on the body's box, 255 outside the body."""
    return np.where(case.aligned.body, case.contours.voxels, 255).astype(np.uint8)[body_box(case.aligned.density)]


def write_true(gray: Floats, sd: Floats, regions: Bytes, path: Path) -> None:
    """Write the true dose [Gy] of the kept voxels, that of the rest of the body as one mean, and the statistical error in hot voxels."""
    hot = gray > 0.05 * gray.max()
    statistics, level = float(np.median(sd[hot] / gray[hot])), float(gray.max())
    write_whole(
        path, dose=(gray[kept(regions)] / level).astype(np.float16), level_gy=level, rest_gy=gray[regions == 0].mean(), sd=statistics
    )


def read_true(path: Path, regions: Bytes) -> tuple[Floats, float]:
    """Return the true dose ``(z, y, x)``, not a number where it was not kept but the mean in no region's voxels, and its relative sd."""
    with np.load(path) as f:
        dose = np.full(regions.shape, np.nan, np.float32)
        dose[kept(regions)] = f["dose"].astype(np.float32) * float(f["level_gy"])
        return dose, float(f["sd"])


def write_whole(path: Path, **parts: Any) -> None:
    """Write an NPZ, whole or not at all."""
    with path.with_suffix(".part").open("wb") as file:
        np.savez_compressed(file, **parts)
    path.with_suffix(".part").replace(path)
