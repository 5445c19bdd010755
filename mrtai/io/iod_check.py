"""Does an object obey its definition? ``dciodvfy`` says, with its own known faults taken into account."""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import pydicom
from pydicom._dicom_dict import DicomDictionary
from pydicom.uid import RTDoseStorage

from mrtai.io.source_header import is_valid
from mrtai.values.refusal import DosimetryError

VALIDATOR: Final = "dciodvfy"
TIMEOUT_S: Final = 300
LARGEST_REPORT_BYTES: Final = 2**26
LABELMAP: Final = b"1.2.840.10008.5.1.4.1.1.66.7"
UNKNOWN_LABELMAP: Final = "Shall not be present for Referenced SOP Class that is not segmentation - attribute <ReferencedSegmentNumber>"
"""A fault of the validator itself: where a report refers to a label map (Supplement 243), it does not know that this is a segmentation."""

INVALID_VALUE: Final = re.compile(r"Value invalid for this VR - \(0x([0-9a-fA-F]{4}),0x([0-9a-fA-F]{4})\)")
INVALID_VALUES: Final = "Dicom dataset contains invalid data values for Value Representations"
"""The second line follows from any of the first kind."""

ATTRIBUTES: Final = frozenset(word for entry in DicomDictionary.values() for word in (entry[2], entry[4]))
"""Names and keywords of the standard's elements: the only words between angle brackets that are no value."""


def iod_errors(path: Path) -> list[str]:
    """Return the errors that the validator finds in an object, none where it is sound.

    An RT Dose of 32 bit is checked by a twin of 16 bit, since the validator stops on any 32 bit pixel data (an assertion in its
    attrothr.cc, on public files too); all else in the twin is the object's.

    Raises:
        DosimetryError: the validator is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="mrtai-iod-") as folder:
        subject = _without_bulk(path, Path(folder))
        ran = subprocess.run([_validator(), str(subject)], capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False)
    lines = [line for line in (ran.stdout + ran.stderr).splitlines() if line.startswith("Error")]
    known = [UNKNOWN_LABELMAP] if path.stat().st_size < LARGEST_REPORT_BYTES and LABELMAP in path.read_bytes() else []
    lines = _without_byte_counts(path, lines)
    errors = [_without_values(line)[:160] for line in lines if not any(fault in line for fault in known)]
    if ran.returncode not in (0, 1):
        errors.append(f"the validator stopped with status {ran.returncode}")
    return sorted(set(errors))


def _without_values(line: str) -> str:
    """Return a line with its values left out, which may be the patient's; what stands in brackets is one unless it names an element."""
    rule, attribute, name = line.split(" = <")[0].rpartition(" attribute <")
    named = attribute and name.removesuffix(">") in ATTRIBUTES
    return re.sub(r"<.*>?", "<…>", rule if named else rule + attribute + name) + (f"{attribute}{name}" if named else "")


def _without_byte_counts(path: Path, lines: list[str]) -> list[str]:
    """Return the lines without another fault of the validator: it counts the bytes of a text in UTF-8 where PS3.5 6.2 counts characters."""
    tags = [INVALID_VALUE.search(line) for line in lines]
    wanted = {(int(tag[1], 16), int(tag[2], 16)) for tag in tags if tag}
    if not wanted:
        return lines
    elements = [element for element in pydicom.dcmread(path, defer_size=2**16).iterall() if (element.tag.group, element.tag.elem) in wanted]
    broken = {(one.tag.group, one.tag.elem) for one in elements if not is_valid(one.VR, str(one.value))}
    broken |= wanted - {(one.tag.group, one.tag.elem) for one in elements if not str(one.value).isascii()}
    kept = [line for line, tag in zip(lines, tags, strict=True) if not tag or (int(tag[1], 16), int(tag[2], 16)) in broken]
    return kept if broken else [line for line in kept if INVALID_VALUES not in line]


def _validator() -> str:
    beside = Path(sys.executable).with_name(VALIDATOR)
    found = str(beside) if beside.is_file() else shutil.which(VALIDATOR)
    if found is None:
        raise DosimetryError(
            "objects cannot be checked against their definition",
            where=VALIDATOR,
            found="not installed",
            remedy="install the Python package dicom3tools",
            code="VALIDATOR_MISSING",
        )
    return found


def _without_bulk(path: Path, folder: Path) -> Path:
    """Return a file to check: the object itself, or for RT Dose a twin of one 16 bit plane a frame."""
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    if ds.SOPClassUID != RTDoseStorage:
        return path
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.add_new("PixelData", "OW", bytes(2 * int(ds.NumberOfFrames) * int(ds.Rows) * int(ds.Columns)))
    twin = folder / path.name
    ds.save_as(twin, enforce_file_format=True)
    return twin
