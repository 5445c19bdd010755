"""Numbers of a DICOM header: text, NaN and wrong counts are refused by the name of the element, inside sequences too."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from mrtai.values.refusal import DosimetryError

ANY: Final = 0
COUNTS: Final[Mapping[str, int]] = {
    "PixelSpacing": 2,
    "ImagePositionPatient": 3,
    "ImageOrientationPatient": 6,
    "SpacingBetweenSlices": 1,
    "SliceThickness": 1,
    "DecayFactor": 1,
    "ActualFrameDuration": 1,
    "CountsAccumulated": 1,
    "RescaleSlope": 1,
    "RescaleIntercept": 1,
    "RealWorldValueSlope": 1,
    "RealWorldValueIntercept": 1,
}
"""Elements that hold numbers, with how many of them."""

WHOLE: Final[Mapping[str, int]] = {
    "Rows": 1,
    "Columns": 1,
    "NumberOfFrames": 1,
    "NumberOfSlices": 1,
    "NumberOfDetectors": 1,
    "NumberOfFramesInRotation": 1,
    "BitsAllocated": 1,
    "SamplesPerPixel": 1,
    "PixelPaddingValue": 1,
    "SliceVector": ANY,
}
"""Elements that hold whole numbers."""

SEEN_IN_VOXELS: Final = frozenset({"RescaleSlope", "RescaleIntercept", "RealWorldValueSlope", "RealWorldValueIntercept"})
"""NaN in these makes the voxels NaN, which are counted and refused there."""

SEQUENCES: Final = (
    "RotationInformationSequence",
    "DetectorInformationSequence",
    "RealWorldValueMappingSequence",
    "RadiopharmaceuticalInformationSequence",
)


def require_numbers(header: Dataset, where: str) -> None:
    """Raise ``DosimetryError`` where an element that is read as a number holds none, on the top level or in a sequence."""
    for item in _items(header, where):
        for tag, count in (*COUNTS.items(), *WHOLE.items()):
            if tag in item:
                _require(item, tag, count, where)


def number_of(item: Dataset, tag: str, where: str, *, remedy: str = "correct the header") -> float | None:
    """Return a finite number, None where the element is empty; refuses anything else."""
    try:
        value = item.get(tag)
        number = None if value is None or value == "" else float(value)
    except (ValueError, TypeError, OverflowError):
        raise _refused(tag, where, remedy) from None
    if number is not None and not np.isfinite(number):
        raise _refused(tag, where, remedy)
    return number


def whole_or_unknown(header: Dataset, tag: str) -> str:
    """Return a whole number as text, ``?`` where there is none: free text could name anybody."""
    try:
        return str(int(header.get(tag)))
    except (ValueError, TypeError, OverflowError):
        return "?"


def _items(header: Dataset, where: str) -> Iterator[Dataset]:
    yield header
    for tag in SEQUENCES:
        value = header.get(tag)
        if value is not None and not isinstance(value, Sequence):
            raise DosimetryError(
                f"{tag} is not a sequence", where=where, found="a value in its place", remedy="correct the header", code="BAD_HEADER"
            )
        yield from value or ()


def _require(item: Dataset, tag: str, count: int, where: str) -> None:
    try:
        value: Any = item.get(tag)
        if value is None or (isinstance(value, str) and not value):
            return
        numbers = np.atleast_1d(np.array(value, dtype=np.float64))
        if tag in WHOLE:
            # what is read later with int() must be readable so
            [int(one) for one in np.atleast_1d(np.array(value, dtype=object))]
    except (ValueError, TypeError, OverflowError):
        raise _refused(tag, where) from None
    if numbers.size and ((count != ANY and numbers.size != count) or not (tag in SEEN_IN_VOXELS or np.isfinite(numbers).all())):
        raise _refused(tag, where)


def _refused(tag: str, where: str, remedy: str = "correct the header") -> DosimetryError:
    found = "text, NaN or a wrong count of values"
    return DosimetryError(f"{tag} is not a number", where=where, found=found, remedy=remedy, code="BAD_HEADER")
