"""Another's results as CSV: one row a region, or one a region and scan; empty where not known.

A patient's name may stand where none belongs, so no message repeats what a cell says: it names row and column.
"""

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mrtai.io.hashes import file_sha256
from mrtai.io.region_names import LESION, SourceRegion, region_kind, region_names
from mrtai.units import BQ_PER_MBQ, BQ_S_PER_MBQ_H
from mrtai.values.refusal import DosimetryError
from mrtai.values.validation import ComparedCycle, RegionNumbers

NUMBERS: Final = ("volume_ml", "time_h", "activity_mbq", "tia_mbq_h", "effective_half_life_h", "absorbed_dose_gy")
COLUMNS: Final = ("patient", "cycle", "region", *NUMBERS)
OF_REGION: Final = ("volume_ml", "tia_mbq_h", "effective_half_life_h", "absorbed_dose_gy")
ABOVE_0: Final = ("volume_ml", "effective_half_life_h")
DECIMAL_COMMA: Final = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
WHERE: Final = "manual results"


@dataclass(frozen=True, slots=True)
class _Row:
    place: int
    patient: str
    cycle: int
    label: str
    numbers: Mapping[str, float | None]


def read_manual(path: Path) -> tuple[ComparedCycle, ...]:
    """Return the cycles of a CSV file, patients and regions named as the file names them.

    Raises:
        DosimetryError: columns missing or unknown, decimal commas, numbers that are none, rows twice or in contradiction.
    """
    cycles: dict[tuple[str, int], dict[str, list[_Row]]] = {}
    for row in _rows(path):
        cycles.setdefault((row.patient, row.cycle), {}).setdefault(row.label, []).append(row)
    if not cycles:
        raise _refused("no row below the heading", "an empty table", "write one row a region", "EMPTY_TABLE")
    origin = {"source": "CSV", "sha256": file_sha256(path)}
    return tuple(
        ComparedCycle(patient, cycle, {label: _region(label, rows) for label, rows in regions.items()}, origin)
        for (patient, cycle), regions in cycles.items()
    )


def contract_name(label: str) -> str | None:
    """Return the name that reports use for a region named freely (``Left Kidney``: ``kidney_left``), None where none is known.

    Lesions have to be named by number (``lesion_2``): which of them a label means, only a person knows.
    """
    if region_kind(label) != "other":
        return label
    if LESION.match(label):
        return None
    name = region_names([SourceRegion(1, label)])[1]
    return name if region_kind(name) != "other" else None


def _rows(path: Path) -> Iterator[_Row]:
    lines = csv.reader(io.StringIO(_text(path), newline=""))
    heading = [cell.strip() for cell in next(lines, [])]
    _require_columns(heading)
    for line in lines:
        if any(cell.strip() for cell in line):
            yield _row(heading, line, lines.line_num)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as fault:
        raise _refused("the file cannot be read", type(fault).__name__, "check the path", "NO_FILE") from fault
    except UnicodeDecodeError as fault:
        raise _refused("the file is no UTF-8 text", "other bytes", "save the table as CSV in UTF-8", "BAD_TEXT") from fault


def _require_columns(heading: Sequence[str]) -> None:
    if len(heading) == 1 and heading[0].count(";") >= len(COLUMNS) - 1:
        raise _refused(
            "the columns are separated by semicolons",
            "the separator of tables with decimal commas",
            "save the table with commas between columns and points in numbers",
            "DECIMAL_COMMA",
        )
    missing = [name for name in COLUMNS if name not in heading]
    if missing:
        raise _refused("columns are missing", f"no {', '.join(missing)}", f"the heading is {','.join(COLUMNS)}", "MISSING_COLUMN")
    if len(heading) > len(COLUMNS):
        found = f"{len(heading)} columns"
        raise _refused("a column is unknown or there twice", found, f"the heading is {','.join(COLUMNS)}", "UNKNOWN_COLUMN")


