"""The ledger's tables are made once, and nothing is lost when the database is away; on SQLite and on a real PostgreSQL."""

import subprocess
import sys
import threading
import time
import traceback
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from ledger_maker import BOTH, five_entries, go, raw, refusal, want
from postgres import PASSWORD, postgres
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from mrtai.io.ledger import LedgerAway, open_ledger
from mrtai.io.ledger_schema import VERSION_TABLE
from mrtai.io.ledger_tables import METADATA

pytest_plugins = ("ledger_fixtures",)

REPOSITORY = Path(__file__).resolve().parents[2]


@BOTH
def test_the_migrated_tables_are_those_the_code_knows(ledger, url):
    with create_engine(url, poolclass=NullPool).connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, METADATA) == []


@BOTH
def test_a_second_opening_keeps_everything(url):
    five_entries(url)
    with open_ledger(url) as ledger:
        assert (len(ledger.audit()), len(ledger.cases())) == (5, 2)


@BOTH
def test_a_ledger_of_a_later_version_is_left_alone(ledger, url):
    raw(url, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with refusal("LEDGER_NEWER"):
        open_ledger(url)


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://u:never-in-a-message@h/d", "sqlite://", "sqlite:///:memory:", "postgresql+asyncpg://h/d"]
)
def test_an_address_of_no_ledger_is_refused_without_its_password(url):
    with refusal("LEDGER_URL") as caught:
        open_ledger(url)
    assert PASSWORD not in str(caught.value)


def away(ask, match):
    """Assert that a call says in one line that the ledger is away, without the password anywhere."""
    with pytest.raises(LedgerAway, match=match) as caught:
        ask()
    assert "\n" not in str(caught.value)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


@BOTH
def test_a_lock_held_too_long_is_away_and_then_over(url, kind):
    with open_ledger(url, busy_s=0.2) as ledger, closing(create_engine(url, poolclass=NullPool).raw_connection()) as other:
        want(ledger)
        hand = other.cursor()
        hand.execute("BEGIN IMMEDIATE" if kind == "sqlite" else "SELECT * FROM ledger_cases FOR UPDATE")
        away(lambda: go(ledger, "held"), "lock")
        assert ledger.case("case-1").state == "waiting"
        other.rollback()
        assert go(ledger, "held").state == "held"
        assert len(ledger.audit()) == 1


def test_a_file_that_vanished_is_away_and_not_an_empty_ledger(tmp_path):
    path = tmp_path / "ledger.db"
    with open_ledger(f"sqlite:///{path}") as ledger:
        path.rename(tmp_path / "elsewhere")
        away(lambda: ledger.cases(), "unable to open")
        assert not path.exists()
        (tmp_path / "elsewhere").rename(path)
        assert ledger.cases() == ()


def test_a_folder_that_is_missing_and_a_file_that_is_no_ledger_are_away(tmp_path):
    away(lambda: open_ledger(f"sqlite:///{tmp_path}/no/ledger.db"), "No such file")
    (tmp_path / "noise").write_bytes(b"noise" * 1000)
    away(lambda: open_ledger(f"sqlite:///{tmp_path}/noise"), "not a database")


FULL = """
import os, resource, sys
from mrtai.io.ledger import LedgerAway, open_ledger
path = sys.argv[1]
with open_ledger(f"sqlite:///{path}") as ledger:
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path), resource.RLIM_INFINITY))
    try:
        for n in range(2000):
            ledger.move("case-1", "held", by="x", reason_code=str(n), reason="x" * 4000)
    except LedgerAway as error:
        print(n, error)
"""


def test_a_disk_without_room_is_away_and_harms_nothing(tmp_path):
    path = tmp_path / "ledger.db"
    with open_ledger(f"sqlite:///{path}") as ledger:
        want(ledger)
        done = subprocess.run([sys.executable, "-c", FULL, path], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        written, _, line = done.stdout.strip().partition(" ")
        assert line.startswith("ledger sqlite:///")
        assert len(line.splitlines()) == 1
        assert ledger.verify() is None
        assert len(ledger.audit()) == int(written)
        assert go(ledger, "failed").state == "failed"


def test_a_server_that_is_gone_is_away(tmp_path):
    with postgres(tmp_path) as url, open_ledger(url) as ledger:
        want(ledger)
    away(lambda: ledger.case("case-1"), "create a connection")
    away(lambda: open_ledger(url), "create a connection")


@pytest.mark.parametrize("kind", ["postgresql"])
def test_a_session_ended_in_the_middle_leaves_nothing_and_the_next_try_succeeds(url, ledger):
    want(ledger)
    with closing(create_engine(url, poolclass=NullPool).raw_connection()) as other:
        hand = other.cursor()
        hand.execute("SELECT * FROM ledger_head FOR UPDATE")
        caught = []

        def move():
            try:
                go(ledger, "held")
            except LedgerAway as error:
                caught.append(error)

        thread = threading.Thread(target=move)
        thread.start()
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        until = time.monotonic() + 20
        while not raw(url, end) and time.monotonic() < until:
            time.sleep(0.02)
        thread.join(30)
        assert len(caught) == 1
        other.rollback()
    assert ledger.case("case-1").state == "waiting"
    assert go(ledger, "held").state == "held"
    assert (len(ledger.audit()), ledger.verify()) == (1, None)


@pytest.mark.parametrize("kind", ["postgresql"])
def test_a_wrong_password_a_missing_database_and_missing_rights_are_away(url, ledger, server):
    away(lambda: open_ledger(url.replace(PASSWORD, PASSWORD[::-1])), "password authentication failed")
    away(lambda: open_ledger(server.rsplit("/", 1)[0] + "/none"), "does not exist")
    raw(url, f"CREATE ROLE reader{url.rsplit('/', 1)[1]} LOGIN PASSWORD '{PASSWORD}'")
    away(lambda: open_ledger(url.replace("mrtai:", f"reader{url.rsplit('/', 1)[1]}:")), "permission denied")


@BOTH
def test_a_fault_of_ours_is_not_called_away(url, ledger):
    raw(url, "DROP TABLE ledger_studies")
    with pytest.raises(DBAPIError):
        ledger.studies()
