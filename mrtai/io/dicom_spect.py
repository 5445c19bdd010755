"""Quantitative SPECT and PET: stored numbers become Bq/mL at the start of acquisition, or the scan is refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from pydicom.dataset import Dataset

from mrtai.io.calibrations import fitting_calibration
from mrtai.io.dicom_decay import frame_seconds
from mrtai.io.dicom_pixels import finite, stored_values
from mrtai.io.dicom_tree import Series
from mrtai.io.dicom_volume import Placement, place_frames, place_slices, rescale
from mrtai.physics.quantify import bq_per_ml_per_count, dead_time_factor
from mrtai.units import MICROSECONDS_PER_SECOND, MILLISECONDS_PER_SECOND
from mrtai.values.calibration import Calibration, Recovery
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Array
from mrtai.values.image import Image, Quantity
from mrtai.values.refusal import DosimetryError

NEGATIVE_NOTE: Final = 1e-3
"""Below this share of the activity, negative voxels are a note; above, a person must see them."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Where Bq/mL comes from: ``concentration_per_value`` [Bq/mL] by which rescaled values are multiplied, and its source."""

    concentration_per_value: float
    source: str
    relative_sd: float | None = None
    dead_time_factor: float = 1.0
    flags: tuple[Flag, ...] = ()
    recovery: Recovery | None = None
    dead_time_tau_relative_sd: float = 0.0


def is_spect(series: Series) -> bool:
    """Say whether a series is a map of activity: PT, or a reconstructed NM tomogram."""
    kind = [str(value).upper() for value in series.first.get("ImageType", None) or ()]
    return series.modality == "PT" or (series.modality == "NM" and "RECON TOMO" in kind)


def is_in_bq_per_ml(series: Series) -> bool:
    """Say whether the header itself states Bq/mL, by Units or by a real-world value mapping."""
    return str(series.first.get("Units", "") or "") == "BQML" or _real_world(series.first) is not None


def place_spect(series: Series) -> Placement:
    """Return the grid of a SPECT series and the order of its slices or frames."""
    if series.modality == "NM":
        if len(series.instances) > 1:
            raise DosimetryError(
                "several tomograms in one series",
                where=series.where,
                found=f"{len(series.instances)} files",
                remedy="keep one reconstruction",
                code="AMBIGUOUS_SPECT",
            )
        return place_frames(series.instances[0])
    return place_slices(series)


def scale_of(series: Series, *, voxel_ml: float, nuclide: str, started_at: datetime, calibrations: Sequence[Calibration]) -> Scale:
    """Return how stored values become Bq/mL: from the header's units, else from counts and a camera calibration.

    Raises:
        DosimetryError: units that are neither Bq/mL nor counts, counts without a fitting calibration or without counting time.
    """
    units = str(series.first.get("Units", "") or "")
    if is_in_bq_per_ml(series):
        return Scale(1.0, "header")
    if units not in ("", "CNTS"):
        raise DosimetryError(
            "units (0054,1001) are neither Bq/mL nor counts",
            where=series.where,
            found=units,
            remedy="export in Bq/mL (BQML)",
            code="NO_UNITS",
        )
    calibration = fitting_calibration(
        calibrations,
        camera_serial=str(series.first.get("DeviceSerialNumber", "") or ""),
        nuclide=nuclide,
        collimator=str(series.first.get("CollimatorGridName", "") or ""),
        started_at=started_at,
        where=series.where,
    )
    heads, views, seconds = counting(series)
    factor, flags = _dead_time(series, calibration, heads * views * seconds)
    concentration = bq_per_ml_per_count(
        calibration.sensitivity_cps_per_mbq,
        heads=heads,
        views_per_head=views,
        seconds_per_view=seconds,
        voxel_ml=voxel_ml,
        # the decay reference of the series takes care of the decay during the scan
        decay_during_scan=1.0,
    )
    sd = calibration.sensitivity_sd / calibration.sensitivity_cps_per_mbq
    tau_sd = calibration.dead_time_tau_sd_us / calibration.dead_time_tau_us if calibration.dead_time_tau_us else 0.0
    return Scale(concentration * factor, calibration.sha256, sd, factor, flags, calibration.recovery, tau_sd)


