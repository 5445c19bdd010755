"""Flags: doubtful but usable states, told in the report instead of guessed away."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a flag weighs: a note, something a person must see, or a number not to be given."""

    INFO = "info"
    REVIEW = "review"
    WITHHELD = "withheld"


@dataclass(frozen=True, slots=True)
class Flag:
    """One doubtful state: a stable code, a plain sentence, and what a person can do."""

    code: str
    severity: Severity
    text: str
    remedy: str
