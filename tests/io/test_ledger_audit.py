"""The audit is one chain, whoever writes at once, and shows what was done to it; on SQLite and on a real PostgreSQL."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from ledger_maker import BOTH, five_entries, go, raw, refusal, walked, want
from sqlalchemy.exc import DBAPIError

from mrtai.io.ledger import open_ledger
from mrtai.io.ledger_audit import GENESIS, entry_sha256
from mrtai.values.ledger import CaseState

pytest_plugins = ("ledger_fixtures",)

REPOSITORY = Path(__file__).resolve().parents[2]


def free_hands(url):
    """Take the triggers away, as a person with all rights on the database can."""
    if url.startswith("sqlite"):
        raw(url, *[f"DROP TRIGGER ledger_audit_no_{act}" for act in ("update", "delete", "replace")])
    else:
        raw(url, "ALTER TABLE ledger_audit DISABLE TRIGGER USER")


LAST_GONE = "DELETE FROM ledger_audit WHERE number = 5"
HEAD_BACK = "UPDATE ledger_head SET number = 4, sha256 = (SELECT sha256 FROM ledger_audit WHERE number = 4)"
TAMPERED = {
    **{
        f"altered {name}": ([f"UPDATE ledger_audit SET {name} = '{value}' WHERE number = 2"], 2)
        for name, value in {
            "at": "2020-01-01T00:00:00.000000+00:00",
            "case_id": "case-2",
            "was": "held",
            "becomes": "rejected",
            '"by"': "somebody",
            "reason": "another",
            "results_sha256": "other",
            "previous": "other",
            "sha256": "other",
        }.items()
    },
    "first deleted": (["DELETE FROM ledger_audit WHERE number = 1"], 1),
    "deleted": (["DELETE FROM ledger_audit WHERE number = 2"], 2),
    "deleted and renumbered": (
        ["DELETE FROM ledger_audit WHERE number = 2", *[f"UPDATE ledger_audit SET number = {n} - 1 WHERE number = {n}" for n in (3, 4, 5)]],
        2,
    ),
    "reordered": ([f"UPDATE ledger_audit SET number = {new} WHERE number = {old}" for old, new in ((3, 9), (4, 3), (9, 4))], 3),
    "last removed": ([LAST_GONE], 5),
    "two last removed": (["DELETE FROM ledger_audit WHERE number IN (4, 5)"], 4),
    "all removed": (["DELETE FROM ledger_audit"], 1),
    "last removed and head set back": ([LAST_GONE, HEAD_BACK], 5),
    "last and head and case removed": ([LAST_GONE, HEAD_BACK, "UPDATE ledger_cases SET audit_number = 4 WHERE id = 'case-2'"], 4),
    "head removed": (["DELETE FROM ledger_head"], 6),
    "case signed by hand": (["UPDATE ledger_cases SET state = 'signed' WHERE id = 'case-2'"], 5),
    "results changed by hand": (["UPDATE ledger_cases SET results_sha256 = 'other' WHERE id = 'case-1'"], 3),
}


@BOTH
@pytest.mark.parametrize("done", TAMPERED)
def test_tampering_is_found_where_it_was_done(url, done):
    five_entries(url)
    statements, number = TAMPERED[done]
    free_hands(url)
    raw(url, *statements)
    with open_ledger(url) as ledger:
        assert ledger.verify() == number


@BOTH
def test_an_entry_put_in_with_a_valid_hash_is_found(url):
    five_entries(url)
    with open_ledger(url) as ledger:
        last = ledger.audit()[-1]
    forged = {"number": 6, "at": last.at, "case_id": "case-2", "was": "rejected", "becomes": "draft", "by": "x", "reason": None,
              "results_sha256": "out-1", "previous": last.sha256}  # fmt: skip
    values = [*forged.values(), entry_sha256(forged)]
    raw(url, f"INSERT INTO ledger_audit VALUES ({', '.join('NULL' if value is None else repr(value) for value in values)})")
    with open_ledger(url) as ledger:
        assert ledger.verify() == 6
        with refusal("AUDIT_BROKEN"):
            go(ledger, "held", "case-2")


@BOTH
def test_a_case_that_moved_without_an_entry_is_found(url):
    with open_ledger(url) as ledger:
        want(ledger)
        raw(url, "UPDATE ledger_cases SET state = 'signed'")
        assert ledger.verify() == 1


@pytest.mark.parametrize(
    ("kind", "act"),
    [
        *itertools.product(["sqlite", "postgresql"], ["UPDATE ledger_audit SET reason = 'x'", "DELETE FROM ledger_audit WHERE number = 5"]),
        ("sqlite", "INSERT OR REPLACE INTO ledger_audit SELECT * FROM ledger_audit"),
        ("postgresql", "TRUNCATE ledger_audit"),
    ],
)
def test_the_database_itself_refuses_to_change_the_audit(url, act):
    five_entries(url)
    with pytest.raises(DBAPIError, match="the audit only grows"):
        raw(url, act)
    with open_ledger(url) as ledger:
        assert ledger.verify() is None


@BOTH
def test_two_entries_cannot_follow_one(url):
    five_entries(url)
    columns = 'at, case_id, was, becomes, "by", reason, results_sha256, previous'
    # PostgreSQL names the constraint, SQLite its trigger
    with pytest.raises(DBAPIError, match=r"ledger_audit_previous|the audit only grows"):
        raw(url, f"INSERT INTO ledger_audit SELECT 6, {columns}, 'x' FROM ledger_audit WHERE number = 5")


@BOTH
def test_work_that_goes_on_does_not_hide_a_removed_end(url):
    five_entries(url)
    free_hands(url)
    raw(url, LAST_GONE)
    with open_ledger(url) as ledger:
        go(ledger, "held", "case-2")
        assert ledger.verify() == 5


def test_the_hash_is_the_one_that_any_program_computes():
    entry = {"number": 1, "at": "2026-03-02T09:30:00.000000+00:00", "case_id": "c", "was": "waiting", "becomes": "held", "by": "Ĝ",
             "reason": None, "results_sha256": None, "previous": GENESIS}  # fmt: skip
    # printf '%s' '{"at":"2026-…","becomes":"held","by":"\u011c",…,"was":"waiting"}' | sha256sum
    assert entry_sha256(entry) == "a46a74377940c1db8966bde4ba2db083c60cff9203cea5016d4ab1fc356541e6"


@BOTH
@pytest.mark.parametrize(
    "text", ["'; DROP TABLE ledger_audit; --", "line\nbreak\r\n\ttab", "Łódź 日本 🧪 e\u0301 \u2028", "100 % :name {x} %s", " "]
)
def test_any_text_is_hashed_and_read_alike(ledger, text):
    want(ledger)
    ledger.move("case-1", CaseState.HELD, by=f"x{text}", reason=text)
    assert (ledger.audit()[0].by, ledger.audit()[0].reason) == (f"x{text}", text)
    assert ledger.verify() is None


@BOTH
def test_the_head_is_the_newest_entry(ledger):
    assert ledger.head() == (0, GENESIS)
    walked(ledger, "case-1", "signed")
    assert ledger.head() == (2, ledger.audit()[-1].sha256)


WAIT = """
import sys
from mrtai.io.ledger import open_ledger
url, who = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
"""
MOVES = (
    WAIT
    + """
