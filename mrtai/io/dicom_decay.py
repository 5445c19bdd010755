"""Which instant stored activities are referred to, and the factor that brings them to the start of acquisition."""

from datetime import datetime
from enum import Enum
from typing import Any, Final

import numpy as np

from mrtai.io.clock import date_and_time, seconds_between, zone_of
from mrtai.io.dicom_numbers import number_of
from mrtai.io.dicom_tree import Instance, Series
from mrtai.io.study_toml import StatedScan
from mrtai.physics.decay import remaining
from mrtai.physics.quantify import mean_decay_during_scan
from mrtai.units import MILLISECONDS_PER_SECOND, SECONDS_PER_HOUR
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Array
from mrtai.values.refusal import DosimetryError, Held

FACTOR_TOLERANCE: Final = 0.005
"""A stated decay factor may differ from the expected one by the rounding of its times and half-life."""


class DecayReference(Enum):
    """The instant that stored values are referred to."""

    AVERAGE = "average during the scan"
    SCAN = "scan"
    ADMINISTRATION = "administration"


def frame_seconds(instance: Instance) -> float | None:
    """Return the acquisition time of one file [s]: its rotations in an NM tomogram, else ActualFrameDuration; None where not stated."""
    rotations = instance.header.get("RotationInformationSequence", None) or ()
    views = [(float(r.get("NumberOfFramesInRotation", 0) or 0), float(r.get("ActualFrameDuration", 0) or 0)) for r in rotations]
    milliseconds = sum(count * each for count, each in views) or float(instance.header.get("ActualFrameDuration", 0) or 0)
    return milliseconds / MILLISECONDS_PER_SECOND if milliseconds > 0 else None


def series_seconds(series: Series) -> float | None:
    """Return the time from the first start to the last end of the series' frames [s]; None where a duration is not stated."""
    delays = _delays_s(series)
    durations = [frame_seconds(instance) for instance in series.instances]
    known = [delay + duration for delay, duration in zip(delays, durations, strict=True) if duration is not None]
    return max(known) if len(known) == len(durations) else None


def header_reference(series: Series) -> str:
    """Return what the header says of decay, for a person: ``ADMIN with decay factor 1``."""
    stated = str(series.first.get("DecayCorrection", "") or "") or "nothing"
    factor = next((factor for factor in _factors(series) if factor is not None), None)
    return stated if factor is None else f"{stated} with decay factor {factor:g}"


def decay_reference(
    series: Series, person: StatedScan | None, *, administered_at: datetime | None, start: datetime, half_life_s: float
) -> DecayReference:
    """Return the instant the stored values are referred to: a person's word, else the header's where it does not contradict itself.

    Raises:
        Held: ADMIN with a factor that is not that of the time since administration, NONE with a correction applied, or a
            correction to an instant that is not named.
    """
    if person is not None and person.decay_referred_to is not None:
        return DecayReference(person.decay_referred_to)
    corrected = "DECY" in (series.first.get("CorrectedImage", None) or ())
    factors = _factors(series)
    applied = corrected or any(factor is not None and abs(factor - 1) > FACTOR_TOLERANCE for factor in factors)
    match str(series.first.get("DecayCorrection", "") or ""):
        case "START":
            return DecayReference.SCAN
        case "ADMIN":
            if administered_at is not None:
                _require_admin_factor(factors, series, seconds_between(administered_at, start), half_life_s)
            return DecayReference.ADMINISTRATION
        case "NONE" if applied:
            raise _held("DECAY_REFERENCE_CONFLICT", "DecayCorrection (0054,1102) is NONE, yet a correction is stated", series)
        case "" if applied:
            raise _held("DECAY_REFERENCE_UNKNOWN", "corrected for decay, but DecayCorrection (0054,1102) does not say to when", series)
        case "NONE" | "":
            return DecayReference.AVERAGE
        case other:
            raise DosimetryError(
                "unknown DecayCorrection (0054,1102)",
                where=series.where,
                found=other,
                remedy="state decay_referred_to in study.toml",
                code="DECAY_REFERENCE_UNKNOWN",
            )


def unproven_reference(series: Series, person: StatedScan | None) -> tuple[Flag, ...]:
    """Return a flag where the header says ADMIN and no decay factor shows that the values were referred to it indeed."""
    decided = person is not None and person.decay_referred_to is not None
    if decided or str(series.first.get("DecayCorrection", "") or "") != "ADMIN" or None not in _factors(series):
        return ()
    text = "The header says that values are referred to the administration, but no decay factor (0054,1321) proves it."
    return (Flag("DECAY_FACTOR_MISSING", Severity.REVIEW, text, "Confirm it, and state decay_referred_to in study.toml."),)


def start_factors(series: Series, reference: DecayReference, *, since_administration_s: float, half_life_s: float) -> Array:
    """Return by what each instance's values are multiplied to stand at the start of acquisition, shape ``(instances,)``."""
    if reference is DecayReference.ADMINISTRATION:
        return np.full(len(series.instances), float(_left(since_administration_s, half_life_s)))
    if reference is DecayReference.SCAN:
        return np.ones(len(series.instances))
    durations = [frame_seconds(instance) or 0.0 for instance in series.instances]
    mean = np.array([mean_decay_during_scan(duration, half_life_s) for duration in durations])
    factors: Array = 1.0 / (mean * _left(np.array(_delays_s(series)), half_life_s))
    return factors


def _factors(series: Series) -> list[float | None]:
    return [number_of(instance.header, "DecayFactor", instance.name) for instance in series.instances]


def _left(seconds: float | Array, half_life_s: float) -> Any:
    return remaining(np.asarray(seconds) / SECONDS_PER_HOUR, half_life_s / SECONDS_PER_HOUR)


def _delays_s(series: Series) -> list[float]:
    starts = [date_and_time(i.header, "AcquisitionDate", "AcquisitionTime", zone_of(i.header)) for i in series.instances]
    known = [start for start in starts if start is not None]
    return [seconds_between(min(known), start) if start is not None else 0.0 for start in starts]


def _require_admin_factor(factors: list[float | None], series: Series, since_administration_s: float, half_life_s: float) -> None:
    for factor, delay_s, instance in zip(factors, _delays_s(series), series.instances, strict=True):
        if factor is None:
            continue
        expected = 1.0 / float(_left(since_administration_s + delay_s, half_life_s))
        # some cameras count the decay during the frame in, some do not
        upper = expected / mean_decay_during_scan(frame_seconds(instance) or 0.0, half_life_s)
        if not expected * (1 - FACTOR_TOLERANCE) <= factor <= upper * (1 + FACTOR_TOLERANCE):
            what = f"DecayCorrection (0054,1102) is ADMIN, which takes a decay factor of {expected:.3f}"
            raise _held("DECAY_REFERENCE_CONFLICT", what, series, f"{factor:g}")


def _held(code: str, what: str, series: Series, found: str | None = None) -> Held:
    return Held(
        what,
        where=series.where,
        found=found or header_reference(series),
        remedy="state decay_referred_to = 'scan' or 'administration' for this scan in study.toml",
        code=code,
    )
