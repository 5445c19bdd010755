"""A camera's calibration from a phantom of known activity: sensitivity, recovery curve and dead time."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import OptimizeWarning, brentq, curve_fit

from mrtai.physics.dead_time import DeadTime, dead_time_of
from mrtai.physics.decay import remaining
from mrtai.physics.phantom_spheres import found_shift, in_view, recoveries
from mrtai.physics.quantify import bq_per_ml_per_count, mean_decay_during_scan
from mrtai.physics.recovery import used
from mrtai.physics.uncertainty_inputs import content_ml
from mrtai.units import BQ_PER_MBQ, SECONDS_PER_HOUR
from mrtai.values.calibration import Covariance, GaussianRecovery, Recovery
from mrtai.values.grid import Array
from mrtai.values.phantom import Phantom, SphereRecovery, Tomogram
from mrtai.values.refusal import DosimetryError

Form = Callable[[Array, float, float], Array]

START: Final = (12.0, 1.0)
"""A FWHM [mm] and a plateau from which a fit finds those of any gamma camera."""

CLOSER: Final = 0.5
"""A curve counts instead of the guidance's where spheres scatter by less than this share of what they do about that."""

LEAST_SPHERES: Final = 3
"""A curve of two parameters and one degree of freedom that tells how well it fits."""

LARGEST_EDGE_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class CameraFit:
    """What scans of a phantom say of a camera.

    Attributes:
        sensitivity_cps_per_mbq, sensitivity_sd: per detector head.
        sensitivity_terms: relative standard uncertainties that make up ``sensitivity_sd``, by name.
        spheres: recovery of every sphere, mean of the scans.
        recovery: None where the phantom has no spheres.
        between_spheres_sd: by how much spheres scatter about the curve that counts beyond their noise (one standard deviation of RC).
        dead_time: None where it was not measured; ``dead_time_reason`` says why.
        shifts_mm: by which the phantom lay elsewhere in each scan, LPS x, y, z.
    """

    sensitivity_cps_per_mbq: float
    sensitivity_sd: float
    sensitivity_terms: Mapping[str, float]
    spheres: tuple[SphereRecovery, ...]
    recovery: Recovery | None
    between_spheres_sd: float
    dead_time: DeadTime | None
    dead_time_reason: str
    shifts_mm: tuple[tuple[float, float, float], ...]


def camera_fit(scans: Sequence[Tomogram], hours_after: Sequence[float], phantom: Phantom, half_life_h: float) -> CameraFit:
    """Return sensitivity, recovery and dead time from scans of one phantom that start ``hours_after`` its activity was measured.

    Raises:
        DosimetryError: no counts, a phantom or sphere out of view, too few spheres, spheres that cannot be found or fitted.
    """
    _require_spheres(phantom)
    shares = [_share(scan, t_h, half_life_h) for scan, t_h in zip(scans, hours_after, strict=True)]
    edges = [_edge_share(scan) for scan in scans]
    activity_mbq = np.array(shares) * phantom.total_bq / BQ_PER_MBQ
    dead_time, reason = dead_time_of(scans, activity_mbq)
    factors = dead_time.factors if dead_time else (1.0,) * len(scans)
    counts = np.array([scan.counts.sum() for scan in scans])
    recorded = np.array([scan.recorded_counts or scan.counts.sum() for scan in scans])
    each = counts * factors / (activity_mbq * [scan.head_seconds for scan in scans])
    sensitivity = float(np.average(each, weights=recorded))
    spread = float(np.std(each, ddof=1) / np.sqrt(each.size) / sensitivity) if each.size > 1 else 0.0
    terms = {
        "stated activity": phantom.activity_sd,
        "counts": float(1 / np.sqrt(recorded.sum())),
        "counts at the edge of view": float(np.mean(edges)),
        "spread of scans": spread,
    }
    shifts, points = [], []
    for scan, share, factor in zip(scans, shares, factors, strict=True):
        shift = _placed(scan, phantom)
        shifts.append(shift)
        points.append(_points(scan, phantom, shift, share, sensitivity / factor))
    spheres = pooled(points)
    recovery, between = fitted_recovery(spheres) if spheres else (None, 0.0)
    return CameraFit(
        sensitivity_cps_per_mbq=sensitivity,
        sensitivity_sd=sensitivity * float(np.linalg.norm(list(terms.values()))),
        sensitivity_terms=terms,
        spheres=spheres,
        recovery=recovery,
        between_spheres_sd=between,
        dead_time=dead_time,
        dead_time_reason=reason,
        shifts_mm=tuple((float(x), float(y), float(z)) for x, y, z in shifts),
    )


