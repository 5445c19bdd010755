"""What regions are called: one vocabulary for DICOM SEG, RTSTRUCT and label maps."""

import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from mrtai.values.refusal import DosimetryError
from mrtai.values.regions import PARENCHYMA

LESION = re.compile(r"^(lesion|tumou?r|met|gtv)", re.IGNORECASE)
LESION_WORD = re.compile(r"^(lesions?|tumou?rs?|mets?|metastas[ei]s|gtv)(?![a-z])", re.IGNORECASE)
EXACT_LESION = re.compile(r"lesion_[1-9][0-9]*")
SIDE_FIRST = re.compile(r"(left|right)_(.+)")
RESERVED = frozenset({"tumour_total", PARENCHYMA})
"""Regions that reports make themselves; a contour of that name would stand in for them."""

LONGEST_CODE, CODE_DIGEST, LONGEST_LABEL = 16, 6, 64
UNWRITABLE = re.compile(r"[\\\x00-\x1f\x7f]")

UNIONS = frozenset({"kidneys", "lungs", PARENCHYMA, "tumour_total"})


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
    meaning: str


@cache
def _known() -> Mapping[str, _Known]:
    text = (files("mrtai") / "data" / "regions.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {row["name"]: _Known(**row) for row in rows}


def region_names(sources: Sequence[SourceRegion]) -> dict[int, str]:
    """Return the contract's name for each source region by its number.

    A SNOMED code that is known decides, else the lower-cased label with spaces as ``_``, its side first or last; labels of lesions,
    which begin with lesion, tumour, tumor, met or gtv become ``lesion_<n>`` in order of their numbers, or keep their own numbers
    where all of them have that form; any other name is kept as it stands.
    """
    ordered = sorted(sources, key=lambda region: region.number)
    lesions = [source for source in ordered if _is_lesion(source)]
    numbered = all(EXACT_LESION.fullmatch(source.label) for source in lesions)
    names = {source.number: source.label if numbered else f"lesion_{n}" for n, source in enumerate(lesions, start=1)}
    for source in ordered:
        if source.number not in names:
            names[source.number] = _name_of_code(source.code, source.side) or _name_of_label(source.label)
    return names


def _is_lesion(source: SourceRegion) -> bool:
    """Say whether a label names a lesion: by a whole word whatever its code, which may be the organ's that it lies in; else without one."""
    label = source.label.strip()
    return bool(LESION_WORD.match(label) or (LESION.match(label) and _name_of_code(source.code, source.side) is None))


def require_free_names(sources: Sequence[SourceRegion], where: str) -> None:
    """Raise ``DosimetryError`` where a region's name is one that reports use for a sum of regions, or no archive could hold."""
    require_writable_names([source.label.strip() for source in sources], where)
    taken = [source.label for source in sources if _name_of_code(source.code, source.side) is None and _folded(source.label) in RESERVED]
    if taken:
        raise DosimetryError(
            "a region's name is reserved for what the report sums up itself",
            where=where,
            found=", ".join(f"'{label}'" for label in sorted(taken)),
            remedy="rename the region, or take it out",
            code="RESERVED_REGION_NAME",
        )


def require_writable_names(names: Sequence[str], where: str) -> None:
    """Raise ``DosimetryError`` where an object of the archive could not tell the names or not repeat them.

    A DICOM label has 64 characters, no backslash, no control character and no blanks around it.
    """
    wrong = [name for name in names if name != name.strip() or not name or UNWRITABLE.search(name)]
    # two of the very same name are told by who reads them: there they may be a mistake of another kind
    short = [name[:LONGEST_LABEL] for name in dict.fromkeys(names)]
    wrong += [name for name in names if short.count(name[:LONGEST_LABEL]) > 1]
    if wrong:
        raise DosimetryError(
            "a region's name cannot be written as a DICOM label",
            where=where,
            found=", ".join(repr(name[:LONGEST_LABEL]) for name in sorted(set(wrong))[:4]),
            remedy="use names without backslash, line break or outer blanks that differ in their first 64 characters",
            code="REGION_NAME",
        )


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
    known = {name.lower(): name for name in _known()} | {name: name for name in ("kidneys", "lungs")}
    folded = _folded(label)
    return known.get(folded) or known.get(SIDE_FIRST.sub(r"\2_\1", folded)) or label.strip()


def _folded(label: str) -> str:
    return re.sub(r"\s+", "_", label.strip().lower())


def own_code(name: str) -> str:
    """Return a code of our scheme for a name: the name itself where it is plain and short, else its beginning and a digest.

    A code has at most 16 bytes and is plain ASCII; two names never share one because they begin alike.
    """
    plain = re.sub(r"[^A-Z0-9_.-]", "", name.upper())
    if plain == name.upper() and len(plain) <= LONGEST_CODE:
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:CODE_DIGEST].upper()
    return f"{plain[: LONGEST_CODE - CODE_DIGEST - 1]}_{digest}"


def region_concept(name: str) -> tuple[str | None, str, str]:
    """Return SNOMED CT code, its meaning and the side (``left``, ``right`` or empty) of a region; the code None where we know none."""
    known = _known().get(name)
    if known is None or not known.code:
        return None, name, ""
    return known.code, known.meaning, known.side
