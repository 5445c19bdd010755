"""One administration and its scans, as they stand inside the door: Bq/mL, one clock, no identity."""

from dataclasses import dataclass
from datetime import datetime

from mrtai.values.calibration import Recovery
from mrtai.values.flag import Flag
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from mrtai.values.marrow import BloodSamples


@dataclass(frozen=True, slots=True)
class Administration:
    """What was given: ``administered_bq`` of ``nuclide`` bound to ``agent`` at the instant ``at`` (with a time zone where known)."""

    nuclide: str
    agent: str
    administered_bq: float
    at: datetime

    def __post_init__(self) -> None:
        if not self.administered_bq > 0:
            raise ValueError(f"administered activity must be positive, got {self.administered_bq} Bq")


@dataclass(frozen=True, slots=True, eq=False)
class TimePoint:
    """One SPECT (or PET) of the cycle with its CT.

    Attributes:
        index: 1, 2, … in order of time.
        t_h: start of acquisition after administration.
        duration_s: duration of the acquisition; None where the header does not say.
        spect: activity concentration at the start of acquisition [Bq/mL] (decay correction already resolved).
        ct: the CT of the same visit in Hounsfield units, or None.
        contours: contours drawn on this visit's CT or SPECT, or None.
        series_uid_sha256: digest of the SPECT's series UID (of the file's content for NIfTI).
        decay_referred_to: the instant the stored values were referred to, ``scan`` or ``administration``.
        calibration: where Bq/mL comes from: ``header``, ``study.toml`` or the calibration's digest.
        calibration_sd: relative standard uncertainty of the sensitivity, where a calibration file states it.
        recovery: the camera's recovery curve, where that file has one.
        dead_time_factor: factor applied for dead time; 1 when none was.
        flags: doubtful states of this scan.
        dead_time_tau_relative_sd: relative standard uncertainty of the dead time per event, where the calibration states it.
    """

    index: int
    started_at: datetime
    t_h: float
    duration_s: float | None
    spect: Image
    ct: Image | None
    contours: Labels | None
    series_uid_sha256: str
    decay_referred_to: str
    calibration: str
    calibration_sd: float | None = None
    dead_time_factor: float = 1.0
    recovery: Recovery | None = None
    flags: tuple[Flag, ...] = ()
    dead_time_tau_relative_sd: float = 0.0

    def __post_init__(self) -> None:
        self.spect.require(Quantity.ACTIVITY_CONCENTRATION)
        if self.ct is not None:
            self.ct.require(Quantity.HOUNSFIELD)


@dataclass(frozen=True, slots=True, eq=False)
class PriorPet:
    """A PET taken before the therapy, which shows where lesions are.

    Attributes:
        pet: uptake in its own unit and place; ``ct`` the CT of the same visit, or None.
        nuclide: what was imaged, where known; ``agent`` too.
        started_at: start of acquisition, where known.
    """

    pet: Image
    ct: Image | None = None
    nuclide: str | None = None
    agent: str | None = None
    started_at: datetime | None = None

    def __post_init__(self) -> None:
        self.pet.require(Quantity.ACTIVITY_CONCENTRATION)
        if self.ct is not None:
            self.ct.require(Quantity.HOUNSFIELD)


@dataclass(frozen=True, slots=True)
class Override:
    """A header value that ``study.toml`` replaced; both are shown in the report."""

    field: str
    header: str
    used: str


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input of the case by relative path or UID and content: what a replay compares."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class Cycle:
    """One administration of one patient and its scans in order of time.

    Attributes:
        pseudonym: keyed pseudonym, ``P-…``; the identity stays outside.
        number: the cycle's number, 1 unless the caller said otherwise.
        inputs: every file read, for the manifest.
        blood: samples of this administration, where any were taken.
        prior_pet: a PET before the administration, where the study has one.
    """

    pseudonym: str
    number: int
    administration: Administration
    time_points: tuple[TimePoint, ...]
    overrides: tuple[Override, ...] = ()
    flags: tuple[Flag, ...] = ()
    inputs: tuple[InputFile, ...] = ()
    blood: BloodSamples | None = None
    prior_pet: PriorPet | None = None

    def __post_init__(self) -> None:
        times = [point.t_h for point in self.time_points]
        if not times:
            raise ValueError("cycle: at least one scan needed")
        if sorted(set(times)) != times:
            raise ValueError(f"cycle: scan times must increase, got {times} h")
