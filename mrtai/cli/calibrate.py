"""``mrtai calibrate``, and the phantom of ``mrtai simulate``."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mrtai.cli.arguments import days
from mrtai.cli.progress import bar, working
from mrtai.values.refusal import DosimetryError

if TYPE_CHECKING:
    from mrtai.physics.calibrate import CameraFit
    from mrtai.values.calibration import Recovery

DESCRIPTION: Final = """Measure a camera's sensitivity, recovery curve and dead time on a phantom of known activity.
Scans are reconstructed NM tomograms in counts, corrected for attenuation and scatter.
Dead time needs scans at activities that differ by a factor of two."""

PATIENT_ONLY: Final = ("patient", "protocol", "scanner", "format", "kinetics", "contours")
"""Options of ``mrtai simulate`` that a phantom does not use."""

SCAN_H: Final = (2.0,)
"""Start of a phantom's scan after its activity was measured, where no other is asked for."""


def add_calibrate(commands: Any) -> argparse.ArgumentParser:
    """Add the command to the parser's subcommands."""
    calibrate: argparse.ArgumentParser = commands.add_parser(
        "calibrate", help="a camera's calibration from a phantom scan", description=DESCRIPTION
    )
    calibrate.set_defaults(command=_calibrate)
    calibrate.add_argument("scans", nargs="+", type=Path, metavar="SCAN", help="DICOM file, or folder with one tomogram or several")
    calibrate.add_argument("--phantom", required=True, type=Path, metavar="PHANTOM.toml", help="what was filled in, and where")
    calibrate.add_argument("--out", required=True, type=Path, metavar="C.toml", help="a picture of the recovery curve goes to C.png")
    calibrate.add_argument("--valid-days", type=days, default=365, metavar="N", help="from the first scan's day (default 365)")
    return calibrate


def _calibrate(options: argparse.Namespace) -> dict[str, Any]:
    from mrtai.io.atomic import require_places
    from mrtai.io.phantom import read_phantom
    from mrtai.io.phantom_scan import read_phantom_scans
    from mrtai.io.tables import nuclide
    from mrtai.io.write_calibration import Provenance, write_calibration
    from mrtai.physics.calibrate import camera_fit

    require_places(options.out, options.out.with_suffix(".png"))
    phantom = read_phantom(options.phantom)
    decay = nuclide(phantom.nuclide)
    scans, hours_after = read_phantom_scans(options.scans, phantom, decay)
    with working("calibrating"):
        fit = camera_fit(scans, hours_after, phantom, decay.half_life_h)
    provenance = Provenance(options.phantom.name, phantom.nuclide, options.valid_days)
    picture = write_calibration(options.out, fit, scans, provenance)
    return _numbers(fit) | {
        "calibration": str(options.out),
        "picture": str(picture) if picture else None,
        "text": "\n".join([*_table(fit), f"calibration written: {options.out}"]),
    }


def _numbers(fit: "CameraFit") -> dict[str, Any]:
    dead, curve = fit.dead_time, fit.recovery
    return {
        "sensitivity_cps_per_mbq": fit.sensitivity_cps_per_mbq,
        "sensitivity_sd": fit.sensitivity_sd,
        "sensitivity_terms": dict(fit.sensitivity_terms),
        "dead_time": {"tau_us": dead.tau_us, "tau_sd_us": dead.tau_sd_us} if dead else None,
        "dead_time_reason": fit.dead_time_reason or None,
        "recovery": asdict(curve) if curve else None,
        "spheres": [
            {"diameter_mm": one.diameter_mm, "volume_ml": one.volume_ml, "coefficient": one.coefficient, "noise_sd": one.noise_sd}
            for one in fit.spheres
        ],
        "between_spheres_sd": fit.between_spheres_sd if curve else None,
        "shifts_mm": fit.shifts_mm,
    }


def _table(fit: "CameraFit") -> list[str]:
    from mrtai.physics.recovery import coefficient, curve_sd

    lines = [f"sensitivity {fit.sensitivity_cps_per_mbq:.4g} ± {fit.sensitivity_sd:.2g} cps/MBq per head"]
    if fit.dead_time is not None:
        lines.append(f"dead time {fit.dead_time.tau_us:.3g} ± {fit.dead_time.tau_sd_us:.2g} us per event")
    else:
        lines.append(f"no dead time: {fit.dead_time_reason}")
    if fit.recovery is None:
        return [*lines, "no recovery curve: the phantom has no spheres"]
    lines += [f"phantom found {_moved(shift)}" for shift in fit.shifts_mm]
    lines.append("sphere [mm]  volume [mL]  recovery  curve")
    for one in fit.spheres:
        rc = coefficient(fit.recovery, one.volume_ml)
        sd = rc * curve_sd(fit.recovery, one.volume_ml)
        lines.append(f"{one.diameter_mm:11.1f}  {one.volume_ml:11.2f}  {one.coefficient:8.3f}  {rc:.3f} ± {sd:.3f}")
    return [*lines, f"curve: {_form(fit.recovery)}; spheres scatter about it by {fit.between_spheres_sd:.3f}"]


def _form(curve: "Recovery") -> str:
    if curve.gaussian is None:
        return f"1/(1 + ({curve.beta_ml:.3g} mL/v)^{curve.gamma:.3g})"
    return f"a Gaussian of {curve.gaussian.fwhm_mm:.3g} mm with a plateau of {curve.gaussian.plateau:.3f}"


def _moved(shift: tuple[float, float, float]) -> str:
    return f"shifted by {', '.join(f'{x:+.1f}' for x in shift)} mm (x, y, z)"


def simulate_phantom(options: argparse.Namespace, defaults: dict[str, Any]) -> dict[str, Any]:
    """Write the simulated scans of ``options.phantom``; ``defaults`` are those of the options that only a patient uses."""
    import numpy as np

    from mrtai.io.phantom import read_phantom
    from mrtai.io.simulated_phantom import write_phantom_study
    from mrtai.io.tables import nuclide
    from mrtai.simulate.phantom import cylinder, tomogram
    from mrtai.simulate.scanner import Camera

    given = [name for name, default in defaults.items() if getattr(options, name) != default]
    if given:
        raise DosimetryError(
            "a phantom has no such option", where=f"--{given[0]}", found="--phantom", remedy="leave one of them out", code="UNUSED_OPTION"
        )
    phantom, camera = read_phantom(options.phantom), Camera()
    decay, rng = nuclide(phantom.nuclide), np.random.default_rng(options.seed)
    filled, scans = cylinder(phantom), []
    times_h = options.times_h or SCAN_H
    with bar("simulating") as tell:
        for number, t_h in enumerate(times_h):
            tell(f"scan {number + 1}", number / len(times_h))
            scans.append(tomogram(filled, phantom, decay, t_h=t_h, camera=camera, rng=rng))
    truth = {"sensitivity_cps_per_mbq": camera.sensitivity_cps_per_mbq, "fwhm_mm": camera.fwhm_mm, "scatter_share": camera.scatter_share}
    write_phantom_study(scans, options.out, phantom_toml=options.phantom.read_bytes(), camera=truth, seed=options.seed)
    return {"study": str(options.out), "text": f"phantom scans written: {options.out}"}
