"""Activity that blur moved between regions, moved back: the geometric transfer matrix with measured recovery on its diagonal.

What a scan shows in region i is m_i = RC_i c_i + Σ_j G_ij c_j: its own concentration by its recovery coefficient, the others' and the rest
of the body's by how much of their blur falls on it (Rousset, Ma and Evans 1998). RC is the curve's at the sphere that keeps as much as the
region's own shape does (``spill``); a region that is not compact keeps what a Gaussian leaves of its shape. All c_i are solved for at once.

Of a region that is not compact voxels count the less, the more of the others' activity they show: marrow beside a hot lesion is told by
the marrow that lies away from it. Which those are, the concentrations say, so that is done again until they stay. Within regions voxels
are given back what blur took by the same concentrations (Yang 1996).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.physics.iterative_yang import LARGEST_FACTOR
from mrtai.physics.measure import REMAINDER
from mrtai.physics.recovery import LEAST_RECOVERY, coefficient
from mrtai.physics.spill import (
    Blurred,
    Filled,
    Hazes,
    blurred,
    equivalent_sphere_ml,
    filled,
    hazes,
    kept_share,
    left_alone,
    near,
    sigma_of_shares,
)
from mrtai.units import FWHM_PER_SIGMA
from mrtai.values.calibration import Recovery
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Array, Grid
from mrtai.values.image import Image
from mrtai.values.labels import Labels
from mrtai.values.protocol import PARTIAL_VOLUME
from mrtai.values.regions import is_lesion

OFF, RECOVERY = PARTIAL_VOLUME

COMPACT: Final = frozenset(
    {
        *("kidney_left", "kidney_right", "liver", "spleen", "pancreas", "thyroid_gland", "adrenal_gland_left", "adrenal_gland_right"),
        *("parotid_left", "parotid_right", "submandibular_left", "submandibular_right"),
    }
)
"""Organs whose outline is that of their uptake; what is hollow, or hot in a part of itself, has no one concentration to give back.
Lesions are compact, too."""

NOTHING_AROUND: Final = 1e-6
"""Of its activity, that leaves a region which borders on nothing, by rounding."""

LEAST_LEFT: Final = 0.25
"""A region that owes more than three quarters of what counts of it to its neighbours is not known by taking it from them."""

ROUNDS: Final = 20
"""At most so many times voxels are weighed anew. The concentrations they are weighed by are damped: the geometric mean of old and new."""

SETTLED: Final = 0.01
"""Concentrations that change by less say the same of which voxels count."""

LEAST_OF_MEAN: Final = 0.01
"""A region that solves to less than this share of its measured mean is stated as that share, and as not known. The concentrations
that voxels are weighed by are no lower than this share of the mean of its positive voxels: a lesion's undershoot is no own activity."""

HAZE_SIGMA_MM: Final = 74.0
"""How far a plateau below 1 spreads what it lacks: the mean free path of a photon of 208 keV in water. Between 30 and 80 mm lungs of
virtual patients come out the same within 4 %."""


@dataclass(frozen=True, slots=True)
class PartialVolume:
    """What blur did, by region name.

    Attributes:
        coefficients: recovery coefficient of each scan, of compact regions.
        activity_bq: activity [Bq] of each scan with what blur moved taken back, of all regions and the remainder.
        excess: what each scan shows of a region beyond its true activity, relative to that; negative where blur took more than it brought.
        sphere_ml: volume of the sphere that keeps as much of its activity, of all regions drawn.
        contrast: share of each scan's measured concentration that stands above the surroundings; negative where it lies below.
        moved: what was taken back, relative to the true activity of what counts: of compact regions and the remainder the excess, of
            others what they lost and what they were shown, one squared with the other.
        counted: share of the region's volume that counts.
        spects: the scans with what blur moved taken back voxel by voxel, for the shapes within regions; empty where a scan has no curve.
    """

    coefficients: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    activity_bq: Mapping[str, Array] = field(default_factory=dict)
    excess: Mapping[str, Array] = field(default_factory=dict)
    sphere_ml: Mapping[str, float] = field(default_factory=dict)
    contrast: Mapping[str, Array] = field(default_factory=dict)
    moved: Mapping[str, Array] = field(default_factory=dict)
    counted: Mapping[str, float] = field(default_factory=dict)
    spects: tuple[Image, ...] = ()