def pooled(points: Sequence[Sequence[SphereRecovery]]) -> tuple[SphereRecovery, ...]:
    """Return the mean recovery of every sphere over scans, weighted by their noise."""
    means = []
    for of_scans in zip(*points, strict=True):
        weights = np.array([one.noise_sd for one in of_scans]) ** -2.0
        mean = float(np.average([one.coefficient for one in of_scans], weights=weights))
        means.append(SphereRecovery(of_scans[0].diameter_mm, of_scans[0].volume_ml, mean, float(weights.sum() ** -0.5)))
    return tuple(means)


def fitted_recovery(spheres: Sequence[SphereRecovery]) -> tuple[Recovery, float]:
    """Return RC = 1/(1 + (β/v)^γ) with its covariance, and the scatter of spheres about the curve that counts beyond their noise.

    A Gaussian with a plateau is fitted, too; where spheres scatter less than half as much about it, it counts.

    Raises:
        DosimetryError: recoveries that no such curve goes through.
    """
    volume_ml, rc, noise = (np.array(x) for x in zip(*((s.volume_ml, s.coefficient, s.noise_sd) for s in spheres), strict=True))
    try:
        (beta, gamma), covariance, between = _fitted(_logistic, (float(np.median(volume_ml)), 1.0), volume_ml, rc, noise)
    except (RuntimeError, ValueError, OptimizeWarning) as fault:
        raise _unfitted(rc, str(fault)) from fault
    if not (np.isfinite(covariance).all() and beta > 0 and gamma > 0):
        raise _unfitted(rc, "a parameter that the spheres do not determine")
    gaussian = _fitted_gaussian(volume_ml, rc, noise)
    if gaussian is not None and not gaussian.scatter < CLOSER * between:
        gaussian = None  # luck brings spheres of the other form so close in one of ten phantoms
    recovery = Recovery(float(beta), float(gamma), _symmetric(covariance), between, gaussian)
    return recovery, used(recovery).scatter


def _fitted_gaussian(volume_ml: Array, rc: Array, noise: Array) -> GaussianRecovery | None:
    """Return the Gaussian with a plateau, None where spheres do not determine one."""
    try:
        (fwhm_mm, plateau), covariance, between = _fitted(_gaussian, START, volume_ml, rc, noise)
        return GaussianRecovery(float(fwhm_mm), float(plateau), _symmetric(covariance), between)
    except (RuntimeError, ValueError, OptimizeWarning):
        return None


def _fitted(form: Form, start: tuple[float, float], volume_ml: Array, rc: Array, noise: Array) -> tuple[Array, Array, float]:
    """Return a form's two parameters, their covariance, and the scatter of spheres beyond their noise.

    Weights are 1/(noise² + s²). No formula is a law, fillings differ, and reconstruction adds to the noise of counting: so s, common to
    all spheres, is what makes χ² equal the degrees of freedom (Mandel and Paule 1970), 0 where χ² is not above them. Scaling the
    noise alone would leave small spheres, which have few counts, without a say.
    """

    def excess(extra: float) -> float:
        found, _ = _curve(form, start, volume_ml, rc, np.hypot(noise, extra))
        return float((((rc - form(volume_ml, *found)) / np.hypot(noise, extra)) ** 2).sum()) - (rc.size - len(start))

    between = 0.0 if excess(0.0) <= 0 else float(brentq(excess, 0.0, 1.0 + np.ptp(rc) * np.sqrt(rc.size), xtol=1e-6))
    return *_curve(form, start, volume_ml, rc, np.hypot(noise, between)), between


def _symmetric(covariance: Array) -> Covariance:
    (a, b), (_, d) = covariance.tolist()
    return ((a, b), (b, d))


def _share(scan: Tomogram, t_h: float, half_life_h: float) -> float:
    """Return what share of the filled activity was there, on average, during the acquisition."""
    return float(remaining(t_h, half_life_h)) * mean_decay_during_scan(scan.duration_s, half_life_h * SECONDS_PER_HOUR)