with open_ledger(url) as ledger:
    for n in range(25):
        ledger.move(f"case-{n % 2}", "held", by=who, reason_code=f"{who}-{n}")
"""
)
OPENS = (
    WAIT
    + """
with open_ledger(url) as ledger:
    ledger.want(f"case-{who}", pseudonym="P", rule="lu", administered_on="2026-03-02", inputs_sha256="in")
    ledger.want("shared", pseudonym="P", rule="lu", administered_on="2026-03-02", inputs_sha256="in")
"""
)


def at_once(script, url, many=4):
    """Run a script in several processes that start their work together."""
    ours = [
        subprocess.Popen(
            [sys.executable, "-c", script, url, f"p{n}"], cwd=REPOSITORY, text=True, stdin=-1, stdout=-1, stderr=subprocess.PIPE
        )
        for n in range(many)
    ]
    try:
        for process in ours:
            assert process.stdout.readline() == "ready\n"
        for process in ours:
            process.stdin.write("go\n")
            process.stdin.flush()
        faults = [process.communicate(timeout=120)[1] for process in ours]
        assert [(process.returncode, fault) for process, fault in zip(ours, faults, strict=True)] == [(0, "")] * many
    finally:
        for process in ours:
            process.kill()
            process.wait()


@BOTH
def test_four_processes_write_one_chain(url):
    with open_ledger(url) as ledger:
        want(ledger, "case-0")
        want(ledger, "case-1")
        at_once(MOVES, url)
        audit = ledger.audit()
        assert ledger.verify() is None
        assert [entry.number for entry in audit] == list(range(1, 101))
        assert sorted(entry.by for entry in audit) == sorted(["p0", "p1", "p2", "p3"] * 25)


@BOTH
def test_four_processes_may_open_a_new_ledger_at_once(url):
    at_once(OPENS, url)
    with open_ledger(url) as ledger:
        assert [case.id for case in ledger.cases()] == ["case-p0", "case-p1", "case-p2", "case-p3", "shared"]
        assert ledger.verify() is None
