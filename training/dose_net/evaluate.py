"""Patients that `dose-net` is judged by: torsos around published label maps, under cameras of other resolution, counts and scatter.

A case is kept as maps on the body's box, since the Monte Carlo of its true activity takes a minute or two.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrtai.engines.dose_net_input import body_box
from mrtai.simulate.scanner import Camera
from mrtai.values.calibration import Recovery
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from training.dose_net.bodies import FIELD_MM, Body, body_of
from training.dose_net.data import convolved, on, spread, true_dose
from training.dose_net.scans import AGENTS, Conditions, World, scanned, walked
from training.organs.anatomy import HIGH_MM, LOW_MM, torso
from training.organs.canvas import SPACING_MM as CANVAS_MM
from training.organs.canvas import Canvas
from training.organs.shapes import from_label_map, with_right_kidney
from training.organs.tissues import CLASSES, INDEX, LABEL_OF_TISSUE, drawn_hounsfield

Floats = NDArray[np.float32]

FIRST_SEED: Final = 2_000_000
SPECT_MM: Final = 4.8
FWHM_MM: Final = (11.0 * 0.8, 11.0 * 1.2)
COUNT_LEVEL: Final = (0.6, 1.7)
SCATTER: Final = (0.02, 0.09)
KEPT: Final = ("tia", "density", "convolution", "recovery", "truth", "truth_sd")
NOT_TOLD: Final = ("background", "body", "aorta")


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One case on the body's box.

    Attributes:
        tia, density: what engines are given.
        convolution, recovery: dose [Gy] without and with recovery correction; ``truth`` that of the true activity, with its ``truth_sd``.
        regions: exclusive regions by ``names``, 255 outside the body; contours are true.
        fwhm_mm: of the camera.
    """

    tia: Image
    density: Image
    convolution: Floats
    recovery: Floats
    truth: Floats
    truth_sd: Floats
    regions: NDArray[np.uint8]
    names: dict[int, str]
    fwhm_mm: float
    seed: int


def body(seed: int, label_maps: Sequence[Path]) -> Body:
    """Return a torso around the organs of one label map, with the right kidney of another; the view holds 480 mm of it."""
    rng = np.random.default_rng(seed)
    canvas = Canvas(LOW_MM, HIGH_MM)
    own, other = rng.choice(len(label_maps), 2, replace=False)
    organs, spine_y = from_label_map(label_maps[own], canvas)
    left = from_label_map(label_maps[other], canvas)[0]["kidney_left"]
    tissue = torso(rng, with_right_kidney(rng, organs, left), canvas, spine_y)
    region = LABEL_OF_TISSUE[tissue]
    middle = np.argwhere(np.isin(region, [CLASSES.index(name) for name in ("liver", "kidney_left", "kidney_right")])).mean(axis=0)
    middle[2] = (tissue.shape[2] - 1) / 2
    grid = Grid.axial(tuple(int(mm / SPECT_MM) for mm in (FIELD_MM[0], FIELD_MM[1], FIELD_MM[1])), (SPECT_MM,) * 3)
    at = [np.rint(m + (np.arange(n) - (n - 1) / 2) * SPECT_MM / CANVAS_MM).astype(int) for m, n in zip(middle, grid.shape, strict=True)]
    inside = [(index >= 0) & (index < n) for index, n in zip(at, tissue.shape, strict=True)]
    seen = tissue[np.ix_(*[np.clip(index, 0, n - 1) for index, n in zip(at, tissue.shape, strict=True)])]
    held = inside[0][:, None, None] & inside[1][:, None] & inside[2]
    seen = np.where(held, seen, INDEX["air"]).astype(np.uint8)
    hounsfield, _ = drawn_hounsfield(rng)
    names = {value: name for value, name in enumerate(CLASSES) if name not in NOT_TOLD}
    region = LABEL_OF_TISSUE[seen]
    exclusive = np.where(np.isin(region, list(names)), region, 0).astype(np.uint8)
    return body_of(rng, exclusive, names, region != CLASSES.index("background"), hounsfield[seen], grid)


def conditions(seed: int) -> Conditions:
    """Return how a judged patient is scanned."""
    rng = np.random.default_rng((seed, 1))
    camera = Camera(fwhm_mm=float(rng.choice(FWHM_MM)), scatter_share=float(rng.choice(SCATTER)))
    times_h = (24.0, 96.0, 168.0)
    level = float(rng.choice(COUNT_LEVEL))
    return Conditions(AGENTS[seed % len(AGENTS)], times_h, camera, level, stated_fwhm_mm=camera.fwhm_mm, misplaced_mm=1.0)


def judged(seed: int, label_maps: Sequence[Path], recovery: Recovery, of: World, histories: int) -> Judged:
    """Return a case; ``recovery`` is the curve of its camera."""
    how = conditions(seed)
    case = scanned(np.random.default_rng((seed, 2)), body(seed, label_maps), how, of)
    density = case.aligned.density
    box = body_box(density)
    tia, _ = walked(case, how, of)
    given_back, _ = walked(case, how, of, recovery)
    truth = true_dose(case, of, truth="monte-carlo", seed=seed, histories=histories)
    doses = [convolved(tia, density, of).total.voxels, convolved(given_back, density, of).total.voxels, truth.total.voxels, spread(truth)]
    inside = np.where(case.aligned.body, case.contours.voxels, 255).astype(np.uint8)[box]
    maps = [np.asarray(dose[box], np.float32) for dose in doses]
    return Judged(on(tia, box), on(density, box), *maps, inside, dict(case.contours.names), how.camera.fwhm_mm, seed)


def write(case: Judged, path: Path) -> None:
    """Write a case, whole or not at all."""
    maps: dict[str, Any] = {name: getattr(case, name) for name in KEPT[2:]}
    grid = case.tia.grid
    with path.with_suffix(".part").open("wb") as file:
        np.savez_compressed(
            file,
            **maps,
            tia=case.tia.voxels,
            density=case.density.voxels,
            regions=case.regions,
            names=json.dumps(case.names),
            spacing_mm=grid.spacing_mm,
            origin_mm=grid.origin_mm,
            fwhm_mm=case.fwhm_mm,
            seed=case.seed,
        )
    path.with_suffix(".part").replace(path)


def read(path: Path) -> Judged:
    """Return a case from its file."""
    with np.load(path) as f:
        grid = Grid.axial(f["tia"].shape, f["spacing_mm"], f["origin_mm"])
        names = {int(value): name for value, name in json.loads(str(f["names"])).items()}
        return Judged(
            Image(f["tia"], Quantity.TIME_INTEGRATED_ACTIVITY, grid),
            Image(f["density"], Quantity.DENSITY, grid),
            *[f[name] for name in KEPT[2:]],
            f["regions"],
            names,
            float(f["fwhm_mm"]),
            int(f["seed"]),
        )
