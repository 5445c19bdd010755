"""From a body to the TIA map that the walk would make of its scans, and to the true one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.engines import known_beside, tac_model
from mrtai.io.cross_sections import photon_cross_sections
from mrtai.io.priors import agent_priors
from mrtai.io.protocols import load_protocol
from mrtai.io.tables import nuclide, point_kernel, spectrum
from mrtai.physics.kinetics import RegionFits, region_fits
from mrtai.physics.measure import REMAINDER
from mrtai.physics.partial_volume import NONE, RECOVERY, PartialVolume, partial_volume
from mrtai.physics.tia_map import tia_map
from mrtai.simulate import kinetics, scanner
from mrtai.simulate.noise import noisy
from mrtai.simulate.patient import ADMINISTERED_AT, DURATION_S
from mrtai.units import BQ_PER_MBQ
from mrtai.values.calibration import Recovery
from mrtai.values.cross_sections import CrossSections
from mrtai.values.image import Image, Quantity
from mrtai.values.kernel import PointKernel
from mrtai.values.labels import Labels
from mrtai.values.nuclide import Nuclide
from mrtai.values.protocol import Protocol
from mrtai.values.report import Aligned
from mrtai.values.spectrum import Spectrum
from mrtai.values.study import Administration, Cycle, TimePoint
from mrtai.values.virtual import AgentPriors
from training.dose_net.bodies import Body

Floats = NDArray[np.float32]

NUCLIDE: Final = "Lu-177"
AGENTS: Final = ("DOTATATE", "PSMA-617", "PSMA-I&T")


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Published data that a case needs, read once: of the nuclide, and of the agents' populations by name."""

    nuclide: Nuclide
    kernel: PointKernel
    spectrum: Spectrum
    cross_sections: CrossSections
    priors: Mapping[str, AgentPriors]
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a patient is scanned.

    Attributes:
        agent: whose population the kinetics are drawn from; ``times_h`` of the scans.
        camera: point spread and residual scatter; ``count_level`` times the counts it would detect.
        stated_fwhm_mm: the resolution that the site knows of.
        misplaced_mm: standard deviation along each axis of what the alignment of a later scan leaves.
        contours: ``true``, ``rough`` (a voxel more or less, lesions missing) or ``none``.
        unlike: geometric standard deviation of a region's uptake beyond the population's.
    """

    agent: str
    times_h: tuple[float, ...]
    camera: scanner.Camera
    count_level: float
    stated_fwhm_mm: float
    misplaced_mm: float = 1.0
    contours: str = "true"
    unlike: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Scanned:
    """A scanned body: scans on one grid, contours as somebody drew them, and the true integral of activity."""

    aligned: Aligned
    contours: Labels
    true_tia: Image


@cache
def world() -> World:
    """Return the published data for 177Lu."""
    priors = {agent: agent_priors(agent) for agent in AGENTS}
    data = point_kernel(NUCLIDE), spectrum(NUCLIDE), photon_cross_sections()
    return World(nuclide(NUCLIDE), *data, priors, replace(load_protocol("lu177-dotatate"), partial_volume="off"))


def scanned(rng: np.random.Generator, body: Body, how: Conditions, of: World) -> Scanned:
    """Return what the camera shows of a body, and its true time-integrated activity."""
    regions, grid = body.regions, body.regions.grid
    counts = np.bincount(np.where(body.body, regions.voxels, 255).ravel(), minlength=256)
    values = {name: value for value, name in regions.names.items() if counts[value]} | {REMAINDER: 0}
    volume_ml = {name: float(counts[value]) * grid.voxel_ml for name, value in values.items()}
    curves = kinetics.drawn_curves(
        rng,
        of.priors[how.agent],
        volume_ml=volume_ml,
        nuclide=of.nuclide,
        administered_bq=of.protocol.typical_administered_bq,
        kinetics=kinetics.POPULATION,
    )
    factor = {name: float(np.exp(rng.normal(0, np.log(how.unlike)))) if how.unlike > 1 else 1.0 for name in volume_ml}

    def painted(amount: Mapping[str, float]) -> Floats:
        per_ml = np.zeros(256, dtype=np.float32)
        for name, total in amount.items():
            per_ml[values[name]] = total * factor[name] / volume_ml[name]
        image: Floats = per_ml[regions.voxels] * body.uptake
        return image

    spects = []
    for number, t_h in enumerate(how.times_h):
        now = painted({curve.region: float(kinetics.activity_bq(curve, t_h)) for curve in curves})
        seen = scanner.seen(now, grid, how.camera)
        if number:
            seen = ndimage.shift(seen, rng.normal(0, how.misplaced_mm, 3) / grid.spacing_mm[::-1], order=1, mode="nearest")
        counted = how.count_level * how.camera.counts(float(now.sum()) * grid.voxel_ml / BQ_PER_MBQ, DURATION_S)
        spects.append(Image(noisy(seen, counted, how.camera.views, rng), Quantity.ACTIVITY_CONCENTRATION, grid))
    true = Image(painted({curve.region: kinetics.tia_bq_s(curve) for curve in curves}), Quantity.TIME_INTEGRATED_ACTIVITY, grid)
    return Scanned(_aligned(spects, body, how, of), drawn(rng, body, how.contours), true)


def _aligned(spects: list[Image], body: Body, how: Conditions, of: World) -> Aligned:
    """Return the scans as the walk holds them once they lie on one grid."""
    given = Administration(of.nuclide.name, how.agent, of.protocol.typical_administered_bq, ADMINISTERED_AT)
    points = tuple(
        TimePoint(n, ADMINISTERED_AT + timedelta(hours=t_h), t_h, DURATION_S, spect, None, None, "", "scan", "simulated")
        for n, (t_h, spect) in enumerate(zip(how.times_h, spects, strict=True), start=1)
    )
    return Aligned(Cycle("P-0", 1, given, points), tuple(spects), (), 0, body.density, body.body)


def drawn(rng: np.random.Generator, body: Body, how: str) -> Labels:
    """Return contours of a body: true, a voxel too large or too small with lesions missing, or none."""
    if how == "true":
        return body.regions
    voxels = body.regions.voxels.copy()
    if how == "none":
        voxels[:] = 0
    for value, name in body.regions.names.items():
        if how == "rough" and name.startswith("lesion_") and rng.random() < 0.3:
            around = ndimage.grey_dilation(np.where(voxels == value, 0, voxels), 3)
            voxels[voxels == value] = around[voxels == value]
        elif how == "rough" and rng.random() < 0.5:
            moved = ndimage.shift((voxels == value).astype(np.float32), rng.normal(0, 0.35, 3), order=1)
            other = np.where(voxels == value, 0, voxels)
            voxels = np.where(moved > rng.uniform(0.3, 0.7), value, other)
    return replace(body.regions, voxels=np.where(body.body, voxels, 0).astype(np.uint8))


def walked(case: Scanned, how: Conditions, of: World, recovery: Recovery | None = None) -> tuple[Image, RegionFits]:
    """Return the TIA map and the fits of the walk; with a ``recovery`` curve regions and voxels are given back what blur took."""
    labels, aligned = case.contours, case.aligned
    blur: PartialVolume = NONE
    protocol = of.protocol
    if recovery is not None:
        protocol = replace(protocol, partial_volume=RECOVERY, recovery=recovery)
        blur = partial_volume(aligned.spects, [recovery] * len(aligned.spects), labels, labels, aligned.body, how.stated_fwhm_mm)
    model = tac_model(protocol.kinetics, known_beside(of.nuclide, protocol, priors=of.priors[how.agent].kinetics))
    fits = region_fits(aligned, labels, protocol, model, blur)
    return tia_map(blur.spects or aligned.spects, labels, fits.tia_bq_s, fits.time_shares)[0], fits
