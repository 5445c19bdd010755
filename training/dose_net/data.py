"""Training pairs by seed: what `dose-net` is shown of a virtual patient, and the dose of its true activity.

python -m training.dose_net.data --work FOLDER [--count N] [--first SEED] [--workers N] [--truth monte-carlo] [--device cuda]
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrtai.engines.convolution import Convolution
from mrtai.engines.dose_net_input import body_box, dose_input
from mrtai.engines.monte_carlo import MonteCarlo
from mrtai.physics.resample import cropped
from mrtai.simulate.scanner import Camera
from mrtai.simulate.spheres import curve
from mrtai.values.dose import Dose
from mrtai.values.image import Image
from training.dose_net.bodies import Body, from_formulas, spect_grid
from training.dose_net.scans import AGENTS, Conditions, Scanned, World, scanned, walked, world

FIRST_SEED: Final = 0
HELD_OUT_SEED: Final = 1_000_000
"""Seeds from here on are for calibrating the error map and for choosing; the evaluation's begin at 2 000 000."""

HISTORIES: Final = 20_000_000
TIMES_H: Final = ((24.0,), (72.0,), (24.0, 96.0), (4.0, 24.0, 96.0), (24.0, 96.0, 168.0), (24.0, 96.0, 168.0), (4.0, 24.0, 96.0, 168.0))
USUAL_MM: Final = 4.8
SPACING_MM: Final = (3.9, 5.0)
FWHM_MM: Final = (7.7, 14.3)
SCATTER: Final = (0.0, 0.12)
COUNT_LEVEL: Final = (0.3, 3.0)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One case on the body's box.

    Attributes:
        channels: the network's input, half precision, ``(channels, z, y, x)``.
        base, truth, truth_sd: relative to the level, ``(z, y, x)``; ``truth_sd`` is the Monte Carlo's own.
        regions: true exclusive regions; 255 outside the body.
        seed: of the case; ``level_gy`` what doses are relative to.
        recovered: whether ``base`` is the dose with recovery, from true contours and the camera's own recovery curve.
    """

    channels: NDArray[np.float16]
    base: NDArray[np.float16]
    truth: NDArray[np.float16]
    truth_sd: NDArray[np.float16]
    regions: NDArray[np.uint8]
    seed: int
    level_gy: float
    recovered: bool


def conditions(rng: np.random.Generator) -> Conditions:
    """Return how a patient of the training is scanned."""
    camera = Camera(
        fwhm_mm=float(rng.uniform(*FWHM_MM)), scatter_share=float(rng.uniform(*SCATTER)), scatter_sigma_mm=float(rng.uniform(35, 65))
    )
    return Conditions(
        agent=str(rng.choice(AGENTS)),
        times_h=TIMES_H[int(rng.integers(len(TIMES_H)))],
        camera=camera,
        count_level=float(np.exp(rng.uniform(*np.log(COUNT_LEVEL)))),
        stated_fwhm_mm=float(camera.fwhm_mm * rng.normal(1, 0.03)),
        misplaced_mm=float(rng.uniform(0, 2)),
        contours=str(rng.choice(["true", "rough", "none"], p=[0.55, 0.3, 0.15])),
        unlike=1.4,
    )


def drawn_case(seed: int, of: World, spacing_mm: float | None = None) -> tuple[Body, Conditions, Scanned]:
    """Return the virtual patient of a training seed, on voxels of its own size unless one is given."""
    rng = np.random.default_rng(seed)
    drawn_mm = float(rng.choice([USUAL_MM, USUAL_MM, rng.uniform(*SPACING_MM)]))
    body = from_formulas(rng, spect_grid(spacing_mm or drawn_mm))
    how = conditions(rng)
    return body, how, scanned(rng, body, how, of)


def convolved(tia: Image, density: Image, of: World) -> Dose:
    """Return the dose by convolution."""
    return Convolution(of.kernel, of.nuclide, of.spectrum, of.cross_sections)(tia, density)


def true_dose(case: Scanned, of: World, *, truth: str, seed: int, histories: int = HISTORIES, device: str = "cpu") -> Dose:
    """Return the dose of the true activity, by ``monte-carlo`` or ``convolution``."""
    if truth == "convolution":
        return convolved(case.true_tia, case.aligned.density, of)
    engine = MonteCarlo(of.nuclide, of.spectrum, of.cross_sections, histories=histories, device=device, seed=seed)
    return engine(case.true_tia, case.aligned.density)


def pair(seed: int, body: Body, how: Conditions, case: Scanned, truth: Dose, of: World, *, recovered: bool = False) -> Pair:
    """Return the pair of a scanned body and its true dose."""
    density, tia = case.aligned.density, shown_tia(body, how, case, of, recovered=recovered)
    contours = body.regions if recovered else None if how.contours == "none" else case.contours
    regions = None if contours is None else contours.voxels
    box = body_box(density)
    dose = convolved(tia, density, of).total
    given = dose.voxels[box], on(tia, box), on(density, box), None if regions is None else regions[box], how.stated_fwhm_mm
    shown = dose_input(*given, recovered=recovered)
    of_truth, of_spread = (np.asarray(voxels[box] / shown.level_gy, np.float16) for voxels in (truth.total.voxels, spread(truth)))
    inside = np.where(body.body, body.regions.voxels, 255).astype(np.uint8)[box]
    base = (shown.base_gy / shown.level_gy).astype(np.float16)
    return Pair(shown.channels.astype(np.float16), base, of_truth, of_spread, inside, seed, shown.level_gy, recovered)


def shown_tia(body: Body, how: Conditions, case: Scanned, of: World, *, recovered: bool) -> Image:
    """Return the TIA map that the walk makes of a scanned body; with recovery of true contours and by the camera's own curve.

    What is wrong about contours neither recovery nor a network after it can know: learning from wrong ones would blur the edges of all.
    """
    if recovered:
        return walked(replace(case, contours=body.regions), how, of, curve(how.camera))[0]
    return walked(case, how, of)[0]


def spread(dose: Dose) -> NDArray[np.float32]:
    """Return the statistical standard deviation of a dose [Gy]; none of a dose that has none."""
    return np.zeros(dose.grid.shape, np.float32) if dose.sd is None else dose.sd.voxels


def on(image: Image, box: tuple[slice, ...]) -> Image:
    """Return the part of an image in a box."""
    return Image(image.voxels[box], image.quantity, cropped(image.grid, box))


def make(seed: int, work: Path, truth: str, histories: int, device: str) -> int:
    """Write the pairs of a seed into a folder, as scanned and with recovery, unless they are there, and return the seed."""
    paths = {recovered: path_of(work, seed, recovered=recovered) for recovered in (False, True)}
    if not all(path.exists() for path in paths.values()):
        of = world()
        body, how, case = drawn_case(seed, of)
        dose = true_dose(case, of, truth=truth, seed=seed, histories=histories, device=device)
        for recovered, path in paths.items():
            write(pair(seed, body, how, case, dose, of, recovered=recovered), path)
    return seed


def path_of(work: Path, seed: int, *, recovered: bool) -> Path:
    """Return where a pair is kept."""
    return work / f"{seed:07d}{'-recovered' if recovered else ''}.npz"


def pairs(work: Path, *, held_out: bool) -> list[Path]:
    """Return the pairs of a folder that are for training, or those ``held_out``."""
    found = {path: int(path.stem.partition("-")[0]) for path in sorted(work.glob("[0-9]*.npz"))}
    return [path for path, seed in found.items() if (seed >= HELD_OUT_SEED) == held_out]


def write(one: Pair, path: Path) -> None:
    """Write a pair, whole or not at all."""
    parts: dict[str, Any] = {name: getattr(one, name) for name in Pair.__slots__}
    partial_path = path.with_suffix(".part")
    with partial_path.open("wb") as file:
        np.savez_compressed(file, **parts)
    partial_path.replace(path)


def read(path: Path) -> Pair:
    """Return a pair from its file."""
    with np.load(path) as parts:
        return Pair(**{name: parts[name] if parts[name].ndim else parts[name].item() for name in Pair.__slots__})


def main() -> None:
    """Make pairs from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--first", type=int, default=FIRST_SEED)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--truth", choices=("monte-carlo", "convolution"), default="monte-carlo")
    parser.add_argument("--histories", type=int, default=HISTORIES)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    job = partial(make, work=asked.work, truth=asked.truth, histories=asked.histories, device=asked.device)
    with ProcessPoolExecutor(asked.workers, mp_context=get_context("spawn")) as pool:
        for seed in pool.map(job, range(asked.first, asked.first + asked.count)):
            print(seed, flush=True)


if __name__ == "__main__":
    main()
