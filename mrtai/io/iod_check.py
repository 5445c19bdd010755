"""Does an object obey its definition? ``dciodvfy`` says, with its own known faults taken into account."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import pydicom
from pydicom.uid import RTDoseStorage

from mrtai.values.refusal import DosimetryError

VALIDATOR: Final = "dciodvfy"
TIMEOUT_S: Final = 300
LARGEST_REPORT_BYTES: Final = 2**26
LABELMAP: Final = b"1.2.840.10008.5.1.4.1.1.66.7"
UNKNOWN_LABELMAP: Final = "Shall not be present for Referenced SOP Class that is not segmentation - attribute <ReferencedSegmentNumber>"
"""A fault of the validator itself: where a report refers to a label map (Supplement 243), it does not know that this is a segmentation."""


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
    # a value may be the patient's: only element and rule are repeated
    known = [UNKNOWN_LABELMAP] if path.stat().st_size < LARGEST_REPORT_BYTES and LABELMAP in path.read_bytes() else []
    errors = [line.split(" = <")[0][:160] for line in lines if not any(fault in line for fault in known)]
    if ran.returncode not in (0, 1):
        errors.append(f"the validator stopped with status {ran.returncode}")
    return sorted(set(errors))


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
