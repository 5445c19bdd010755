"""Blood samples: the table that ``study.toml`` names under ``[blood]``."""

import csv
from io import StringIO
from pathlib import Path
from typing import Final

import numpy as np

from mrtai.units import BQ_PER_KBQ
from mrtai.values.curve import Curve
from mrtai.values.marrow import REFERENCE_MARROW_KG, BloodSamples
from mrtai.values.refusal import DosimetryError

COLUMNS: Final = ("time_h", "activity_kbq_per_ml", "activity_sd_kbq_per_ml")
UNCERTAINTY: Final = COLUMNS[2]


def read_blood(path: Path, *, haematocrit: float | None = None, marrow_mass_kg: float = REFERENCE_MARROW_KG) -> BloodSamples:
    """Return the samples of a table ``time_h,activity_kbq_per_ml,activity_sd_kbq_per_ml``, activities at the time of sampling.

    Raises:
        DosimetryError: no file, missing columns, something that is no number, a negative activity, or times that do not increase.
    """
    table = csv.DictReader(StringIO(_text(path), newline=""))
    missing = set(COLUMNS) - {UNCERTAINTY} - set(table.fieldnames or ())
    if missing:
        raise _bad(path, f"columns {', '.join(sorted(missing))} are missing", str(table.fieldnames), f"use {','.join(COLUMNS)}")
    rows = [_numbers(path, line, row) for line, row in enumerate(table, start=2)]
    if not rows:
        raise _bad(path, "the table is empty", "no row", f"use {','.join(COLUMNS)}")
    t_h, activity, sd = np.array(rows).T
    try:
        curve = Curve("blood", t_h, activity * BQ_PER_KBQ, sd * BQ_PER_KBQ)
    except ValueError as error:
        raise _bad(path, "the times cannot be used", str(error), "one row a sample, hours after administration, increasing") from error
    return BloodSamples(curve, haematocrit, marrow_mass_kg)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # spreadsheets begin UTF-8 with a mark
    except FileNotFoundError:
        raise _bad(path, "the table is missing", "no file", "give a CSV file of blood samples") from None
    except OSError as error:
        found = "a folder" if path.is_dir() else type(error).__name__
        raise _bad(path, "the table cannot be read", found, "give a CSV file of blood samples") from error
    except UnicodeDecodeError as error:
        raise _bad(path, "the table is not UTF-8 text", str(error.reason), "save it as CSV in UTF-8") from error


def _numbers(path: Path, line: int, row: dict[str, str | None]) -> tuple[float, float, float]:
    t_h, activity, sd = (_number(path, line, column, (row.get(column) or "").strip()) for column in COLUMNS)
    if activity < 0:
        raise _bad(path, f"line {line}, the activity is negative", f"{activity:g} kBq/mL", "give 0 for a sample at background")
    if sd <= 0:
        raise _bad(path, f"line {line}, the uncertainty is not positive", f"{sd:g} kBq/mL", "leave it empty where it is not known")
    return t_h, activity, sd


def _number(path: Path, line: int, column: str, text: str) -> float:
    if not text and column == UNCERTAINTY:
        return float("nan")
    try:
        value = float(text)
    except ValueError as error:
        raise _bad(path, f"line {line}, {column} is no number", repr(text), "write numbers with a decimal point") from error
    if not np.isfinite(value):
        raise _bad(path, f"line {line}, {column} is not finite", repr(text), "leave an unknown uncertainty empty")
    return value


def _bad(path: Path, what: str, found: str, remedy: str) -> DosimetryError:
    return DosimetryError(what, where=path.name, found=found, remedy=remedy, code="BAD_BLOOD_TABLE")
