"""A calibration file from a fit to a phantom, with its picture beside it."""

import json
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from mrtai.io.atomic import write_bytes
from mrtai.io.calibration_figure import recovery_figure
from mrtai.io.figures import png
from mrtai.physics.calibrate import CameraFit
from mrtai.physics.recovery import coefficient
from mrtai.values.calibration import GaussianRecovery, Recovery
from mrtai.values.phantom import Tomogram


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a calibration comes from and how long it holds: the phantom's file, without its path, and days from the first scan."""

    phantom: str
    nuclide: str
    valid_days: int


def write_calibration(path: Path, fit: CameraFit, scans: tuple[Tomogram, ...], provenance: Provenance) -> Path | None:
    """Write the TOML at ``path`` and return the picture of the recovery curve beside it, None where there is no curve."""
    text, picture = calibration_toml(fit, scans, provenance).encode(), path.with_suffix(".png") if fit.recovery is not None else None
    if picture is not None:
        write_bytes(picture, png(recovery_figure(fit)))
    write_bytes(path, text)
    return picture


def calibration_toml(fit: CameraFit, scans: tuple[Tomogram, ...], provenance: Provenance) -> str:
    """Return the text of the calibration file; what is uncertain, and what was left out, stands in comments."""
    first = scans[0]
    start = first.started_at.date()
    terms = ", ".join(f"{name} {value:.2%}" for name, value in fit.sensitivity_terms.items())
    lines = [
        f"# {len(scans)} scan{'s' * (len(scans) > 1)} from {start}, phantom {' '.join(provenance.phantom.split())}",
        f"camera_serial = {json.dumps(first.camera_serial)}",
        f"nuclide = {json.dumps(provenance.nuclide)}",
        f"collimator = {json.dumps(first.collimator or 'not stated')}",
        f"sensitivity_cps_per_mbq = {fit.sensitivity_cps_per_mbq:.6g}     # per detector head",
        f"sensitivity_sd = {fit.sensitivity_sd:.3g}     # {terms}",
        f"valid_from = {start}",
        f"valid_to = {_end(start, provenance.valid_days)}",
        *_dead_time(fit),
        *_recovery(fit),
    ]
    return "\n".join(lines) + "\n"


def _end(start: date, days: int) -> date:
    return start + timedelta(days=days)


def _dead_time(fit: CameraFit) -> list[str]:
    if fit.dead_time is None:
        return ["", f"# no [dead_time]: {fit.dead_time_reason}"]
    return ["", "[dead_time]", f"tau_us = {fit.dead_time.tau_us:.4g}     # paralysable", f"tau_sd_us = {fit.dead_time.tau_sd_us:.2g}"]


def _recovery(fit: CameraFit) -> list[str]:
    if fit.recovery is None:
        return ["", "# no [recovery]: the phantom has no spheres"]
    shifts = "; ".join(", ".join(f"{x:+.1f}" for x in shift) for shift in fit.shifts_mm)
    rows = [
        f"#   {one.diameter_mm:g} mm, {one.volume_ml:.2f} mL: RC {one.coefficient:.3f}, "
        f"curve {one.coefficient - coefficient(fit.recovery, one.volume_ml):+.3f} away"
        for one in fit.spheres
    ]
    return [
        "",
        f"# the phantom lay shifted by {shifts} mm (x, y, z)",
        *rows,
        "[recovery]     # RC = 1/(1 + (beta/v)^gamma)",
        f"beta_ml = {fit.recovery.beta_ml:.6g}",
        f"gamma = {fit.recovery.gamma:.6g}",
        *_certainty(fit.recovery, "beta_ml, gamma"),
        *_gaussian(fit.recovery.gaussian),
    ]


def _gaussian(curve: GaussianRecovery | None) -> list[str]:
    if curve is None:
        return []
    return [
        "",
        "[recovery.gaussian]     # plateau x what a sphere keeps under a Gaussian: closer to the spheres, so this is used",
        f"fwhm_mm = {curve.fwhm_mm:.6g}",
        f"plateau = {curve.plateau:.6g}",
        *_certainty(curve, "fwhm_mm, plateau"),
    ]


def _certainty(curve: Recovery | GaussianRecovery, parameters: str) -> list[str]:
    covariance = ", ".join(f"[{a:.6e}, {b:.6e}]" for a, b in curve.covariance)
    return [
        f"covariance = [{covariance}]     # of ({parameters})",
        f"scatter = {curve.scatter:.3g}     # of spheres about the curve beyond their noise, one standard deviation of RC",
    ]
