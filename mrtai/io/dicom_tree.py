"""A folder tree of DICOM in any nesting, sorted by headers alone."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from mrtai.io.dicom_numbers import require_numbers, whole_or_unknown
from mrtai.values.refusal import DosimetryError
from mrtai.values.study import InputFile

# pydicom's warnings quote header values, which may name the patient; what matters is checked where it is read
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

IGNORED_FOLDERS: Final = frozenset({"truth"})
DICOM_ENDINGS: Final = frozenset({".dcm", ".dicom", ".ima"})
PREAMBLE_BYTES: Final = 128
DIGEST_DIGITS: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One DICOM file: its header without pixels, its place and digest; ``name`` is how messages speak of it, without any path."""

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
        """How messages name the series: modality, number and a digest of its UID; folders may be named after patients."""
        digest = hashlib.sha256(self.uid.encode()).hexdigest()[:DIGEST_DIGITS]
        return f"{self.modality} series {whole_or_unknown(self.first, 'SeriesNumber')} ({digest})"

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
                    where=path.name,
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
        instance = _instance(path)
        if instance is not None:
            groups[_series_uid(instance)].append(instance)
    return tuple(Series(uid, str(group[0].header.get("Modality", "")), tuple(group)) for uid, group in sorted(groups.items()))


def _series_uid(instance: Instance) -> str:
    uid = str(instance.header.get("SeriesInstanceUID", "") or "")
    if not uid:
        raise DosimetryError(
            "no series UID (0020,000E)", where=instance.name, found="an empty value", remedy="repair or remove the file", code="NOT_DICOM"
        )
    return uid


def _instance(path: Path) -> Instance | None:
    if path.name.upper() == "DICOMDIR":
        return None
    with path.open("rb") as stream:
        is_dicom = stream.read(PREAMBLE_BYTES + 4)[PREAMBLE_BYTES:] == b"DICM"
    try:
        if not is_dicom and path.suffix.lower() not in DICOM_ENDINGS:
            return None
        header = pydicom.dcmread(path, stop_before_pixels=True)
        series, number = (whole_or_unknown(header, tag) for tag in ("SeriesNumber", "InstanceNumber"))
        name = f"{header.get('Modality', '') or 'DICOM'} series {series}, instance {number}"
        require_numbers(header, name)
        with path.open("rb") as stream:
            return Instance(path, name, header, hashlib.file_digest(stream, "sha256").hexdigest())
    except (InvalidDicomError, EOFError, OSError, ValueError, KeyError, NotImplementedError) as fault:
        raise DosimetryError(
            "not DICOM", where=path.name, found=type(fault).__name__, remedy="remove or re-export the file", code="NOT_DICOM"
        ) from fault
