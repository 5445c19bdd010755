"""A department that has grown: ledger and Prefect on PostgreSQL, a second worker, and the same outcome."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import MetaData, NullPool, create_engine, select

from mrtai.io.ledger import open_ledger
from mrtai.values.ledger import CaseState
from tests.io.postgres import new_database, postgres
from tests.workflows.department import department, wait_for
from tests.workflows.small_patient import Person, scan

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

PEOPLE = (Person("SECRET-4711", "Zaphod^Unlikely", "19420611"), Person("SECRET-5000", "Tricia^Macmillan", "19500101"))
IDENTITY = ("SECRET", "Zaphod", "Unlikely", "Tricia", "Macmillan", "19420611", "1942-06-11", "19500101", "1950-01-01")


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    """The URLs of two databases on a real PostgreSQL: the ledger's, and Prefect's."""
    with postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield new_database(url, "ledger"), new_database(url, "prefect")


@pytest.fixture(scope="module")
def site(tmp_path_factory, databases):
    """A department with one worker more than ``serve`` starts."""
    ledger, prefect = databases
    environment = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": prefect.replace("pg8000", "asyncpg")}
    with department(tmp_path_factory.mktemp("department") / "site", database=ledger, environment=environment) as made:
        made.start("serve")
        made.start("worker")
        wait_for(lambda: len(set(re.findall(r"Worker '(\S+)' started", made.log))) == 2, 240, lambda: made.log[-4000:])
        yield made


@pytest.fixture(scope="module")
def cases(site, tmp_path_factory):
    """The final drafts of two patients whose three scans came at the same times."""
    sent = tmp_path_factory.mktemp("sent")
    for number, hours in enumerate((24, 96, 168), start=1):
        studies = [scan(sent / f"{person.patient_id}-{hours}", hours, person=person, contours=number == 1) for person in PEOPLE]
        with ThreadPoolExecutor() as senders:
            list(senders.map(site.send, studies))
        wait_for(lambda number=number: _drafted(site, number), 240, lambda: f"{site.cases()}\n{site.log[-4000:]}")
    return site.cases()


def _drafted(site, scans):
    cases = site.cases()
    return len(cases) == len(PEOPLE) and all(not case.is_due and len(site.results(case.id)["scans"]) == scans for case in cases)


def test_every_patient_has_a_final_draft_of_three_scans(cases):
    assert [(case.state, case.provisional) for case in cases] == [(CaseState.DRAFT, False)] * len(PEOPLE)


def test_both_workers_worked_and_no_draft_was_made_twice(site, cases):
    taken = re.findall(r"Worker '(\S+)' submitting flow run", site.log)
    assert len(set(taken)) == 2
    assert len(taken) == 3 * len(PEOPLE), "a run was started twice, or a case was tried again"
    with open_ledger(site.site.database) as ledger:
        assert ledger.verify() is None
        for case in cases:
            drafts = [entry.results_sha256 for entry in ledger.audit(case.id)]
            assert len(drafts) == len(set(drafts)) == 3


def test_a_draft_is_signed_in_the_same_ledger(site, cases):
    site.run("sign", cases[0].id, "--by", "A. Physicist")
    assert site.case(cases[0].id).state is CaseState.SIGNED
    with open_ledger(site.site.database) as ledger:
        assert ledger.verify() is None
    assert '"workers": 2' in site.run("status", "--json")


def test_neither_database_holds_an_identity(cases, databases):
    ledger, prefect = map(content, databases)
    assert cases[0].id in ledger and cases[0].id in prefect
    assert [word for word in IDENTITY if word in ledger or word in prefect] == []


def content(url):
    """Return everything that a database holds, as text."""
    engine, tables = create_engine(url, poolclass=NullPool), MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        return "\n".join(str(tuple(row)) for table in tables.tables.values() for row in connection.execute(select(table)))
