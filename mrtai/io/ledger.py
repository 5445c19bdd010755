"""The ledger of a department: the authority over the state of cases, with an audit that only grows.

It holds pseudonyms, digests, codes and the names of staff who sign; never a patient's identity.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, Unpack

from sqlalchemy import Connection, Engine, RowMapping, Select, Table, select, update
from sqlalchemy.dialects import postgresql, sqlite

from mrtai.io.ledger_audit import Head, LastMove, append, first_break
from mrtai.io.ledger_link import BUSY_S, LedgerAway, engine_of, make_file, transaction
from mrtai.io.ledger_schema import migrate
from mrtai.io.ledger_tables import AUDIT, CASES, HEAD, STUDIES, case_of, case_row, study_of, study_row
from mrtai.values.case_move import Move, Said, after
from mrtai.values.ledger import CLOSED, AuditEntry, CaseRecord, CaseState, StudyRecord, StudyState
from mrtai.values.refusal import DosimetryError

__all__ = ["Ledger", "LedgerAway", "open_ledger"]


def open_ledger(url: str, *, busy_s: float = BUSY_S) -> "Ledger":
    """Return the ledger at ``sqlite:///FILE`` or ``postgresql+pg8000://…``, its tables brought to the present form.

    Raises:
        LedgerAway: the database cannot be reached, is locked for more than ``busy_s``, full, or closed to us.
        DosimetryError: ``LEDGER_URL``, or ``LEDGER_NEWER`` where a later version of mrtai has written it.
    """
    engine = engine_of(url, busy_s=busy_s)
    if engine.dialect.name == "sqlite":
        make_file(engine, busy_s=busy_s)
    migrate(engine)
    return Ledger(engine)


class Ledger:
    """Studies, cases and audit of a department; threads and processes may share one database.

    Every method is one transaction and raises ``LedgerAway`` where the database is away; all of them may be repeated.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._engine.dispose()

    def put_study(self, record: StudyRecord) -> None:
        """Keep a study as it is now; when it was first seen stays."""
        row = study_row(record)
        later = {name: value for name, value in row.items() if name not in ("key", "first_seen")}
        with transaction(self._engine, writes=True) as connection:
            connection.execute(_upsert(connection, STUDIES).values(row).on_conflict_do_update(index_elements=["key"], set_=later))

    def study(self, key: str) -> StudyRecord | None:
        """Return a study, None where it never arrived."""
        row = self._row(select(STUDIES).where(STUDIES.c.key == key))
        return None if row is None else study_of(row)

    def studies(self, state: StudyState | None = None) -> tuple[StudyRecord, ...]:
        """Return the studies, or those in one state, the first seen first."""
        asked = select(STUDIES) if state is None else select(STUDIES).where(STUDIES.c.state == str(StudyState(state)))
        return tuple(study_of(row) for row in self._rows(asked.order_by(STUDIES.c.first_seen, STUDIES.c.key)))

    def want(self, case_id: str, *, pseudonym: str, rule: str, administered_on: str, inputs_sha256: str) -> CaseRecord:
        """Say which inputs a case should be computed from; a new case waits.

        Raises:
            DosimetryError: ``CASE_SIGNED`` where a signed or released case was drafted from other inputs,
                ``CASE_OF_ANOTHER`` where it belongs to another pseudonym.
        """
        fresh = _waiting(case_id, pseudonym, rule, administered_on, inputs_sha256)
        with transaction(self._engine, writes=True) as connection:
            connection.execute(_upsert(connection, CASES).values(**case_row(fresh), audit_number=0).on_conflict_do_nothing())
            case = _locked_case(connection, case_id)
            wanted = _wanted(case, fresh)
            if wanted != case:
                _write_case(connection, wanted)
            return wanted

    def open_case(self, case_id: str, *, pseudonym: str, rule: str, administered_on: str) -> CaseRecord:
        """Return a case that waits for its first inputs, or the one that is there."""
        fresh = _waiting(case_id, pseudonym, rule, administered_on, "")
        with transaction(self._engine, writes=True) as connection:
            connection.execute(_upsert(connection, CASES).values(**case_row(fresh), audit_number=0).on_conflict_do_nothing())
            return _locked_case(connection, case_id)

    def attempt(self, case: CaseRecord) -> bool:
        """Count an attempt at the wanted inputs of a case; False where the case has changed since, by another process."""
        with transaction(self._engine, writes=True) as connection:
            if _locked_case(connection, case.id) != case:
                return False
            _write_case(connection, replace(case, attempts=case.attempts + 1, updated_at=_now()))
            return True

    def again(self, case_id: str) -> CaseRecord:
        """Have the wanted inputs of an open case computed again, whatever came of them before."""
        with transaction(self._engine, writes=True) as connection:
            case = _locked_case(connection, case_id)
            if case.state in CLOSED:
                raise _refused(case, f"the case is {case.state} and is not computed again", _way_out(case), "CASE_SIGNED")
            anew = replace(case, attempts=0, settled_sha256=None, updated_at=_now())
            _write_case(connection, anew)
            return anew

    def move(self, case_id: str, becomes: CaseState, *, by: str, **said: Unpack[Said]) -> CaseRecord:
        """Move a case to a state and write the move into the audit, both or neither; a repeated move changes nothing.

        Args:
            case_id: of a case that ``want`` made.
            becomes: the state to move to.
            by: who asks: the signer's name, or the program's.
            said: ``reason``, ``reason_code``, ``results_sha256``, ``inputs_sha256``, ``provisional`` as in ``Move``.

        Raises:
            Superseded: the given inputs are not the wanted ones any more.
            DosimetryError: ``ILLEGAL_TRANSITION``, ``RESULTS_CHANGED``, ``CASE_UNKNOWN``, ``AUDIT_BROKEN``.
        """
        move = Move(CaseState(becomes), by, **said)
        with transaction(self._engine, writes=True) as connection:
            case = _locked_case(connection, case_id)
            moved = after(case, move)
            if moved is case:
                return case
            moved = replace(moved, updated_at=_now())
            number = append(connection, case.state, moved, by)
            _write_case(connection, moved, audit_number=number)
            return moved

    def case(self, case_id: str) -> CaseRecord:
        """Return a case. Raises ``DosimetryError`` ``CASE_UNKNOWN``."""
        row = self._row(select(CASES).where(CASES.c.id == case_id))
        if row is None:
            raise _unknown(case_id)
        return case_of(row)

    def cases(self, state: CaseState | None = None) -> tuple[CaseRecord, ...]:
        """Return the cases, or those in one state, by ID."""
        asked = select(CASES) if state is None else select(CASES).where(CASES.c.state == str(CaseState(state)))
        return tuple(case_of(row) for row in self._rows(asked.order_by(CASES.c.id)))

    def audit(self, case_id: str | None = None) -> tuple[AuditEntry, ...]:
        """Return the audit, or one case's part of it, the oldest entry first."""
        asked = select(AUDIT) if case_id is None else select(AUDIT).where(AUDIT.c.case_id == case_id)
        return tuple(AuditEntry(**row) for row in self._rows(asked.order_by(AUDIT.c.number)))

    def head(self) -> Head | None:
        """Return number and digest of the newest entry, to be written down where this database's masters cannot write."""
        row = self._row(select(HEAD.c.number, HEAD.c.sha256))
        return None if row is None else Head(**row)

    def verify(self) -> int | None:
        """Return the number of the first audit entry that is altered, misplaced or missing, None where the chain is whole.

        A case whose state or results are not those of its last entry counts as a break too. ``mrtai.io.ledger_audit`` says what
        cannot be seen.
        """
        with transaction(self._engine, writes=False) as connection:
            head = connection.execute(select(HEAD.c.number, HEAD.c.sha256)).one_or_none()
            stands = connection.execute(select(CASES.c.id, CASES.c.audit_number, CASES.c.state, CASES.c.results_sha256))
            cases = {row.id: LastMove(row.audit_number, row.state, row.results_sha256) for row in stands}
            entries = connection.execute(select(AUDIT).order_by(AUDIT.c.number)).mappings()
            return first_break(map(_fields, entries), None if head is None else Head(*head), cases)

    def _rows(self, asked: Select[Any]) -> list[RowMapping]:
        with transaction(self._engine, writes=False) as connection:
            return list(connection.execute(asked).mappings())

    def _row(self, asked: Select[Any]) -> RowMapping | None:
        return next(iter(self._rows(asked)), None)