def _edge_share(scan: Tomogram) -> float:
    """Return the share of counts in the outermost voxels; as many again may lie beyond them."""
    total = float(scan.counts.sum())
    if not total > 0:
        raise DosimetryError(
            "no counts", where="scan", found=f"a sum of {total:g}", remedy="give a reconstructed tomogram", code="NO_COUNTS"
        )
    edge = (total - float(scan.counts[1:-1, 1:-1, 1:-1].sum())) / total
    if edge > LARGEST_EDGE_SHARE:
        raise DosimetryError(
            "the phantom is not all in view",
            where="scan",
            found=f"{edge:.0%} of the counts in the outermost voxels",
            remedy="scan it whole",
            code="PHANTOM_OUT_OF_VIEW",
        )
    return max(edge, 0.0)


def _placed(scan: Tomogram, phantom: Phantom) -> Array:
    """Return the shift of the phantom in a scan, shape ``(3,)``; refuses spheres out of view."""
    _require_view(scan, phantom, np.zeros(3))
    if not phantom.spheres:
        return np.zeros(3)
    shift = found_shift(scan.counts, scan.grid, phantom)
    _require_view(scan, phantom, shift)
    return shift


def _points(scan: Tomogram, phantom: Phantom, shift: Array, share: float, sensitivity: float) -> tuple[SphereRecovery, ...]:
    if not phantom.spheres:
        return ()
    per_count = bq_per_ml_per_count(
        sensitivity,
        heads=scan.heads,
        views_per_head=scan.views_per_head,
        seconds_per_view=scan.seconds_per_view,
        voxel_ml=scan.grid.voxel_ml,
        # the true concentrations are averages over the scan too
        decay_during_scan=1.0,
    )
    return recoveries(scan.counts * per_count, scan.grid, phantom, shift_mm=shift, remaining=share, counts_per_bq_per_ml=1 / per_count)


def _curve(form: Form, start: tuple[float, float], volume_ml: Array, rc: Array, sd: Array) -> tuple[Array, Array]:
    # both parameters are positive; their logarithms cannot be otherwise
    def by_logarithms(v: Array, first: float, second: float) -> Array:
        return form(v, float(np.exp(first)), float(np.exp(second)))

    with warnings.catch_warnings(), np.errstate(over="ignore"):
        # a curve that the points do not determine is refused, not warned of
        warnings.simplefilter("error", OptimizeWarning)
        found, covariance = curve_fit(by_logarithms, volume_ml, rc, p0=np.log(start), sigma=sd, absolute_sigma=True)
    parameters = np.exp(found)
    return parameters, covariance * np.outer(parameters, parameters)


def _logistic(volume_ml: Array, beta_ml: float, gamma: float) -> Array:
    return np.asarray(1.0 / (1.0 + (beta_ml / volume_ml) ** gamma))


def _gaussian(volume_ml: Array, fwhm_mm: float, plateau: float) -> Array:
    return plateau * content_ml(volume_ml, volume_ml, fwhm_mm) / volume_ml


def _require_spheres(phantom: Phantom) -> None:
    sizes = {sphere.diameter_mm for sphere in phantom.spheres}
    if phantom.spheres and len(sizes) < LEAST_SPHERES:
        raise DosimetryError(
            "too few spheres for a recovery curve",
            where="phantom",
            found=f"{len(sizes)} sizes",
            remedy=f"{LEAST_SPHERES} sizes are needed; without any sphere the sensitivity alone is measured",
            code="TOO_FEW_SPHERES",
        )
    if any(sphere.concentration_bq_per_ml == phantom.around_bq_per_ml for sphere in phantom.spheres):
        raise DosimetryError(
            "a sphere without contrast", where="phantom", found="the background's concentration", remedy="leave it out", code="NO_CONTRAST"
        )


def _require_view(scan: Tomogram, phantom: Phantom, shift: Array) -> None:
    outside = [f"{sphere.diameter_mm:g} mm" for sphere in phantom.spheres if not in_view(scan.grid, sphere, shift)]
    if outside:
        raise DosimetryError(
            "a sphere is out of view",
            where="scan",
            found=", ".join(outside),
            remedy="leave it out of the phantom file",
            code="SPHERE_OUT_OF_VIEW",
        )


def _unfitted(rc: Array, why: str) -> DosimetryError:
    found = f"coefficients {', '.join(f'{one:.2f}' for one in rc)} ({why})"
    remedy = "check the spheres' concentrations and places"
    return DosimetryError("the recovery curve cannot be fitted", where="phantom", found=found, remedy=remedy, code="RECOVERY_UNFITTED")
