"""Studies, cases and the audit that only grows."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SQLITE = (
    "CREATE TRIGGER ledger_audit_no_update BEFORE UPDATE ON ledger_audit BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END",
    "CREATE TRIGGER ledger_audit_no_delete BEFORE DELETE ON ledger_audit BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END",
    # INSERT OR REPLACE deletes without firing the trigger above
    """CREATE TRIGGER ledger_audit_no_replace BEFORE INSERT ON ledger_audit
    WHEN EXISTS (SELECT 1 FROM ledger_audit WHERE number = NEW.number OR previous = NEW.previous)
    BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END""",
)

_POSTGRESQL = (
    """CREATE FUNCTION ledger_audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the audit only grows'; END $$""",
    """CREATE TRIGGER ledger_audit_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_audit
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_audit_only_grows()""",
)


def upgrade() -> None:
    """Make the tables, the triggers and the head of an empty audit."""
    _studies()
    _cases()
    _audit()
    _head()
    for statement in _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: an audit is never taken away."""
    raise RuntimeError("the audit is never removed; restore a backup instead")


def _studies() -> None:
    op.create_table(
        "ledger_studies",
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("pseudonym", sa.Text()),
        sa.Column("person", sa.Text(), index=True),
        sa.Column("case_id", sa.Text()),
        sa.Column("rule", sa.Text()),
        sa.Column("state", sa.Text(), nullable=False, index=True),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("content_sha256", sa.Text(), nullable=False),
        sa.Column("reason_code", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("modalities", sa.Text(), nullable=False),
        sa.Column("first_seen", sa.Text(), nullable=False),
        sa.Column("last_seen", sa.Text(), nullable=False),
    )


def _cases() -> None:
    op.create_table(
        "ledger_cases",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("pseudonym", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("administered_on", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, index=True),
        sa.Column("provisional", sa.Boolean(), nullable=False),
        sa.Column("wanted_sha256", sa.Text(), nullable=False),
        sa.Column("drafted_sha256", sa.Text()),
        sa.Column("settled_sha256", sa.Text()),
        sa.Column("results_sha256", sa.Text()),
        sa.Column("reason_code", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.Text(), nullable=False),
        sa.Column("audit_number", sa.Integer(), nullable=False),
    )


def _audit() -> None:
    op.create_table(
        "ledger_audit",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("case_id", sa.Text(), sa.ForeignKey("ledger_cases.id", name="ledger_audit_case"), nullable=False, index=True),
        sa.Column("was", sa.Text(), nullable=False),
        sa.Column("becomes", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("results_sha256", sa.Text()),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.UniqueConstraint("previous", name="ledger_audit_previous"),
    )


def _head() -> None:
    head = op.create_table(
        "ledger_head",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name="ledger_head_is_one"),
    )
    op.bulk_insert(head, [{"id": 1, "number": 0, "sha256": "0" * 64}])