def _waiting(case_id: str, pseudonym: str, rule: str, administered_on: str, inputs_sha256: str) -> CaseRecord:
    return CaseRecord(case_id, pseudonym, rule, administered_on, CaseState.WAITING, True, inputs_sha256, None, None, None, None, 0, _now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _fields(row: RowMapping) -> Mapping[str, Any]:
    return {str(name): value for name, value in row.items()}


def _upsert(connection: Connection, table: Table) -> Any:
    """Return the insert that knows conflicts, which each database spells its own way."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def _locked_case(connection: Connection, case_id: str) -> CaseRecord:
    row = connection.execute(select(CASES).where(CASES.c.id == case_id).with_for_update()).mappings().one_or_none()
    if row is None:
        raise _unknown(case_id)
    return case_of(row)


def _write_case(connection: Connection, case: CaseRecord, **more: int) -> None:
    connection.execute(update(CASES).where(CASES.c.id == case.id).values(**case_row(case), **more))


def _wanted(case: CaseRecord, asked: CaseRecord) -> CaseRecord:
    if case.pseudonym != asked.pseudonym:
        raise _refused(case, "the case belongs to another pseudonym", "assign the scan to the right case", "CASE_OF_ANOTHER")
    if case.state in CLOSED and asked.wanted_sha256 != case.drafted_sha256:
        raise _refused(case, f"the case is {case.state} and stays as it was drafted", _way_out(case), "CASE_SIGNED")
    changed = replace(case, rule=asked.rule, administered_on=asked.administered_on, wanted_sha256=asked.wanted_sha256)
    if changed == case:
        return case
    attempts = case.attempts if changed.wanted_sha256 == case.wanted_sha256 else 0
    return replace(changed, attempts=attempts, updated_at=asked.updated_at)


def _way_out(case: CaseRecord) -> str:
    return "reject it first if the new inputs are to count" if case.state is CaseState.SIGNED else "keep the new inputs for the record"


def _refused(case: CaseRecord, what: str, remedy: str, code: str) -> DosimetryError:
    return DosimetryError(what, where=f"case {case.id}", found=f"state {case.state}", remedy=remedy, code=code)


def _unknown(case_id: str) -> DosimetryError:
    return DosimetryError(
        "no such case", where=f"case {case_id}", found="nothing", remedy="list the cases by python -m workflows status", code="CASE_UNKNOWN"
    )
