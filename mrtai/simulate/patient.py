"""From a seed to a virtual patient: anatomy, kinetics, scans and truth."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np
from numpy.typing import NDArray

from mrtai.simulate import kinetics, scanner
from mrtai.simulate.anatomy import Anatomy, torso
from mrtai.simulate.lattice import lattice
from mrtai.simulate.noise import noisy
from mrtai.simulate.pairs import RELATIVE_SE, mean_doses
from mrtai.simulate.truth import true_regions
from mrtai.simulate.voxelise import Voxelised, voxelised
from mrtai.units import BQ_PER_MBQ, SECONDS_PER_HOUR
from mrtai.values.grid import Array, Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.kernel import PointKernel
from mrtai.values.labels import Labels
from mrtai.values.nuclide import Nuclide
from mrtai.values.study import Administration
from mrtai.values.virtual import AgentPriors, TrueCurve, VirtualPatient, VirtualScan

ADMINISTERED_AT = datetime(2026, 3, 2, 9, 30, tzinfo=timezone(timedelta(hours=1)))
DURATION_S = 1800.0
Progress = Callable[[str, float], None]
_PURPOSES = ("anatomy", "kinetics", "shift", "ct noise", "counts", "dose")


@dataclass(frozen=True, slots=True)
class Settings:
    """What to simulate.

    Attributes:
        priors: the agent's population kinetics.
        administered_bq: activity given at time 0.
        times_h: start of each scan after administration, increasing; rounded to whole seconds.
        seed: the same seed gives the same anatomy for every scanner, and the same kinetics draws.
        scanner: ``exact``, ``ideal`` or ``clinical``.
        kinetics: ``mono`` or ``population``.
        name: the virtual patient's name, DICOM style.
        dose_relative_se: standard error of the true mean doses.
        agent: name of the agent as it shall stand in the headers; that of the priors when empty.
    """

    priors: AgentPriors
    administered_bq: float
    times_h: tuple[float, ...]
    seed: int
    scanner: str = scanner.IDEAL
    kinetics: str = kinetics.MONO
    name: str = "Virtual^Patient"
    agent: str = ""
    dose_relative_se: float = RELATIVE_SE

    def __post_init__(self) -> None:
        if self.scanner not in (scanner.EXACT, scanner.IDEAL, scanner.CLINICAL):
            raise ValueError(f"scanner: exact, ideal or clinical needed, got {self.scanner!r}")
        if not self.times_h or self.times_h[0] <= 0 or np.any(np.diff(self.times_h) <= 0):
            raise ValueError(f"times: at least one, positive and increasing, got {list(self.times_h)} h")


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """The unshifted patient in front of the scanner: what all scans share."""

    anatomy: Anatomy
    ct: Image
    labels: Labels
    spect_grid: Grid
    spect_labels: Labels
    spect_body: Labels
    spect_shares: Voxelised | None


def virtual_patient(*, nuclide: Nuclide, kernel: PointKernel, settings: Settings, progress: Progress | None = None) -> VirtualPatient:
    """Return the virtual patient of a seed.

    Args:
        nuclide: half-life for the physical decay.
        kernel: energy around a point source of that nuclide, for the true doses.
        settings: what to simulate.
        progress: called with what is being done and the fraction that is finished.

    Raises:
        ValueError: a region is too small for the SPECT grid, or kernel and nuclide differ.
    """
    if kernel.nuclide != nuclide.name:
        raise ValueError(f"kernel of {kernel.nuclide} for nuclide {nuclide.name}")
    tell = progress or (lambda what, done: None)
    rng = _generators(settings.seed)
    tell("anatomy", 0.0)
    anatomy = torso(rng["anatomy"], only_liver_lesions=settings.priors.lesions.only_in_liver, renders=scanner.renders_last)
    cells = lattice(anatomy)
    curves = kinetics.drawn_curves(
        rng["kinetics"],
        settings.priors,
        volume_ml=dict(zip(cells.regions, cells.volume_ml.tolist(), strict=True)),
        nuclide=nuclide,
        administered_bq=settings.administered_bq,
        kinetics=settings.kinetics,
    )
    scene, tia = _scene(anatomy, curves, settings.scanner, rng)
    scans = []
    for index in range(len(settings.times_h)):
        tell(f"scan {index + 1}", 0.2 + 0.4 * index / len(settings.times_h))
        scans.append(_scan(scene, curves, settings, index, rng))
    tell("true doses", 0.6)
    doses = mean_doses(cells, {curve.region: kinetics.tia_bq_s(curve) for curve in curves}, kernel, rng["dose"], settings.dose_relative_se)
    tell("done", 1.0)
    agent = settings.agent or settings.priors.agent
    return VirtualPatient(
        name=settings.name,
        seed=settings.seed,
        scanner=settings.scanner,
        kinetics=settings.kinetics,
        nuclide=nuclide,
        administration=Administration(nuclide.name, agent, settings.administered_bq, ADMINISTERED_AT),
        scans=tuple(scans),
        labels=scene.labels,
        labels_spect=scene.spect_labels,
        tia=tia,
        regions=true_regions(cells, curves, doses, nuclide),
        curves=curves,
    )


def _generators(seed: int) -> dict[str, np.random.Generator]:
    """Return one independent generator per purpose, so that no purpose's draws depend on another's."""
    children = np.random.SeedSequence(seed).spawn(len(_PURPOSES))
    return {purpose: np.random.Generator(np.random.PCG64(child)) for purpose, child in zip(_PURPOSES, children, strict=True)}


def _scene(anatomy: Anatomy, curves: tuple[TrueCurve, ...], which: str, rng: Mapping[str, np.random.Generator]) -> tuple[_Scene, Image]:
    """Return what all scans share, and the time-integrated activity map on the CT grid."""
    ct_voxels = voxelised(anatomy, scanner.CT_GRID)
    labels, body = scanner.true_labels(anatomy, ct_voxels)
    tia = scanner.wholly({curve.region: kinetics.tia_bq_s(curve) for curve in curves}, labels, body)
    spect_grid = scanner.CT_GRID if which == scanner.EXACT else scanner.SPECT_GRID
    scene = _Scene(
        anatomy,
        scanner.ct_image(anatomy, ct_voxels, rng["ct noise"] if which == scanner.CLINICAL else None),
        labels,
        spect_grid,
        scanner.on_spect_grid(labels, spect_grid),
        scanner.on_spect_grid(body, spect_grid),
        voxelised(anatomy, spect_grid) if which == scanner.CLINICAL else None,
    )
    return scene, Image(tia, Quantity.TIME_INTEGRATED_ACTIVITY, labels.grid)


def _scan(
    scene: _Scene, curves: tuple[TrueCurve, ...], settings: Settings, index: int, rng: Mapping[str, np.random.Generator]
) -> VirtualScan:
    """Return one scan; activities are those at its start."""
    after = timedelta(seconds=round(settings.times_h[index] * SECONDS_PER_HOUR))
    t_h = after.total_seconds() / SECONDS_PER_HOUR
    activity_bq = {curve.region: float(kinetics.activity_bq(curve, t_h)) for curve in curves}
    if scene.spect_shares is None:
        concentration = scanner.wholly(activity_bq, scene.spect_labels, scene.spect_body)
        scan = scene.ct, concentration, concentration, np.eye(4)
    else:
        scan = _clinical(scene, scene.spect_shares, activity_bq, index, rng)
    ct, spect, noise_free, shift = scan
    return VirtualScan(ADMINISTERED_AT + after, t_h, DURATION_S, ct, _activity(spect, scene), _activity(noise_free, scene), shift)


def _clinical(
    scene: _Scene, unshifted: Voxelised, activity_bq: dict[str, float], index: int, rng: Mapping[str, np.random.Generator]
) -> tuple[Image, NDArray[np.float32], NDArray[np.float32], Array]:
    """Return CT, noisy SPECT, noise-free unshifted SPECT and the shift; the first scan defines the unshifted position."""
    camera = scanner.Camera()
    noise_free = scanner.seen(scanner.by_share(activity_bq, scene.anatomy, unshifted), scene.spect_grid, camera)
    ct, seen, shift = scene.ct, noise_free, np.eye(4)
    if index > 0:
        shift = scanner.drawn_shift(rng["shift"])
        ct_voxels = voxelised(scene.anatomy, scanner.grid_in_patient(scanner.CT_GRID, shift), per_edge=2)
        ct = scanner.ct_image(scene.anatomy, ct_voxels, rng["ct noise"]).on(scanner.CT_GRID)
        shares = voxelised(scene.anatomy, scanner.grid_in_patient(scene.spect_grid, shift))
        seen = scanner.seen(scanner.by_share(activity_bq, scene.anatomy, shares), scene.spect_grid, camera)
    counts = camera.counts(sum(activity_bq.values()) / BQ_PER_MBQ, DURATION_S)
    return ct, noisy(seen, counts, camera.views, rng["counts"]), noise_free, shift


def _activity(voxels: NDArray[np.float32], scene: _Scene) -> Image:
    return Image(voxels, Quantity.ACTIVITY_CONCENTRATION, scene.spect_grid)
