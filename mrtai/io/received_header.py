"""What of a received file decides where it goes, and whether two files hold the same object."""

import hashlib
import logging
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from mrtai.values.refusal import DosimetryError

if TYPE_CHECKING:
    from hashlib import _Hash

# pydicom's warnings quote header values, which may name the patient
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

NOT_DICOM, NO_UIDS, OTHER_OBJECT = "NOT_DICOM", "NO_UIDS", "OTHER_OBJECT"
WANTED: Final = ["StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID"]
LARGE_BYTES: Final = 4096
UNDEFINED: Final = 0xFFFFFFFF
ITEM, SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
UID_FORM: Final = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True, slots=True)
class Uids:
    """The UIDs of one object."""

    study: str
    series: str
    sop_class: str
    instance: str


def read_uids(path: Path) -> Uids:
    """Return the UIDs of the object in a DICOM file; its large values are passed over.

    Raises:
        DosimetryError: it is no DICOM, it ends before its data set does, or a UID is missing.
    """
    try:
        with path.open("rb") as stream:
            header = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=[*WANTED], defer_size=LARGE_BYTES)
            found = [str(header.get(keyword, "")) for keyword in WANTED]
            whole = _whole(stream, header, path.stat().st_size)
    except OSError:
        raise
    except Exception as fault:  # pydicom answers garbage with whatever fails first
        raise _refused("the file cannot be read as DICOM", type(fault).__name__, "send it again", NOT_DICOM) from None
    if not whole:
        raise _refused("the data set is longer than its file", "a file that was cut short", "send it again", NOT_DICOM)
    missing = [keyword for keyword, uid in zip(WANTED, found, strict=True) if not UID_FORM.fullmatch(uid)]
    if missing:
        raise _refused("the object does not say what it is", f"no valid {', '.join(missing)}", "correct it where it was made", NO_UIDS)
    return Uids(*found)


def require_object(uids: Uids, instance: str | None, sop_class: str | None) -> None:
    """Refuse an object that is another than the one announced; None says that nothing was announced."""
    for announced, found, what in ((instance, uids.instance, "SOP instance"), (sop_class, uids.sop_class, "SOP class")):
        if announced is not None and announced != found:
            raise _refused(f"the {what} is not the one announced", "another UID", "correct the sender", OTHER_OBJECT)


def object_digest(path: Path) -> str:
    """Return a SHA-256 that two files share when they hold the same data set.

    File meta, group lengths and the encoding of VRs and lengths do not count. What cannot be read is told apart by its bytes, so that
    both are kept and a person decides.
    """
    digest = hashlib.sha256()
    try:
        _add(pydicom.dcmread(path), digest)
    except OSError:
        raise
    except Exception:  # pydicom answers garbage with whatever fails first
        digest = hashlib.sha256(path.read_bytes())
    return digest.hexdigest()


def _add(dataset: Dataset, digest: "_Hash") -> None:
    for tag in sorted(dataset.keys()):
        if tag.element == 0:
            continue
        item = dataset.get_item(tag)
        digest.update(struct.pack("<L", tag))
        if item is not None and _vr(item.VR, tag) == "SQ":
            for part in dataset[tag].value or ():
                digest.update(b"(")
                _add(part, digest)
                digest.update(b")")
        else:
            value = None if item is None else item.value
            content = value if isinstance(value, bytes) else repr(value or "").encode()
            digest.update(struct.pack("<Q", len(content)))
            digest.update(content)


def _vr(stated: str | None, tag: BaseTag) -> str:
    """Return the VR: implicit encoding states none, and a known sequence may have come as UN."""
    if stated not in (None, "UN"):
        return str(stated)
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def _whole(stream: BinaryIO, header: FileDataset, file_bytes: int) -> bool:
    """Return True when the pixel data, where the reading stopped, end within the file; values before are passed over by seeking."""
    position = stream.tell()
    if header.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian or position >= file_bytes:
        # inflating has found the end; without pixel data the reading ended at the file's
        return position <= file_bytes
    implicit, little = header.original_encoding
    length_at, order = (4 if implicit else 8), ("<" if little else ">")
    start = stream.read(length_at + 4)
    (length,) = struct.unpack_from(f"{order}L", start, length_at)
    if length != UNDEFINED:
        return stream.tell() + int(length) <= file_bytes
    return _fragments_end(stream, file_bytes)


def _fragments_end(stream: BinaryIO, file_bytes: int) -> bool:
    while stream.tell() <= file_bytes:
        group, element, length = struct.unpack("<HHL", stream.read(8))
        if (group, element) != ITEM:
            return (group, element) == SEQUENCE_END
        stream.seek(length, os.SEEK_CUR)
    return False


def _refused(what: str, found: str, remedy: str, code: str) -> DosimetryError:
    return DosimetryError(what, where="received instance", found=found, remedy=remedy, code=code)
