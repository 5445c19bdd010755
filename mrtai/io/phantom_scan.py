"""Tomograms of a phantom in counts, from DICOM."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np

from mrtai.io.clock import seconds_between
from mrtai.io.dicom_administration import header_nuclide, started_at
from mrtai.io.dicom_decay import DecayReference, decay_reference, header_reference
from mrtai.io.dicom_spect import concentration, counting, is_in_bq_per_ml, is_spect, place_spect
from mrtai.io.dicom_tree import Series, read_tree
from mrtai.physics.quantify import mean_decay_during_scan
from mrtai.units import SECONDS_PER_HOUR, SECONDS_PER_MINUTE
from mrtai.values.nuclide import Nuclide
from mrtai.values.phantom import Phantom, Tomogram
from mrtai.values.refusal import DosimetryError

SAME_START_S: Final = SECONDS_PER_MINUTE


def read_phantom_scans(paths: Sequence[Path], phantom: Phantom, nuclide: Nuclide) -> tuple[tuple[Tomogram, ...], tuple[float, ...]]:
    """Return every tomogram below ``paths`` (folders or files) in order of time, and its start in hours after ``measured_at``.

    Raises:
        DosimetryError: no tomogram in counts, another nuclide, no time, a scan before the activity was measured, two reconstructions of
            one scan, or scans of several cameras.
    """
    found = {one.uid: one for path in paths for one in _tomograms(path)}
    scans = sorted((_tomogram(series, phantom, nuclide) for series in found.values()), key=lambda scan: _seconds(phantom, scan))
    after_s = [_seconds(phantom, scan) for scan in scans]
    if after_s[0] < 0:
        raise _refusal("a scan starts before the activity was measured", f"{-after_s[0]:.0f} s before", "correct measured_at", "BAD_TIME")
    if len(after_s) > 1 and np.diff(after_s).min() < SAME_START_S:
        raise _refusal("two tomograms of one scan", "starts less than a minute apart", "keep one reconstruction", "AMBIGUOUS_SPECT")
    cameras = {(scan.camera_serial, scan.collimator) for scan in scans}
    if len(cameras) > 1:
        names = "; ".join(f"{serial}, {collimator}" for serial, collimator in sorted(cameras))
        raise _refusal("scans of several cameras or collimators", names, "calibrate one at a time", "SEVERAL_CAMERAS")
    return tuple(scans), tuple(seconds / SECONDS_PER_HOUR for seconds in after_s)


def _tomograms(path: Path) -> list[Series]:
    if not path.exists():
        raise _refusal("no such file or folder", "nothing there", "check the path", "NOT_FOUND")
    series = read_tree(path if path.is_dir() else path.parent)
    wanted = [one for one in series if path.is_dir() or any(instance.path == path for instance in one.instances)]
    spects = [one for one in wanted if is_spect(one)]
    if not spects:
        kinds = ", ".join(sorted({f"{one.modality} series" for one in wanted})) or "no DICOM"
        raise _refusal("no tomogram", kinds, "give reconstructed NM tomograms (RECON TOMO) in counts", "NO_SPECT")
    return spects


def _tomogram(series: Series, phantom: Phantom, nuclide: Nuclide) -> Tomogram:
    _require_counts(series)
    named, start = header_nuclide(series), started_at(series)[0]
    if named is not None and named != phantom.nuclide:
        raise _refusal(
            "the scan is of another nuclide than the phantom", f"{named} for {phantom.nuclide}", "correct one of them", "OTHER_NUCLIDE"
        )
    if start is None:
        raise _refusal(
            "no start of acquisition (0008,0022) and (0008,0032)", "empty values", "export it with its times", "SCAN_TIME_MISSING"
        )
    serial = str(series.first.get("DeviceSerialNumber", "") or "").strip()
    if not serial:
        raise _refusal("no camera", "an empty DeviceSerialNumber (0018,1000)", "export it with its equipment", "NO_CAMERA")
    heads, views, seconds = counting(series)
    placement = place_spect(series)
    image = concentration(series, placement, np.array([_as_counted(series, start, views * seconds, nuclide)]))
    return Tomogram(
        counts=np.asarray(image.voxels, dtype=np.float64),
        grid=placement.grid,
        started_at=start,
        nuclide=named,
        heads=heads,
        views_per_head=views,
        seconds_per_view=seconds,
        recorded_counts=float(series.first.get("CountsAccumulated", 0) or 0) or None,
        camera_serial=serial,
        collimator=str(series.first.get("CollimatorGridName", "") or "").strip(),
    )


def _require_counts(series: Series) -> None:
    units = str(series.first.get("Units", "") or "")
    if series.modality != "NM" or is_in_bq_per_ml(series) or units not in ("", "CNTS"):
        found = units or f"a {series.modality} series in Bq/mL"
        raise _refusal("a calibration is made from counts", found, "export the reconstructed tomogram as NM in counts", "NOT_IN_COUNTS")


def _as_counted(series: Series, start: datetime, duration_s: float, nuclide: Nuclide) -> float:
    """Return by what stored counts are multiplied to be those without correction for decay."""
    half_life_s = nuclide.half_life_h * SECONDS_PER_HOUR
    match decay_reference(series, None, administered_at=None, start=start, half_life_s=half_life_s):
        case DecayReference.AVERAGE:
            return 1.0
        case DecayReference.SCAN:
            return mean_decay_during_scan(duration_s, half_life_s)
        case _:
            found = header_reference(series)
            raise _refusal("counts referred to an administration", found, "reconstruct without decay correction", "DECAY_REFERENCE_UNKNOWN")


def _seconds(phantom: Phantom, scan: Tomogram) -> float:
    return seconds_between(phantom.measured_at, scan.started_at)


def _refusal(what: str, found: str, remedy: str, code: str) -> DosimetryError:
    return DosimetryError(what, where="scan", found=found, remedy=remedy, code=code)
