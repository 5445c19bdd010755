"""The audit's chain: each entry is hashed together with the hash of the one before.

What the chain shows: an entry altered, removed, put in or put elsewhere, also at the end, because the head and each case keep the number
of their last entry beside the audit. What it cannot show: a person with all rights on the database who writes audit, head and cases
anew so that they agree. Against that, ``Ledger.head()`` is written down elsewhere from time to time and compared.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from mrtai.io.ledger_tables import AUDIT, HEAD, entry_row
from mrtai.values.ledger import AuditEntry, CaseRecord, CaseState
from mrtai.values.refusal import DosimetryError

GENESIS = "0" * 64
"""What the first entry has as its previous one."""


class Head(NamedTuple):
    """The newest entry of the audit; number 0 and ``GENESIS`` where there is none."""

    number: int
    sha256: str


class LastMove(NamedTuple):
    """Where an entry of the audit left its case."""

    number: int
    state: str
    results_sha256: str | None


def entry_sha256(entry: Mapping[str, Any]) -> str:
    """Return the SHA-256 of an entry's fields but ``sha256``, as canonical JSON (sorted keys, no spaces, ASCII)."""
    fields = {name: value for name, value in entry.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def first_break(entries: Iterable[Mapping[str, Any]], head: Head | None, cases: Mapping[str, LastMove]) -> int | None:
    """Return the number of the first entry that is altered, misplaced or missing, None where all is whole.

    Args:
        entries: rows of the audit by number.
        head: newest entry as it is kept beside the audit.
        cases: by ID where each case stands and by which entry.
    """
    end, last = Head(0, GENESIS), dict[str, LastMove]()
    for row in entries:
        if row["number"] != end.number + 1 or row["previous"] != end.sha256 or row["sha256"] != entry_sha256(row):
            return end.number + 1
        end = Head(row["number"], row["sha256"])
        last[row["case_id"]] = LastMove(row["number"], row["becomes"], row["results_sha256"])
    return min([*_head_breaks(end, head), *_case_breaks(end, last, cases)], default=None)


def append(connection: Connection, was: CaseState, case: CaseRecord, by: str) -> int:
    """Append a case's move to the audit and return its number.

    The head's row is locked until the transaction ends, so writers take turns; the unique ``previous`` stands behind that.
    """
    head = connection.execute(select(HEAD.c.number, HEAD.c.sha256).with_for_update()).one_or_none()
    if head is None:
        raise _broken("no head")
    texts = (case.updated_at, case.id, was, case.state, by, case.reason, case.results_sha256, head.sha256)
    entry = AuditEntry(head.number + 1, *texts, sha256="")
    entry = replace(entry, sha256=entry_sha256(entry_row(entry)))
    _insert(connection, entry)
    connection.execute(update(HEAD).values(number=entry.number, sha256=entry.sha256))
    return entry.number


def _insert(connection: Connection, entry: AuditEntry) -> None:
    try:
        connection.execute(insert(AUDIT).values(entry_row(entry)))
    except IntegrityError as error:
        # writers take turns, so a second entry after the same one means that the head was set back
        raise _broken("a head that is not the newest entry") from error


def _head_breaks(end: Head, head: Head | None) -> Iterator[int]:
    if head is None or head.number != end.number:
        yield min(end.number, head.number if head else end.number) + 1
    elif head != end:
        yield end.number


def _case_breaks(end: Head, last: Mapping[str, LastMove], cases: Mapping[str, LastMove]) -> Iterator[int]:
    """Yield the entry that a case and the audit disagree on; the next entry where a case moved without one."""
    for case_id in last.keys() | cases.keys():
        stands, moved = cases.get(case_id), last.get(case_id)
        if stands is None:
            yield moved.number if moved else end.number
        elif moved is None:
            if stands != LastMove(0, "waiting", None):
                yield stands.number or end.number + 1
        elif stands != moved:
            yield max(stands.number, moved.number)


def _broken(found: str) -> DosimetryError:
    return DosimetryError(
        "the audit cannot be continued",
        where="ledger",
        found=found,
        remedy="stop the department, look who wrote to the database and restore the last good backup",
        code="AUDIT_BROKEN",
    )
