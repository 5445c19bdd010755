"""What a source's header states, in a form that an object may repeat.

What says who the patient is goes over unchanged or not at all; a remark that breaks its definition is shortened or left out.
"""

import re
from typing import Final

from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import DSfloat, validate_value

from mrtai.values.refusal import DosimetryError

SEXES: Final = frozenset({"M", "F", "O"})
IDENTIFYING: Final = frozenset(
    {"PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientBirthTime", "StudyInstanceUID"}
)
CONTROL: Final = re.compile(r"[\x00-\x1a\x1c-\x1f\x7f]")
OLD_DATE: Final = re.compile(r"(\d{4})\.(\d{2})\.(\d{2})")
"""Dates of ACR-NEMA, still taken for reading (PS3.5 6.2)."""

ZONE: Final = re.compile(r"([+-])(\d{2}):?(\d{2})?")
UTC_NAMES: Final = frozenset({"Z", "UTC"})
LONGEST: Final = {"LO": 64, "SH": 16}


def stated(header: Dataset, name: str) -> str:
    """Return what a header states for an element; empty where it states nothing usable.

    Raises:
        DosimetryError: an element that identifies patient or study breaks its definition.
    """
    value = header.get(name)
    if value is None or value == "":
        return ""
    several = isinstance(value, MultiValue)
    text = (" " if name not in IDENTIFYING else "\\").join(map(str, value)) if several else str(value)
    vr = dictionary_VR(name)
    text = OLD_DATE.sub(r"\1\2\3", text.strip()) if vr == "DA" else text
    if name not in IDENTIFYING:
        return _remark(name, vr, text)
    if several or not is_valid(vr, text):
        raise DosimetryError(
            "an element of the source that says whose it is cannot be repeated",
            where=f"source header, element {name}",
            found="several values" if several else "a value that breaks its definition",
            remedy="correct it in the archive and export the scans again",
            code="SOURCE_HEADER",
        )
    return text


def zone_of(header: Dataset) -> str:
    """Return the time zone of a header as ``+HHMM`` or ``-HHMM``; empty where it states none that can be understood."""
    text = str(header.get("TimezoneOffsetFromUTC", "") or "").strip().upper()
    if text in UTC_NAMES:
        return "+0000"
    parts = ZONE.fullmatch(text)
    if parts is None:
        return ""
    hours, minutes = int(parts[2]), int(parts[3] or 0)
    # PS3.3 C.12.1.1.8: from -1200 to +1400
    in_range = minutes < 60 and -720 <= (hours * 60 + minutes) * (-1 if parts[1] == "-" else 1) <= 840
    return f"{parts[1] if hours or minutes else '+'}{hours:02d}{minutes:02d}" if in_range else ""


def _remark(name: str, vr: str, text: str) -> str:
    """Return what says nothing of who the patient is, shortened or reworded until it obeys its definition, else empty."""
    if name == "PatientSex" and text.strip() not in SEXES:
        return ""
    if vr == "DS":
        try:
            text = text if is_valid(vr, text) else str(DSfloat(float(text), auto_format=True))
        except (ValueError, OverflowError):
            return ""
    if vr in LONGEST:
        text = CONTROL.sub(" ", text).replace("\\", " ")
        # a shortened description still describes, a shortened number names something else
        text = text[: LONGEST[vr]] if vr == "LO" else text
    return text if is_valid(vr, text) else ""


def is_valid(vr: str, text: str) -> bool:
    """Return True when a text obeys the definition of its value representation, lengths counted in characters."""
    if CONTROL.search(text) or "\\" in text:
        return False
    try:
        validate_value(vr, text, config.RAISE)
    except ValueError:
        return False
    return True
