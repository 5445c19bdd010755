"""What the ledger of a department keeps: studies, cases and the audit of every move. Pseudonyms, digests and codes, never an identity."""

import re
from dataclasses import dataclass
from enum import StrEnum

from mrtai.values.refusal import DosimetryError

_KEY = re.compile(r"[0-9a-f]{32}")


class StudyState(StrEnum):
    """What became of a study: in a case, left alone because no rule matched, or waiting for a person."""

    ASSIGNED = "assigned"
    IGNORED = "ignored"
    HELD = "held"


class CaseState(StrEnum):
    """Where a case stands; ``waiting`` is a case that was never computed."""

    WAITING = "waiting"
    DRAFT = "draft"
    SIGNED = "signed"
    REJECTED = "rejected"
    RELEASED = "released"
    FAILED = "failed"
    HELD = "held"


CLOSED = frozenset({CaseState.SIGNED, CaseState.RELEASED})
"""A person has answered for the case: it is not computed again, and its results count."""

UNUSABLE = frozenset({CaseState.REJECTED, CaseState.FAILED, CaseState.HELD})
"""The results of such a case may not be used."""


class Superseded(DosimetryError):
    """The case is to be computed from other inputs by now: what this run found is no longer wanted."""


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """One study that arrived.

    Attributes:
        key: SHA-256 of the StudyInstanceUID, its first 32 hexadecimal digits.
        person: keyed digest of name and birth date, None where the study says too little.
        case_id, rule: of an assigned study.
        content_sha256: digest of all instances so far.
        reason_code, reason: why a study is held or ignored, for programs and for people.
        first_seen, last_seen: ISO 8601 with zone.
    """

    key: str
    pseudonym: str | None
    case_id: str | None
    rule: str | None
    state: StudyState
    instances: int
    content_sha256: str
    reason_code: str | None
    reason: str | None
    modalities: tuple[str, ...]
    first_seen: str
    last_seen: str
    person: str | None = None

    def __post_init__(self) -> None:
        # a UID could be followed back to the patient; its digest cannot
        if not _KEY.fullmatch(self.key):
            raise ValueError("study: the key is 32 hexadecimal digits of the UID's SHA-256")
        object.__setattr__(self, "state", StudyState(self.state))


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """One administration's case as it stands.

    Attributes:
        administered_on: ISO date.
        provisional: True while the protocol expects more scans than the draft was computed from.
        wanted_sha256: digest of all inputs that the case should now be computed from.
        drafted_sha256: digest of the inputs of the present draft, None before the first.
        settled_sha256: digest of the inputs that last came to an outcome, a draft or a refusal; None where they must be computed (again).
        results_sha256: digest of the present results.
        reason_code, reason: why the case is where it is, for programs and for people.
        attempts: how often the wanted inputs were tried.
    """

    id: str
    pseudonym: str
    rule: str
    administered_on: str
    state: CaseState
    provisional: bool
    wanted_sha256: str
    drafted_sha256: str | None
    results_sha256: str | None
    reason_code: str | None
    reason: str | None
    attempts: int
    updated_at: str
    settled_sha256: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", CaseState(self.state))

    @property
    def is_due(self) -> bool:
        """True while the case is open and has come to no outcome of its wanted inputs."""
        return self.state not in CLOSED and self.wanted_sha256 not in ("", self.settled_sha256)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One move of one case, chained to the entry before it.

    Attributes:
        number: 1, 2, 3, … over all cases without a gap.
        at: ISO 8601 in UTC with microseconds.
        results_sha256: digest of the case's results after the move.
        previous: ``sha256`` of the entry before; ``sha256`` covers all other fields.
    """

    number: int
    at: str
    case_id: str
    was: CaseState
    becomes: CaseState
    by: str
    reason: str | None
    results_sha256: str | None
    previous: str
    sha256: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "was", CaseState(self.was))
        object.__setattr__(self, "becomes", CaseState(self.becomes))
