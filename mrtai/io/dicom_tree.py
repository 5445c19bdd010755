"""A folder tree of DICOM in any nesting, sorted by headers alone."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from mrtai.values.refusal import DosimetryError
from mrtai.values.study import InputFile

# pydicom's warnings quote header values, which may name the patient; what matters is checked where it is read
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

IGNORED_FOLDERS: Final = frozenset({"truth"})
DICOM_ENDINGS: Final = frozenset({".dcm", ".dicom", ".ima"})
PREAMBLE_BYTES: Final = 128
NUMBERS: Final = (
    "RescaleSlope",
    "RescaleIntercept",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SpacingBetweenSlices",
    "SliceThickness",
    "DecayFactor",
    "ActualFrameDuration",
    "NumberOfFrames",
    "CountsAccumulated",
)


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One DICOM file: its header without pixels, its place and digest; ``name`` is its path within the study."""

    path: Path
    name: str
    header: Dataset
    sha256: str

    @property
    def uid(self) -> str:
        """SOP instance UID."""
        return str(self.header.get("SOPInstanceUID", ""))


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """The instances of one series UID, at least one."""

    uid: str
    modality: str
    instances: tuple[Instance, ...]

    @property
    def first(self) -> Dataset:
        """Header of the first instance."""
        return self.instances[0].header

    @property
    def where(self) -> str:
        """How messages name the series: modality, number and folder; no identity."""
        number = str(self.first.get("SeriesNumber", "") or "?")
        return f"{self.modality} series {number} (first file {self.instances[0].name})"

    @property
    def inputs(self) -> tuple[InputFile, ...]:
        """UID and digest of every file."""
        return tuple(InputFile(instance.uid or instance.name, instance.sha256) for instance in self.instances)


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files of a study in stable order; skips ``truth`` and hidden ones, refuses links that lead outside."""
    root = folder.resolve()
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in IGNORED_FOLDERS)
        for name in [*folders, *sorted(names)]:
            path = Path(place) / name
            if not path.is_symlink():
                if path.is_file() and not name.startswith("."):
                    yield path
            elif not path.resolve().is_relative_to(root):
                raise DosimetryError(
                    "a link leads outside the study folder",
                    where=str(path.relative_to(folder)),
                    found="a symbolic link",
                    remedy="copy the file into the folder",
                    code="LINK_OUTSIDE",
                )


def read_tree(folder: Path) -> tuple[Series, ...]:
    """Return the series of a folder tree, ordered by UID; an empty tuple where it holds no DICOM.

    Raises:
        DosimetryError: a ``.dcm`` file that is not DICOM, a file without series UID, or a link leading outside.
    """
    groups: dict[str, list[Instance]] = defaultdict(list)
    for path in files_below(folder):
        instance = _instance(path, folder)
        if instance is not None:
            groups[_series_uid(instance)].append(instance)
    return tuple(Series(uid, str(group[0].header.get("Modality", "")), tuple(group)) for uid, group in sorted(groups.items()))


def of_one_patient(series: Sequence[Series], patient: str | None) -> tuple[Series, ...]:
    """Return the series of one patient ID; refuses several patients without ``patient``, never naming them."""
    by_patient: dict[str, list[Series]] = defaultdict(list)
    for one in series:
        for identity in sorted({str(i.header.get("PatientID", "") or "").strip() for i in one.instances}):
            by_patient[identity].append(one)
    if patient is None and len(by_patient) > 1:
        raise DosimetryError(
            "mixed patients",
            where="study",
            found=f"{len(by_patient)} patient IDs",
            remedy="choose one with --patient",
            code="MIXED_PATIENTS",
        )
    wanted = next(iter(by_patient)) if patient is None else patient
    if wanted not in by_patient:
        raise DosimetryError(
            "the patient asked for is not in the study",
            where="study",
            found=f"{len(by_patient)} other patient IDs",
            remedy="check --patient",
            code="PATIENT_NOT_FOUND",
        )
    chosen = tuple(by_patient[wanted])
    if any(len({str(i.header.get("PatientID", "") or "").strip() for i in one.instances}) > 1 for one in chosen):
        raise DosimetryError(
            "one series holds several patients", where="study", found="mixed patient IDs", remedy="separate them", code="MIXED_PATIENTS"
        )
    return chosen


def _series_uid(instance: Instance) -> str:
    uid = str(instance.header.get("SeriesInstanceUID", "") or "")
    if not uid:
        raise DosimetryError(
            "no series UID (0020,000E)", where=instance.name, found="an empty value", remedy="repair or remove the file", code="NOT_DICOM"
        )
    return uid


def _require_numbers(header: Dataset, name: str) -> None:
    for tag in NUMBERS:
        try:
            values = header.get(tag)
            np.array([] if values is None or values == "" else values, dtype=np.float64)
        except (ValueError, TypeError, OverflowError):
            raise DosimetryError(
                f"{tag} is not a number", where=name, found="text that cannot be read", remedy="correct the header", code="BAD_HEADER"
            ) from None


def _instance(path: Path, folder: Path) -> Instance | None:
    if path.name.upper() == "DICOMDIR":
        return None
    name = path.relative_to(folder).as_posix()
    with path.open("rb") as stream:
        is_dicom = stream.read(PREAMBLE_BYTES + 4)[PREAMBLE_BYTES:] == b"DICM"
    try:
        if not is_dicom and path.suffix.lower() not in DICOM_ENDINGS:
            return None
        header = pydicom.dcmread(path, stop_before_pixels=True)
        _require_numbers(header, name)
        with path.open("rb") as stream:
            return Instance(path, name, header, hashlib.file_digest(stream, "sha256").hexdigest())
    except (InvalidDicomError, EOFError, OSError, ValueError, KeyError, NotImplementedError) as fault:
        raise DosimetryError(
            "not DICOM", where=name, found=type(fault).__name__, remedy="remove or re-export the file", code="NOT_DICOM"
        ) from fault