NONE: Final = PartialVolume()


def is_compact(name: str) -> bool:
    """Return True for regions whose recovery a curve of spheres tells."""
    return name in COMPACT or is_lesion(name)


def partial_volume(
    spects: Sequence[Image],
    curves: Sequence[Recovery | None],
    contours: Labels,
    labels: Labels,
    body: NDArray[np.bool_],
    fwhm_mm: float,
    in_view: Sequence[NDArray[np.bool_]] = (),
) -> PartialVolume:
    """Return what blur did to all regions, with what the compact ones recover and true activities where all scans have a curve.

    Args:
        spects: scans on the common grid.
        curves: the recovery curve of each scan, None where there is none.
        contours: regions on the grid they were drawn on, whose shapes count.
        labels: the same regions on the common grid.
        body: outline on the common grid, shape ``(z, y, x)``.
        fwhm_mm: resolution of the scans, where no curve says it; what a shape's sphere is hardly depends on it.
        in_view: where each scan reaches on the common grid; none where all reach everywhere.
    """
    names = {**labels.names, 0: REMAINDER}
    regions = filled(contours, labels.grid, body)
    spheres_ml = _spheres_ml(regions, contours, fwhm_mm)
    views: Sequence[NDArray[np.bool_] | None] = in_view or [None] * len(spects)
    means = np.array([regions.means(spect.voxels, view) for spect, view in zip(spects, views, strict=True)])
    contrast = _contrasts(means, near(regions, np.full(3, fwhm_mm / FWHM_PER_SIGMA)))
    found = PartialVolume(
        sphere_ml={names[value]: sphere_ml for value, sphere_ml in spheres_ml.items()},
        contrast={names[value]: of for value, of in zip(regions.values, contrast.T, strict=True) if value},
    )
    known = [curve for curve in curves if curve is not None]
    if len(known) < len(curves):
        return found
    compact = {value: sphere_ml for value, sphere_ml in spheres_ml.items() if is_compact(names[value])}
    coefficients = {names[value]: tuple(coefficient(curve, sphere_ml) for curve in known) for value, sphere_ml in compact.items()}
    loose = [index for index, value in enumerate(regions.values) if value and value not in compact]
    cameras = {curve: _camera(regions, curve, contours.grid, fwhm_mm) for curve in set(known)}
    scans = [(spect, view, cameras[curve]) for spect, view, curve in zip(spects, views, known, strict=True)]
    true, excess, moved, counted = _settled(scans, regions, means, compact, loose)
    voxel_ml = labels.grid.voxel_ml
    volume_ml = np.bincount(labels.voxels[body | (labels.voxels > 0)], minlength=max(names) + 1) * voxel_ml
    activity_bq = {names[value]: of * volume_ml[value] for value, of in zip(regions.values, true.T, strict=True)}
    if 0 in regions.values:
        # what is seen beyond what the regions hold is nobody's, such as arms beside the outline, and stays with the remainder
        seen_bq = np.array([float(spect.voxels.sum(dtype=np.float64)) for spect in spects]) * voxel_ml
        activity_bq[REMAINDER] = activity_bq[REMAINDER] + np.maximum(seen_bq - sum(activity_bq.values()), 0.0)
    shares = (counted.volumes / regions.volumes).tolist()
    return replace(
        found,
        coefficients=coefficients,
        activity_bq=activity_bq,
        excess={names[value]: of for value, of in zip(regions.values, excess.T, strict=True)},
        moved={names[value]: of for value, of in zip(regions.values, moved.T, strict=True)},
        counted={names[value]: share for value, share in zip(regions.values, shares, strict=True)},
        spects=tuple(_given_back(spect, of, camera) for (spect, _, camera), of in zip(scans, true, strict=True)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Camera:
    """A recovery curve, and what it shows of the regions: a share ``plateau`` blurred, the rest as haze.

    ``overlaps``, ``hazed``: what is shown in one region of another where all voxels count, shape ``(regions, regions)``.
    """

    curve: Recovery
    plateau: float
    near: Blurred
    far: Hazes
    overlaps: Array
    hazed: Array


_Scan = tuple[Image, NDArray[np.bool_] | None, _Camera]


def _camera(regions: Filled, curve: Recovery, drawn: Grid, fwhm_mm: float) -> _Camera:
    gaussian = curve.gaussian
    blur_mm = np.full(3, fwhm_mm / FWHM_PER_SIGMA) if gaussian is None else sigma_of_shares(gaussian.fwhm_mm, regions.grid, drawn)
    near_, far_ = blurred(regions, blur_mm), hazes(regions, HAZE_SIGMA_MM)
    plateau = 1.0 if gaussian is None else gaussian.plateau
    return _Camera(curve, plateau, near_, far_, near_.overlaps(regions), far_.overlaps(regions))


def _settled(
    scans: Sequence[_Scan], regions: Filled, means: Array, compact: Mapping[int, float], loose: Sequence[int]
) -> tuple[Array, Array, Array, Filled]:
    """Return true concentrations, excess and what was moved relative to them, each ``(scans, regions)``, and how much voxels count."""
    counted = regions
    true, moved = _solved(scans, counted, compact, ())
    lowest = LEAST_OF_MEAN * np.array([regions.means(np.maximum(spect.voxels, 0.0), view) for spect, view, _ in scans])
    weighed_by = np.maximum(true, lowest)
    for _ in range(ROUNDS if loose else 0):
        counted = left_alone(regions, [camera.near for _, _, camera in scans], weighed_by, loose)
        true, moved = _solved(scans, counted, compact, loose)
        now = np.maximum(true, lowest)
        settled = np.all(np.abs(now - weighed_by)[:, loose] <= SETTLED * weighed_by[:, loose])
        weighed_by = np.sqrt(weighed_by * now)
        if settled:
            break
    floor = np.where(means > 0, LEAST_OF_MEAN * means, -np.inf)
    unknown = true < floor
    true = np.where(unknown, floor, true)
    excess = _relative(means - true, true)
    # what a compact region loses and is shown the curve has measured together
    known_apart = np.array([index in loose for index in range(len(regions.values))]) & ~unknown
    return true, excess, np.where(known_apart, _relative(moved, true), excess), counted


def _solved(scans: Sequence[_Scan], counted: Filled, compact: Mapping[int, float], loose: Sequence[int]) -> tuple[Array, Array]:
    """Return true concentrations, and what regions lost and were shown of others as far as they count, both ``(scans, regions)``.

    ``loose``: indices of the regions of which not all voxels count.
    """
    seen = {curve: _transfer(camera, counted, compact, loose) for curve, camera in {camera.curve: camera for _, _, camera in scans}.items()}
    shown = np.array([counted.means(spect.voxels, view) for spect, view, _ in scans])
    true = np.array([np.linalg.solve(seen[camera.curve], of_scan) for (_, _, camera), of_scan in zip(scans, shown, strict=True)])
    true = np.where(shown > 0, np.maximum(true, LEAST_LEFT * shown), shown)
    own = true * np.array([np.diag(seen[camera.curve]) for _, _, camera in scans])
    return true, np.hypot(true - own, shown - own)


def _relative(of: Array, true: Array) -> Array:
    return np.divide(of, true, out=np.zeros_like(true), where=true > 0)


def _spheres_ml(regions: Filled, contours: Labels, fwhm_mm: float) -> dict[int, float]:
    """Return the sphere that keeps as much as each region, by label value."""
    boxes = ndimage.find_objects(contours.voxels)
    kept = {
        value: kept_share(contours.voxels[boxes[value - 1]] == value, contours.grid.spacing_mm, fwhm_mm)
        for value in regions.values
        if value
    }
    return {value: equivalent_sphere_ml(share, fwhm_mm) for value, share in kept.items()}


def _contrasts(means: Array, seen: Array) -> Array:
    """Return which share of the measured means ``(scans, regions)`` stands above what surrounds each region, as blur weighs it."""
    own = np.diag(seen)
    others = means @ seen.T - means * own
    # what fills the image borders on nothing
    around = np.divide(others, 1.0 - own, out=np.zeros_like(others), where=own < 1.0 - NOTHING_AROUND)
    return np.asarray(np.divide(means - around, means, out=np.zeros_like(means), where=means > 0).clip(-1.0, 1.0))


def _transfer(camera: _Camera, counted: Filled, compact: Mapping[int, float], loose: Sequence[int]) -> Array:
    """Return what a scan shows in one region of another's concentration, shape ``(regions, regions)``.

    ``counted``: how much voxels count, where that is not all of them in the regions ``loose``; ``compact``: spheres [mL] by label value.
    What a compact region keeps by the curve more or less than by its shape, its surroundings show less or more of in it. A haze is no
    part of a sphere's recovery, but of a large organ's.
    """
    seen, hazed = camera.overlaps.copy(), camera.hazed.copy()
    if loose:
        seen[loose], hazed[loose] = camera.near.overlaps(counted, loose), camera.far.overlaps(counted, loose)
    for index, value in enumerate(counted.values):
        own = seen[index, index]
        if value in compact and own < 1.0 - NOTHING_AROUND:
            kept = coefficient(camera.curve, compact[value]) / camera.plateau
            seen[index] *= max(1.0 - kept, 0.0) / (1.0 - own)
            seen[index, index] = kept
    return camera.plateau * seen + (1.0 - camera.plateau) * hazed


def _given_back(spect: Image, bq_per_ml: Array, camera: _Camera) -> Image:
    """Return a scan whose voxels are multiplied by what regions of these concentrations hold there over what blur shows of them.

    The method of Yang (1996) with known means. Where no region is, voxels stay as they are.
    """
    regions, some = camera.near.regions, np.maximum(bq_per_ml, 0.0)
    held = regions.held(some)
    shown = camera.plateau * camera.near.image(some) + (1.0 - camera.plateau) * regions.held(camera.hazed @ some)
    factor = np.divide(held, shown, out=np.ones_like(held), where=(held > 0) & (shown > 0))
    return replace(spect, voxels=spect.voxels * np.minimum(factor, LARGEST_FACTOR))


def point_spread_mm(curves: Sequence[Recovery | None], grid: Grid) -> float | None:
    """Return the FWHM [mm] of the point spread that measured curves tell, mean of the scans'; None where one of them tells none.

    Spheres measured by shares of voxels see it with the image's voxels and the shares' averaging, a²/12 each (``spill.sigma_of_shares``).
    """
    widths_mm = [curve.gaussian.fwhm_mm for curve in curves if curve is not None and curve.gaussian is not None]
    if not widths_mm or len(widths_mm) < len(curves):
        return None
    sigma_mm = np.array(widths_mm) / FWHM_PER_SIGMA
    squared = np.maximum(sigma_mm**2 - float(np.mean(grid.spacing_mm**2)) / 6.0, (sigma_mm / 2.0) ** 2)
    return float(FWHM_PER_SIGMA * np.sqrt(squared).mean())


def recovery_flags(recovered: float | None, partial_volume: str = RECOVERY) -> tuple[Flag, ...]:
    """Return a flag where more than two thirds of a region's activity come from the curve, not from the scan, or are missing."""
    if recovered is None or recovered >= LEAST_RECOVERY:
        return ()
    if partial_volume == OFF:
        text = (
            f"Blur leaves {recovered:.0%} of the region's contrast inside it and nothing is given back: no stated uncertainty holds that."
        )
        return (Flag("RECOVERY_MISSING", Severity.REVIEW, text, "Compare the dose with recovery, stated beside it."),)
    text = f"Only {recovered:.0%} of the region's contrast is recovered: its activity is mostly the recovery curve's word."
    return (Flag("RECOVERY_LOW", Severity.REVIEW, text, "Judge the value without recovery, too; it is stated beside it."),)


def curve_flags(partial_volume: str, curves: Sequence[Recovery | None]) -> tuple[Flag, ...]:
    """Return a flag where recovery was asked for and scans have no curve."""
    if partial_volume == OFF or all(curve is not None for curve in curves):
        return ()
    text = "The protocol asks for partial-volume correction, but not every scan has a recovery curve: nothing was given back by one."
    remedy = "Give a calibration with [recovery] (mrtai calibrate), or set [recovery] in the protocol."
    return (Flag("NO_RECOVERY_CURVE", Severity.REVIEW, text, remedy),)