def _row(heading: Sequence[str], line: Sequence[str], place: int) -> _Row:
    if len(line) > len(heading):
        found = f"{len(line)} fields, {len(heading)} columns"
        raise _refused(
            "a row has more fields than the heading",
            found,
            "write numbers with a point; a decimal comma splits them",
            "DECIMAL_COMMA",
            place,
        )
    if len(line) < len(heading):
        found = f"{len(line)} fields, {len(heading)} columns"
        raise _refused("a row has too few fields", found, "keep the commas of what is not known", "BAD_ROW", place)
    cells = {name: cell.strip() for name, cell in zip(heading, line, strict=True)}
    for name in ("patient", "cycle", "region"):
        if not cells[name]:
            raise _refused(f"no {name}", "an empty cell", "every row names patient, cycle and region", "BAD_ROW", place)
    if not re.fullmatch(r"[1-9]\d{0,3}", cells["cycle"]):
        raise _refused("the cycle is no whole number from 1", "other text", "number the cycles 1, 2, …", "BAD_ROW", place)
    numbers = {name: _number(name, cells[name], place) for name in NUMBERS}
    if (numbers["time_h"] is None) != (numbers["activity_mbq"] is None):
        raise _refused(
            "an activity needs its time and a time its activity", "one without the other", "fill both or neither", "BAD_ROW", place
        )
    return _Row(place, cells["patient"], int(cells["cycle"]), cells["region"], numbers)


def _number(name: str, cell: str, place: int) -> float | None:
    if not cell:
        return None
    if DECIMAL_COMMA.fullmatch(cell):
        raise _refused(f"a comma in {name}", "a decimal or thousands comma", "write numbers with a point", "DECIMAL_COMMA", place)
    try:
        value = float(cell)
    except ValueError as fault:
        raise _refused(f"{name} is no number", "other text", "leave empty what is not known", "NOT_A_NUMBER", place) from fault
    if not math.isfinite(value) or value < 0 or (value == 0 and name in ABOVE_0):
        found = "not finite" if not math.isfinite(value) else "0 or below"
        raise _refused(f"{name} cannot be", found, "leave empty what is not known", "NOT_A_NUMBER", place)
    return value


def _region(label: str, rows: Sequence[_Row]) -> RegionNumbers:
    activity_bq: dict[float, float] = {}
    without_time = 0
    for row in rows:
        time_h, activity_mbq = row.numbers["time_h"], row.numbers["activity_mbq"]
        without_time += time_h is None
        if time_h in activity_bq or without_time > 1:
            raise _refused("a row is there twice", "the same region and time again", "keep one of them", "DUPLICATE_ROW", row.place)
        if time_h is not None and activity_mbq is not None:
            activity_bq[time_h] = activity_mbq * BQ_PER_MBQ
    once = {name: _once(name, rows) for name in OF_REGION}
    tia_mbq_h = once["tia_mbq_h"]
    return RegionNumbers(
        name=label,
        volume_ml=once["volume_ml"],
        activity_bq=activity_bq,
        tia_bq_s=None if tia_mbq_h is None else tia_mbq_h * BQ_S_PER_MBQ_H,
        effective_half_life_h=once["effective_half_life_h"],
        absorbed_dose_gy=once["absorbed_dose_gy"],
    )


def _once(name: str, rows: Sequence[_Row]) -> float | None:
    """Return what a region's rows say of it; they may repeat it, not contradict themselves."""
    found: float | None = None
    for row in rows:
        value = row.numbers[name]
        if value is not None and found is not None and value != found:
            raise _refused(f"two values of {name} of one region", "a contradiction", "keep one of them", "CONTRADICTION", row.place)
        found = value if found is None else found
    return found


def _refused(what: str, found: str, remedy: str, code: str, place: int | None = None) -> DosimetryError:
    where = WHERE if place is None else f"{WHERE}, line {place}"
    return DosimetryError(what, where=where, found=found, remedy=remedy, code=code)
