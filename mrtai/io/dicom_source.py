"""The scans a case was made from: their headers say whose objects these are and what they derive from.

This is the only value that carries an identity. It is read when objects are written and proven, and never stored or logged.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from mrtai.io.dicom_tree import Series, read_tree
from mrtai.io.pseudonym import pseudonym
from mrtai.values.refusal import DosimetryError


@dataclass(frozen=True, slots=True, eq=False)
class ScanSource:
    """Headers of one scan, without pixels: its SPECT and its CT in ascending order along their normal; no CT where it had none."""

    spect: tuple[Dataset, ...] = field(repr=False)
    ct: tuple[Dataset, ...] = field(repr=False)

    @property
    def frame_of_reference(self) -> str:
        """UID of the patient coordinate system of the scan."""
        return str(self.spect[0].FrameOfReferenceUID)


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Headers of all scans of a case; ``reference`` is the position of the one whose space maps and contours lie in."""

    scans: tuple[ScanSource, ...]
    reference: int

    @property
    def home(self) -> ScanSource:
        """The scan whose patient, study and frame of reference the objects follow."""
        return self.scans[self.reference]


def read_source(study: Path, results: Mapping[str, Any], manifest: Mapping[str, Any], key: bytes) -> Source:
    """Return the headers of the scans that a case names by digest, from the folder of its study.

    Raises:
        DosimetryError: not the patient of the case, a scan is missing, a file changed since, a scan has no frame of reference, or
            its CT has another.
    """
    own = _of_patient(read_tree(study), str(results["patient"]["pseudonym"]), key)
    by_instance = {instance.uid: (series, instance.sha256) for series in own for instance in series.instances}
    scans: list[list[Series]] = []
    digests = [scan["series_uid_sha256"] for scan in results["scans"]]
    for entry in manifest["inputs"]:
        if entry["name"] not in by_instance:
            continue  # what a person stated, labels and calibrations are no objects; a missing scan is found below
        series, sha256 = by_instance[entry["name"]]
        if sha256 != entry["sha256"]:
            raise _refused("a file of the study changed since the case was made", "another content", "run the case again", "SOURCE_CHANGED")
        if len(scans) < len(digests) and hashlib.sha256(series.uid.encode()).hexdigest() == digests[len(scans)]:
            scans.append([series])
        elif scans and series not in scans[-1]:
            scans[-1].append(series)
    if len(scans) < len(digests):
        found = f"{len(scans)} of {len(digests)}"
        raise _refused("a scan of the case is not in the study", found, "give the study the case was made from", "SCAN_NOT_FOUND")
    sources = tuple(_scan_source(group) for group in scans)
    return Source(sources, next((n for n, source in enumerate(sources) if source.ct), 0))


def _of_patient(series: Sequence[Series], wanted: str, key: bytes) -> list[Series]:
    own = [one for one in series if _pseudonym(one.first, key) == wanted]
    if not own:
        found = f"{len(series)} series, none of that patient" if series else "no DICOM"
        raise _refused("the study is not of the case's patient", found, "give the study the case was made from", "PATIENT_NOT_FOUND")
    return own


def _pseudonym(header: Dataset, key: bytes) -> str:
    patient_id, issuer = (str(header.get(tag, "") or "") for tag in ("PatientID", "IssuerOfPatientID"))
    return pseudonym(patient_id, issuer, key) if patient_id.strip() else ""


def _scan_source(group: Sequence[Series]) -> ScanSource:
    spect = _ordered(group[0])
    if not str(spect[0].get("FrameOfReferenceUID", "") or ""):
        raise _refused("a scan has no frame of reference (0020,0052)", "an empty value", "export the scan again", "NO_FRAME_OF_REFERENCE")
    ct = next((_ordered(series) for series in group[1:] if series.modality == "CT"), ())
    # a CT that a person named may lie in a space of its own; objects in the SPECT's space would refer to slices that lie elsewhere
    if ct and str(ct[0].get("FrameOfReferenceUID", "") or spect[0].FrameOfReferenceUID) != str(spect[0].FrameOfReferenceUID):
        remedy = "export the CT with the frame of reference of its SPECT, then run the case again"
        raise _refused("SPECT and CT of a scan lie in two frames of reference (0020,0052)", "two UIDs", remedy, "FRAME_OF_REFERENCE")
    return ScanSource(spect, ct)


def _ordered(series: Series) -> tuple[Dataset, ...]:
    headers = [instance.header for instance in series.instances]
    if len(headers) == 1:
        return (headers[0],)
    across = np.array([float(x) for x in headers[0].ImageOrientationPatient]).reshape(2, 3)
    normal = np.cross(across[0], across[1])
    return tuple(sorted(headers, key=lambda header: float(normal @ np.array([float(x) for x in header.ImagePositionPatient]))))


def _refused(what: str, found: str, remedy: str, code: str) -> DosimetryError:
    return DosimetryError(what, where="study", found=found, remedy=remedy, code=code)
