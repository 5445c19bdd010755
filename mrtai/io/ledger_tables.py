"""The ledger's tables, and the values in their rows."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Integer, MetaData, RowMapping, Table, Text, UniqueConstraint

from mrtai.values.ledger import AuditEntry, CaseRecord, StudyRecord

METADATA = MetaData()

STUDIES = Table(
    "ledger_studies",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("pseudonym", Text),
    Column("person", Text, index=True),
    Column("case_id", Text),
    Column("rule", Text),
    Column("state", Text, nullable=False, index=True),
    Column("instances", Integer, nullable=False),
    Column("content_sha256", Text, nullable=False),
    Column("reason_code", Text),
    Column("reason", Text),
    Column("modalities", Text, nullable=False),
    Column("first_seen", Text, nullable=False),
    Column("last_seen", Text, nullable=False),
)

CASES = Table(
    "ledger_cases",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("pseudonym", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("administered_on", Text, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("provisional", Boolean, nullable=False),
    Column("wanted_sha256", Text, nullable=False),
    Column("drafted_sha256", Text),
    Column("settled_sha256", Text),
    Column("results_sha256", Text),
    Column("reason_code", Text),
    Column("reason", Text),
    Column("attempts", Integer, nullable=False),
    Column("updated_at", Text, nullable=False),
    # which entry of the audit brought the case here, 0 for none: a second witness of the audit's end
    Column("audit_number", Integer, nullable=False),
)

# instants are text: both databases give back the very characters that were hashed
AUDIT = Table(
    "ledger_audit",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("case_id", Text, ForeignKey("ledger_cases.id", name="ledger_audit_case"), nullable=False, index=True),
    Column("was", Text, nullable=False),
    Column("becomes", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("reason", Text),
    Column("results_sha256", Text),
    Column("previous", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    UniqueConstraint("previous", name="ledger_audit_previous"),
)

HEAD = Table(
    "ledger_head",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, nullable=False),
    Column("sha256", Text, nullable=False),
    CheckConstraint("id = 1", name="ledger_head_is_one"),
)


def study_row(study: StudyRecord) -> dict[str, Any]:
    """Return a study's row."""
    return {**asdict(study), "state": str(study.state), "modalities": ",".join(study.modalities)}


def study_of(row: RowMapping) -> StudyRecord:
    """Return the study in a row."""
    return StudyRecord(**{**row, "modalities": tuple(filter(None, row["modalities"].split(",")))})


def case_row(case: CaseRecord) -> dict[str, Any]:
    """Return a case's row, without the number of its last audit entry."""
    return {**asdict(case), "state": str(case.state)}


def case_of(row: RowMapping) -> CaseRecord:
    """Return the case in a row."""
    return CaseRecord(**_without(row, "audit_number"))


def entry_row(entry: AuditEntry) -> dict[str, Any]:
    """Return an audit entry's row."""
    return {**asdict(entry), "was": str(entry.was), "becomes": str(entry.becomes)}


def _without(row: RowMapping, name: str) -> Mapping[str, Any]:
    return {str(key): value for key, value in row.items() if key != name}
