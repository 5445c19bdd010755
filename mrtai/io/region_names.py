"""What regions are called: one vocabulary for DICOM SEG, RTSTRUCT and label maps."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

LESION = re.compile(r"^(lesion|tumou?r|met|gtv)", re.IGNORECASE)
UNIONS = frozenset({"kidneys", "lungs", "liver_without_lesions", "tumour_total"})


@dataclass(frozen=True, slots=True)
class SourceRegion:
    """A region as its source names it: ROI or segment ``number``, free ``label``, SNOMED CT ``code`` and ``side`` where stated."""

    number: int
    label: str
    code: str | None = None
    side: str | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    name: str
    kind: str
    code: str
    side: str
    code_with_side: str


@cache
def _known() -> Mapping[str, _Known]:
    text = (files("mrtai") / "data" / "regions.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {row["name"]: _Known(**row) for row in rows}


def region_names(sources: Sequence[SourceRegion]) -> dict[int, str]:
    """Return the contract's name for each source region by its number.

    The SNOMED code decides where it is known, else the lower-cased label with spaces as ``_``; labels that begin with lesion,
    tumour, tumor, met or gtv become ``lesion_<n>`` in order of their numbers; any other name is kept as it stands.
    """
    names: dict[int, str] = {}
    lesions = 0
    for source in sorted(sources, key=lambda region: region.number):
        if LESION.match(source.label.strip()):
            lesions += 1
            names[source.number] = f"lesion_{lesions}"
        else:
            names[source.number] = _name_of_code(source.code, source.side) or _name_of_label(source.label)
    return names


def region_kind(name: str) -> str:
    """Return ``organ``, ``lesion``, ``union``, ``body``, ``remainder`` or ``other`` for a region name."""
    if re.fullmatch(r"lesion_\d+", name):
        return "lesion"
    if name in UNIONS:
        return "union"
    if name == "remainder":
        return "remainder"
    return _known()[name].kind if name in _known() else "other"


def region_code(name: str) -> str | None:
    """Return the SNOMED code of a region as ``SCT:…``, with its side where one code says both; None where we know none."""
    known = _known().get(name)
    code = (known.code_with_side or known.code) if known else ""
    return f"SCT:{code}" if code else None


def _name_of_code(code: str | None, side: str | None) -> str | None:
    if code is None:
        return None
    for known in _known().values():
        if code and (code == known.code_with_side or (code == known.code and (side or "") == known.side)):
            return known.name
    return None


def _name_of_label(label: str) -> str:
    lowered = re.sub(r"\s+", "_", label.strip().lower())
    matched = {name.lower(): name for name in _known()}.get(lowered)
    return matched or label.strip()