def counting(series: Series) -> tuple[int, int, float]:
    """Return heads, views per head and seconds per view of a tomogram in counts."""
    header = series.first
    heads = int(header.get("NumberOfDetectors", 0) or 0) or len(header.get("DetectorInformationSequence", None) or ())
    rotations: Sequence[Any] = header.get("RotationInformationSequence", None) or ()
    views = sum(int(rotation.get("NumberOfFramesInRotation", 0) or 0) for rotation in rotations)
    seconds = (frame_seconds(series.instances[0]) or 0.0) / max(views, 1)
    if heads < 1 or views < 1 or seconds <= 0:
        raise DosimetryError(
            "counts without counting time",
            where=series.where,
            found=f"{heads} detectors (0054,0021), {views} views (0054,0053), {seconds * MILLISECONDS_PER_SECOND:g} ms each (0018,1242)",
            remedy="export the tomogram with its rotation information, or in Bq/mL",
            code="COUNTING_TIME_MISSING",
        )
    return heads, views, seconds


def concentration(series: Series, placement: Placement, factors: Array) -> Image:
    """Return the map [Bq/mL]: rescaled stored values times ``factors``, one per instance, shape ``(instances,)``.

    Raises:
        DosimetryError: zero rescale slope, truncated or oversized pixel data, or NaN or infinite voxels.
    """
    if series.modality == "NM":
        frames = _rescaled(series, 0)
        voxels = frames[list(placement.order)] * factors[0]
    else:
        voxels = np.concatenate([_rescaled(series, n)[:1] * factors[n] for n in placement.order])
    return Image(finite(voxels, series.where), Quantity.ACTIVITY_CONCENTRATION, placement.grid)


def negative_voxels(image: Image) -> tuple[Flag, ...]:
    """Return a flag where voxels are negative: reconstruction does not give less than nothing."""
    values = np.asarray(image.voxels, dtype=np.float64)
    below = -float(values[values < 0].sum())
    if below == 0:
        return ()
    share = below / max(float(np.abs(values).sum()), np.finfo(np.float64).tiny)
    severity = Severity.INFO if share < NEGATIVE_NOTE else Severity.REVIEW
    text = f"{int(np.count_nonzero(values < 0))} voxels are negative, {share:.2%} of the activity; they are kept as they are."
    return (Flag("NEGATIVE_VOXELS", severity, text, "Check the reconstruction and the export."),)


def _rescaled(series: Series, number: int) -> Array:
    instance = series.instances[number]
    mapping = _real_world(instance.header)
    if str(instance.header.get("Units", "") or "") != "BQML" and mapping is not None:
        slope, intercept = float(mapping.RealWorldValueSlope), float(mapping.RealWorldValueIntercept)
        if slope == 0:
            raise DosimetryError(
                "the real-world value slope (0040,9225) is zero",
                where=instance.name,
                found="0",
                remedy="export again",
                code="ZERO_RESCALE_SLOPE",
            )
    else:
        slope, intercept = rescale(instance.header, instance.name, required=series.modality == "PT")
    values: Array = stored_values(instance).astype(np.float64) * slope + intercept
    return values


def _real_world(header: Dataset) -> Dataset | None:
    for item in header.get("RealWorldValueMappingSequence", None) or ():
        codes = item.get("MeasurementUnitsCodeSequence", None) or ()
        if (
            codes
            and str(codes[0].get("CodeValue", "")).casefold() == "bq/ml"
            and None
            not in (
                item.get("RealWorldValueSlope"),
                item.get("RealWorldValueIntercept"),
            )
        ):
            return Dataset(item)
    return None


def _dead_time(series: Series, calibration: Calibration, head_seconds: float) -> tuple[float, tuple[Flag, ...]]:
    if calibration.dead_time_tau_us is None:
        return 1.0, ()
    # the reconstructed image has counts that attenuation took away, so only the counts that were recorded tell the rate
    recorded = float(series.first.get("CountsAccumulated", 0) or 0)
    if recorded <= 0:
        text = "The calibration states a dead time, but the scan does not state its recorded counts: no correction was made."
        return 1.0, (Flag("DEAD_TIME_NOT_CORRECTED", Severity.REVIEW, text, "Export CountsAccumulated (0018,0070)."),)
    try:
        return dead_time_factor(recorded / head_seconds, calibration.dead_time_tau_us / MICROSECONDS_PER_SECOND), ()
    except ValueError as fault:
        raise DosimetryError(
            "the count rate is beyond the camera's dead time model",
            where=series.where,
            found=str(fault),
            remedy="check CountsAccumulated (0018,0070) and tau_us",
            code="DEAD_TIME_BEYOND_MODEL",
        ) from fault
