"""Camera calibration files and the choice of the one that fits a scan."""

import hashlib
from collections.abc import Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Final

import numpy as np

from mrtai.io.clock import seconds_between
from mrtai.io.nuclide_names import nuclide_name
from mrtai.io.toml_file import instant, number, read_toml, require_keys, text
from mrtai.values.calibration import FORMULA_SCATTER, KNOWN_EXACTLY, Calibration, Covariance, GaussianRecovery, Recovery
from mrtai.values.refusal import DosimetryError

CODE: Final = "CALIBRATION_FILE"
_TEXTS: Final = ("camera_serial", "nuclide", "collimator")
_NUMBERS: Final = ("sensitivity_cps_per_mbq", "sensitivity_sd")
_INSTANTS: Final = ("valid_from", "valid_to")


def read_calibration(path: Path) -> Calibration:
    """Return a calibration; refuses missing and unknown keys, wrong types and impossible values by name."""
    table, content = read_toml(path, CODE)
    where = path.name
    required = (*_TEXTS, *_NUMBERS, *_INSTANTS)
    require_keys(table, {*required, "dead_time", "recovery"}, where=where, code=CODE)
    missing = [key for key in required if key not in table]
    if missing:
        raise DosimetryError("keys are missing", where=where, found=f"no {', '.join(missing)}", remedy="add them", code=CODE)
    try:
        return Calibration(
            camera_serial=text(table, "camera_serial", where=where, code=CODE) or "",
            nuclide=nuclide_name(str(table["nuclide"])) or str(table["nuclide"]),
            collimator=text(table, "collimator", where=where, code=CODE) or "",
            sensitivity_cps_per_mbq=_float(table, "sensitivity_cps_per_mbq", where),
            sensitivity_sd=_float(table, "sensitivity_sd", where),
            valid_from=_instant(table, "valid_from", where),
            valid_to=_instant(table, "valid_to", where),
            sha256=hashlib.sha256(content).hexdigest(),
            dead_time_tau_us=_dead_time(table, where, "tau_us"),
            recovery=_recovery(table, where),
            dead_time_tau_sd_us=_dead_time(table, where, "tau_sd_us") or 0.0,
        )
    except (ValueError, TypeError, OverflowError) as fault:
        raise DosimetryError("impossible values", where=where, found=str(fault), remedy="correct them", code=CODE) from fault


def fitting_calibration(
    calibrations: Sequence[Calibration], *, camera_serial: str, nuclide: str, collimator: str, started_at: datetime, where: str
) -> Calibration:
    """Return the one calibration of this camera, nuclide and collimator that is valid at the start of the scan.

    Raises:
        DosimetryError: none at all, or none for this camera, nuclide, collimator or date, or several; each with its own code.
    """
    if not calibrations:
        raise _unfit("NO_UNITS", "counts without units, and no calibration", where, "no calibration file", "give --calibration C.toml")
    left = [c for c in calibrations if c.camera_serial == camera_serial]
    if not left:
        raise _unfit("CALIBRATION_OTHER_CAMERA", "no calibration of this camera", where, _known("cameras", calibrations, "camera_serial"))
    right = [c for c in left if c.nuclide == nuclide]
    if not right:
        raise _unfit("CALIBRATION_OTHER_NUCLIDE", f"the calibration is not for {nuclide}", where, _known("nuclides", left, "nuclide"))
    fit = [c for c in right if not collimator or not c.collimator or c.collimator.casefold() == collimator.casefold()]
    if not fit:
        found = _known("collimators", right, "collimator")
        raise _unfit("CALIBRATION_OTHER_COLLIMATOR", f"the calibration is not for collimator {collimator}", where, found)
    valid = [c for c in fit if seconds_between(c.valid_from, started_at) >= 0 and seconds_between(started_at, c.valid_to) >= 0]
    if not valid:
        spans = ", ".join(f"{c.valid_from:%Y-%m-%d} to {c.valid_to:%Y-%m-%d}" for c in fit)
        what = f"the calibration is not valid on {started_at:%Y-%m-%d}"
        raise _unfit("CALIBRATION_EXPIRED", what, where, f"valid {spans}")
    if len(valid) > 1:
        raise _unfit("CALIBRATION_AMBIGUOUS", "several calibrations fit", where, f"{len(valid)} of them", "give the one that counts")
    return valid[0]


def _unfit(code: str, what: str, where: str, found: str, remedy: str = "give a calibration file that fits this scan") -> DosimetryError:
    return DosimetryError(what, where=where, found=found, remedy=remedy, code=code)


def _known(noun: str, calibrations: Sequence[Calibration], field: str) -> str:
    return f"calibrated {noun}: {', '.join(sorted({str(getattr(c, field)) for c in calibrations}))}"


def _float(table: dict[str, Any], key: str, where: str) -> float:
    value = number(table, key, where=where, code=CODE)
    if value is None or not 0 <= value < float("inf"):
        raise ValueError(f"{key} = {value}")
    return value


def _instant(table: dict[str, Any], key: str, where: str) -> datetime:
    day = table[key]
    if isinstance(day, str) and len(day.strip()) == len("2026-03-02"):
        day = date.fromisoformat(day.strip())
    if isinstance(day, date) and not isinstance(day, datetime):
        # a bare date includes its whole day
        return datetime.combine(day, time.max if key == "valid_to" else time.min)
    value = instant(table, key, where=where, code=CODE)
    if value is None:
        raise ValueError(f"{key} is empty")
    return value


def _dead_time(table: dict[str, Any], where: str, key: str) -> float | None:
    part = table.get("dead_time")
    if part is None:
        return None
    require_keys(part, {"tau_us", "tau_sd_us"}, where=f"{where} [dead_time]", code=CODE)
    return _float(part, key, where) if key == "tau_us" or key in part else None


def _recovery(table: dict[str, Any], where: str) -> Recovery | None:
    part = table.get("recovery")
    if part is None:
        return None
    where = f"{where} [recovery]"
    require_keys(part, {"beta_ml", "gamma", "covariance", "scatter", "gaussian"}, where=where, code=CODE)
    return Recovery(_float(part, "beta_ml", where), _float(part, "gamma", where), *_certainty(part, where), _gaussian(part, where))


def _gaussian(recovery: dict[str, Any], where: str) -> GaussianRecovery | None:
    part = recovery.get("gaussian")
    if part is None:
        return None
    where = f"{where[:-1]}.gaussian]"
    require_keys(part, {"fwhm_mm", "plateau", "covariance", "scatter"}, where=where, code=CODE)
    return GaussianRecovery(_float(part, "fwhm_mm", where), _float(part, "plateau", where), *_certainty(part, where))


def _certainty(part: dict[str, Any], where: str) -> tuple[Covariance, float]:
    """Return covariance and scatter of a curve."""
    rows = np.array(part.get("covariance", KNOWN_EXACTLY), dtype=np.float64)
    if rows.shape != (2, 2):
        raise ValueError(f"covariance = {part['covariance']}: two rows of two numbers are needed")
    (a, b), (c, d) = rows.tolist()
    return ((a, b), (c, d)), _float(part, "scatter", where) if "scatter" in part else FORMULA_SCATTER
