"""Which cycle a person asks for: its number or the date of its administration."""

import re
from collections.abc import Set
from datetime import date
from typing import Final

from mrtai.values.refusal import DosimetryError

_NUMBER: Final = re.compile(r"[1-9][0-9]{0,5}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def require_cycle(cycle: str) -> None:
    """Raise ``DosimetryError`` unless ``cycle`` is a whole number from 1 or a date."""
    if _NUMBER.fullmatch(cycle) or (_DATE.fullmatch(cycle) and _is_date(cycle)):
        return
    raise DosimetryError(
        "the cycle asked for is neither a number from 1 nor a date",
        where="--cycle",
        found=repr(cycle),
        remedy="give --cycle 2, or the date of administration as --cycle 2026-03-02",
        code="BAD_CYCLE",
    )


def cycle_number(cycle: str | None, days: Set[str]) -> int:
    """Return the number of a study's only cycle: the one asked for, or 1 where its date or nothing was asked; ``days`` are its dates."""
    if cycle is None or cycle in days:
        return 1
    if _NUMBER.fullmatch(cycle):
        return int(cycle)
    raise no_such_cycle("one cycle of another date")


def no_such_cycle(found: str) -> DosimetryError:
    """Return the refusal of a cycle that the study does not hold."""
    return DosimetryError(
        "the cycle asked for is not in the study", where="study", found=found, remedy="check --cycle", code="CYCLE_NOT_FOUND"
    )


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
