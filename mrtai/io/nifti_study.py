"""A NIfTI study: images in Bq/mL and HU, everything else stated in ``study.toml``."""

import hashlib
from pathlib import Path
from typing import Final

from mrtai.io.asked_cycle import cycle_number
from mrtai.io.clock import hours_between, require_distinct
from mrtai.io.dicom_spect import negative_voxels
from mrtai.io.hashes import file_sha256
from mrtai.io.nifti import read_image
from mrtai.io.pseudonym import pseudonym
from mrtai.io.study_files import inside
from mrtai.io.study_toml import NIFTI_ENDINGS, StatedScan, StatedStudy
from mrtai.io.tables import nuclide
from mrtai.physics.decay import remaining
from mrtai.values.flag import Flag, Severity
from mrtai.values.image import Image, Quantity
from mrtai.values.protocol import Protocol
from mrtai.values.refusal import DosimetryError
from mrtai.values.study import Administration, Cycle, InputFile, TimePoint

WHERE: Final = "study.toml"

NO_DURATION: Final = Flag(
    "DURATION_UNKNOWN",
    Severity.INFO,
    "NIfTI does not say how long the scan took; voxels were read as activity at its start.",
    "Correct for decay during the scan before the export.",
)


def is_nifti_study(stated: StatedStudy) -> bool:
    """Say whether ``study.toml`` names NIfTI files."""
    return any(scan.spect is not None and scan.spect.endswith(NIFTI_ENDINGS) for scan in stated.scans)


def read_nifti_study(
    folder: Path, stated: StatedStudy, *, protocol: Protocol, patient: str | None, cycle: str | None, pseudonym_key: bytes
) -> Cycle:
    """Return the cycle that ``study.toml`` describes; its images lie inside ``folder``.

    Raises:
        DosimetryError: activity, time, start or image missing, a path or link leading outside, a scan before the administration,
            two scans at one time, or another cycle than the one asked for.
    """
    administration = _administration(stated, protocol)
    number = cycle_number(cycle, {f"{administration.at:%Y-%m-%d}"})
    dated = [(scan, scan.started_at) for scan in stated.scans if scan.started_at is not None and scan.spect is not None]
    if len(dated) < len(stated.scans):
        raise _refused("a [[scan]] lacks 'spect' or 'started_at'", f"{len(dated)} complete of {len(stated.scans)}", "SCAN_TIME_MISSING")
    dated.sort(key=lambda pair: hours_between(administration.at, pair[1]))
    require_distinct([start for _, start in dated], WHERE)
    points, inputs = [], []
    for index, (scan, _) in enumerate(dated, start=1):
        point, files = _time_point(folder, index, scan, administration)
        points.append(point)
        inputs.extend(files)
    # without a patient the content itself is the identity, so equal studies get equal pseudonyms
    identity = patient or hashlib.sha256("".join(file.sha256 for file in inputs).encode()).hexdigest()
    return Cycle(pseudonym(identity, "", pseudonym_key), number, administration, tuple(points), inputs=tuple(inputs))


def _administration(stated: StatedStudy, protocol: Protocol) -> Administration:
    if stated.administered_bq is None:
        raise _refused("no administered activity", "no 'administered_mbq'", "ADMINISTERED_ACTIVITY_MISSING")
    if stated.administered_at is None:
        raise _refused("no time of administration", "no 'administered_at'", "ADMINISTRATION_TIME_MISSING")
    if stated.nuclide is None:
        raise _refused("no nuclide", "no 'nuclide'", "NUCLIDE_MISSING")
    if stated.nuclide != protocol.nuclide:
        raise DosimetryError(
            f"the protocol {protocol.name} is for {protocol.nuclide}",
            where=WHERE,
            found=stated.nuclide,
            remedy="choose the protocol of this nuclide",
            code="NUCLIDE_MISMATCH",
        )
    return Administration(stated.nuclide, stated.agent or protocol.agent, stated.administered_bq, stated.administered_at)


def _time_point(folder: Path, index: int, scan: StatedScan, administration: Administration) -> tuple[TimePoint, list[InputFile]]:
    if scan.started_at is None or scan.spect is None:
        raise ValueError("a scan without image or start")
    t_h = hours_between(administration.at, scan.started_at)
    if t_h <= 0:
        found = f"scan {scan.started_at.isoformat()}, administration {administration.at.isoformat()}"
        raise _refused("the scan starts before the administration", found, "SCAN_BEFORE_ADMINISTRATION", "correct the times")
    spect_file = inside(folder, scan.spect)
    ct_file = inside(folder, scan.ct) if scan.ct else None
    spect = read_image(spect_file, Quantity.ACTIVITY_CONCENTRATION)
    reference = scan.decay_referred_to or "scan"
    if reference == "administration":
        factor = float(remaining(t_h, nuclide(administration.nuclide).half_life_h))
        spect = Image((spect.voxels * factor).astype(spect.voxels.dtype), spect.quantity, spect.grid)
    # a number and a role, not a path: folders may be named after patients
    files = [InputFile(f"scan {index} {role}", file_sha256(file)) for role, file in (("spect", spect_file), ("ct", ct_file)) if file]
    point = TimePoint(
        index=index,
        started_at=scan.started_at,
        t_h=t_h,
        duration_s=None,
        spect=spect,
        ct=read_image(ct_file, Quantity.HOUNSFIELD) if ct_file else None,
        contours=None,
        series_uid_sha256=files[0].sha256,
        decay_referred_to=reference,
        calibration=WHERE,
        flags=(*negative_voxels(spect), *_zone_flag(scan, administration), NO_DURATION),
    )
    return point, files


def _zone_flag(scan: StatedScan, administration: Administration) -> tuple[Flag, ...]:
    if scan.started_at is None or (scan.started_at.tzinfo is None) == (administration.at.tzinfo is None):
        return ()
    text = "Only one of scan and administration has a time zone; both were read as wall time of one place."
    return (Flag("TIME_ZONE_ASSUMED", Severity.INFO, text, "Write both times with their zone."),)


def _refused(what: str, found: str, code: str, remedy: str = "state it in study.toml") -> DosimetryError:
    return DosimetryError(what, where=WHERE, found=found, remedy=remedy, code=code)
