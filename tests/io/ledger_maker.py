"""The steps that lead a case to a state."""

import pytest
from sqlalchemy import NullPool, create_engine

from mrtai.io.ledger import open_ledger
from mrtai.values.refusal import DosimetryError

BOTH = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])

STATES = ("waiting", "draft", "signed", "rejected", "released", "failed", "held")
WAY = {
    "waiting": (),
    "draft": ("draft",),
    "signed": ("draft", "signed"),
    "rejected": ("draft", "rejected"),
    "released": ("draft", "signed", "released"),
    "failed": ("failed",),
    "held": ("held",),
}


def raw(url, *statements):
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        for statement in statements:
            done = connection.exec_driver_sql(statement)
        return done.fetchall() if done.returns_rows else None


def want(ledger, case_id="case-1", inputs="in-1"):
    return ledger.want(case_id, pseudonym="P-1", rule="lu", administered_on="2026-03-02", inputs_sha256=inputs)


def go(ledger, becomes, case_id="case-1", results="out-1", **more):
    """Make a move with what that move needs."""
    if becomes in ("draft", "signed"):
        more.setdefault("results_sha256", results)
    if becomes == "draft":
        more.setdefault("inputs_sha256", "in-1")
    return ledger.move(case_id, becomes, by="Dr. Ĝ", **more)


def walked(ledger, case_id, state):
    want(ledger, case_id)
    for step in WAY[state]:
        go(ledger, step, case_id)


def refusal(code):
    return pytest.raises(DosimetryError, check=lambda error: error.code == code)


def five_entries(url):
    with open_ledger(url) as ledger:
        walked(ledger, "case-1", "released")
        walked(ledger, "case-2", "rejected")
        assert len(ledger.audit()) == 5
        assert ledger.verify() is None
