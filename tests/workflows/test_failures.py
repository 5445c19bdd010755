"""What fails for a while is tried again, what fails for good says why: disk, database, archive, snapshot and protocol, each for real."""

import os
import resource
import signal
import subprocess
import threading
import time
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from mrtai.io.assignment import Assigner
from mrtai.io.code_version import code_sha256
from mrtai.io.cycle_folder import CycleFolder
from mrtai.io.ledger import LedgerAway, open_ledger
from mrtai.io.pseudonym import load_key
from mrtai.io.received import Received
from mrtai.values.ledger import CaseState, StudyState
from tests.io.orthanc import orthanc
from tests.io.postgres import PASSWORD, postgres
from tests.workflows.department import department, wait_for
from tests.workflows.small_patient import PROTOCOL, Person, scan

MORE = """
[work]
attempts = 2
[[target]]
name = "pacs"
protocol = "c-store"
host = "127.0.0.1"
port = {port}
ae_title = "ORTHANC"
attempts = 1
"""


AGAIN = []
"""Servers that were started again."""


@dataclass
class Archive:
    """A real archive that can die and come back."""

    server: object
    folder: Path

    def die(self):
        self.server.process.kill()
        self.server.process.wait()

    def come_back(self):
        with (self.folder / "again.log").open("a") as log:
            self.server.process = subprocess.Popen([self.server.process.args[0], str(self.folder / "orthanc.json")], stdout=log, stderr=log)
        wait_for(self._answers, 60, lambda: (self.folder / "again.log").read_text())

    def _answers(self):
        with suppress(requests.RequestException):
            return requests.get(f"{self.server.url}/system", timeout=1).ok
        return False

    def instances(self):
        return self.server.instances()

    def changes(self):
        return requests.get(f"{self.server.url}/changes?limit=1000", timeout=10).json()["Changes"]

    @contextmanager
    def dying_after(self, count):
        """Come back, take some objects, die again and come back for good."""

        def life():
            self.come_back()
            while len(self.instances()) < count:
                time.sleep(0.005)
            self.die()
            time.sleep(1)
            self.come_back()

        thread = threading.Thread(target=life)
        thread.start()
        yield
        thread.join()


@pytest.fixture(scope="module")
def archive(site):
    yield site.archive
    with suppress(ProcessLookupError):
        site.archive.server.process.terminate()
        site.archive.server.process.wait()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site on PostgreSQL with an archive and, where we may make one, a small disk for the cycles; known before Prefect is imported."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("failures")
    (folder / "archive").mkdir()
    with (
        postgres(folder / "postgres") as url,
        orthanc(folder / "archive") as pacs,
        department(folder / "site", database=url, more=MORE.format(port=pacs.dicom_port), rule='target = "pacs"') as made,
        small_disk(made.site.cycles),
    ):
        made.archive = Archive(pacs, folder / "archive")
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            patch.delenv(name)
        patch.delenv("MRTAI_KEY_FILE", raising=False)
        patch.setenv("MRTAI_CONFIG", str(made.config))
        from workflows import settings

        settings.apply(made.site.root / "prefect")
        yield made
        for process in AGAIN:
            process.send_signal(signal.SIGQUIT)
            process.wait()
    patch.undo()


@contextmanager
def small_disk(folder):
    folder.mkdir(parents=True)
    mounted = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=False).returncode == 0
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(scope="module")
def server(site):
    """Prefect's server, with our deployments, and nobody who waits between two tries."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.testing.utilities import prefect_test_harness

    from workflows import inbox, install, room_task

    patch = pytest.MonkeyPatch()
    patch.setitem(room_task.room_as_task.__kwdefaults__, "delays_s", (0.0, 0.0))
    patch.setattr(inbox, "FIRST_WAIT_S", 0.0)
    with prefect_test_harness(server_startup_timeout=120):
        with get_client(sync_client=True) as client:
            client.create_work_pool(WorkPoolCreate(name=install.POOL, type="process"))
        install.install(site.site)
        yield site
    patch.undo()


@pytest.fixture
def ledger(site):
    with open_ledger(site.site.database) as opened:
        yield opened


@pytest.fixture
def waiting(server, ledger, tmp_path, request):
    """A case of one scan that waits for its first draft; every test has a patient of its own."""
    number = zlib.crc32(request.node.name.encode())
    person = Person(f"SECRET-{number}", f"Zaphod^Number{number}", "19420611")
    return taken(server, ledger, scan(tmp_path / "scan", 24, person=person, contours=True))


def taken(site, ledger, folder):
    from workflows.submit import submit_study

    assigner = Assigner(site.site, ledger, load_key(), code_sha256())
    (study,) = submit_study(site.site, assigner, folder, study_toml=None, replace=False, identity_checked=False)
    return ledger.case(study.case_id)


def received(site, folder):
    """Take a study in as the receiver does and return its key."""
    store = Received(site.site.root)
    (key,) = {store.take_file(path).study for path in folder.glob("*.dcm")}
    return key


def look(site, ledger, case, known=None):
    """Look as the inbox does, and run what it starts for the case as a worker does; return the run's state, None where none was started."""
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow

    from workflows.dose_cycle import dose_cycle
    from workflows.inbox import _runs, start_runs

    with get_client(sync_client=True) as client:
        if case.id not in start_runs(known or site.site, ledger, client):
            return None
        run = _runs(client, case.id)[0]
        run_flow(dose_cycle, flow_run=run, parameters=run.parameters, return_type="state")
        return client.read_flow_run(run.id).state


def half_written(folder):
    hidden = [path.name for path in folder.root.rglob("*") if "partial" in path.name or path.name.startswith(".")]
    return [name for name in hidden if name != ".sent.lock"]  # which stays: two senders take turns on it


@contextmanager
def full(site):
    """Fill the disk of the cycles to the last byte; where only root may make a small disk, no file may grow instead."""
    if os.path.ismount(site.site.cycles):
        ballast = site.site.cycles / "ballast"
        with suppress(OSError), ballast.open("wb") as stream:
            while True:
                stream.write(b"0" * 4096)
                stream.flush()
        try:
            yield
        finally:
            ballast.unlink()
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing_half_written_and_the_case_goes_on_when_there_is_room(server, ledger, waiting):
    folder = CycleFolder(server.site.cycles / waiting.id)
    with full(server):
        for attempt in (1, 2):
            state = look(server, ledger, waiting)
            assert state.is_failed() and ("No space left" in state.message or "too large" in state.message)
            assert half_written(folder) == [] and not folder.case.exists()
            assert ledger.case(waiting.id).is_due and ledger.case(waiting.id).attempts == attempt
        assert look(server, ledger, waiting) is None
    failed = ledger.case(waiting.id)
    assert failed.state is CaseState.FAILED and failed.reason_code == "ATTEMPTS"
    assert ("No space left" in failed.reason or "too large" in failed.reason) and "submit the case again" in failed.reason
    assert "SECRET" not in failed.reason and "Zaphod" not in failed.reason
    ledger.again(waiting.id)
    assert look(server, ledger, waiting).is_completed()
    assert ledger.case(waiting.id).state is CaseState.DRAFT


def test_a_disk_that_fills_up_while_inputs_are_frozen_loses_no_study(server, ledger, tmp_path):
    from workflows.inbox import take_in

    key = received(server, scan(tmp_path / "1", 24, person=Person("SECRET-frozen", "Zaphod^Frozen", "19420612"), contours=True))
    with full(server):
        assert key not in [record.key for record in take_in(server.site, ledger, quiet_s=0)]
    assert key in [record.key for record in take_in(server.site, ledger, quiet_s=0)]
    assert ledger.case(ledger.study(key).case_id).is_due
    assert look(server, ledger, ledger.case(ledger.study(key).case_id)).is_completed()


def test_a_ledger_whose_server_died_is_away_and_the_case_goes_on_when_it_is_back(server, ledger, waiting, tmp_path):
    from workflows.dose_cycle import dose_cycle
    from workflows.inbox import AWAY

    with dead(server.site.database, tmp_path / "postgres.log"):
        with pytest.raises(LedgerAway) as away:
            look(server, ledger, waiting)
        assert isinstance(away.value, AWAY)
        state = dose_cycle(waiting.id, waiting.wanted_sha256, return_state=True)
        assert state.is_failed() and "see that it runs" in state.message
        assert PASSWORD not in state.message
    assert ledger.case(waiting.id) == waiting, "what the ledger said before it died"
    assert look(server, ledger, waiting).is_completed()
    assert ledger.case(waiting.id).state is CaseState.DRAFT and ledger.verify() is None


def test_an_archive_that_dies_while_objects_are_sent_gets_the_rest_when_it_is_back(server, ledger, waiting, archive):
    from workflows.decide import sign
    from workflows.release import release

    assert look(server, ledger, waiting).is_completed()
    sign(server.site, ledger, waiting.id, "A. Physicist")
    archive.die()
    state = release(waiting.id, retry_delays_s=[0], return_state=True)
    assert state.is_failed() and "pacs" in state.message
    assert ledger.case(waiting.id).state is CaseState.SIGNED
    objects = list((server.folder_of(waiting.id) / "dicom").glob("*.dcm"))
    with archive.dying_after(2):
        state = release(waiting.id, retry_delays_s=[2] * 20, return_state=True)
    assert state.is_completed(), state.message
    assert ledger.case(waiting.id).state is CaseState.RELEASED
    assert len(archive.instances()) == len(objects) > 5
    new = [change for change in archive.changes() if change["ChangeType"] == "NewInstance"]
    assert len(new) == len(objects), "an object was sent twice"
    assert half_written(CycleFolder(server.site.cycles / waiting.id)) == []


@pytest.mark.parametrize(
    "damage", ["a cut image", *(pytest.param(one, marks=pytest.mark.slow) for one in ("a lost list", "a lost image", "another label"))]
)
def test_a_damaged_snapshot_is_refused_and_made_again_when_the_case_is_submitted(server, ledger, waiting, damage):
    folder = CycleFolder(server.site.cycles / waiting.id)
    snapshot = next(folder.root.glob("inputs-*"))
    image = next(path for path in sorted((snapshot / "study").rglob("*.dcm")) if b"SPECT" in path.read_bytes())
    content = image.read_bytes()
    {"a lost list": snapshot / "inputs.json"}.get(damage, image).unlink()
    if damage in ("a cut image", "another label"):
        image.write_bytes(content[:1000] if damage == "a cut image" else content.replace(b"SPECT", b"OTHER"))
    assert look(server, ledger, waiting).is_failed()
    failed = ledger.case(waiting.id)
    assert failed.state is CaseState.FAILED and failed.reason_code == "INPUTS_GONE" and "submit the case again" in failed.reason
    server.run("submit", waiting.id)
    assert look(server, ledger, ledger.case(waiting.id)).is_completed()
    assert half_written(folder) == []


def test_a_protocol_that_vanished_holds_what_comes_in_and_keeps_nobody_else_waiting(server, ledger, tmp_path):
    """A configuration that names no protocol file is refused; here the file goes while the inbox runs."""
    from workflows.inbox import take_in

    site = server.site
    key = received(server, scan(tmp_path / "1", 24, person=Person("SECRET-protocol", "Zaphod^Protocol", "19420613"), contours=True))
    (server.folder / "small.toml").unlink()
    try:
        take_in(site, ledger, quiet_s=0)
        held = ledger.study(key)
        assert held.state is StudyState.HELD and "small.toml" in held.reason
    finally:
        (server.folder / "small.toml").write_text(PROTOCOL)
    take_in(site, ledger, quiet_s=0, held=True)
    assert ledger.study(key).state is StudyState.ASSIGNED
    assert look(server, ledger, ledger.case(ledger.study(key).case_id)).is_completed()


def test_a_protocol_that_vanished_under_a_waiting_case_is_named_in_its_reason(server, ledger, waiting):
    site = server.site
    (server.folder / "small.toml").unlink()
    try:
        states = [look(server, ledger, waiting, site) for _ in range(3)]
    finally:
        (server.folder / "small.toml").write_text(PROTOCOL)
    assert states[0].is_failed() and states[2] is None
    failed = ledger.case(waiting.id)
    assert failed.state is CaseState.FAILED and "small.toml" in failed.reason


def test_a_run_that_is_heard_of_goes_on_and_a_silent_one_is_replaced(server, ledger, waiting, monkeypatch):
    """The backstop of the heartbeat automation: its events may be lost with the server."""
    from prefect.client.orchestration import get_client
    from prefect.events import emit_event
    from prefect.states import Running

    from workflows import inbox

    monkeypatch.setattr(inbox, "STUCK_S", 1.0)
    monkeypatch.setattr(inbox, "DEAD_S", 12.0)
    with get_client(sync_client=True) as client:
        assert waiting.id in inbox.start_runs(server.site, ledger, client)
        run = inbox._runs(client, waiting.id)[0]
        client.set_flow_run_state(run.id, Running(), force=True)
        time.sleep(12.5)
        emit_event("prefect.flow-run.heartbeat", resource={"prefect.resource.id": f"prefect.flow-run.{run.id}"})
        wait_for(lambda: inbox._lost(client, client.read_flow_run(run.id)) is None, 10, lambda: "the heartbeat never came")
        assert waiting.id not in inbox.start_runs(server.site, ledger, client)
        wait_for(lambda: waiting.id in inbox.start_runs(server.site, ledger, client), 30, lambda: "it was never given up")
        assert client.read_flow_run(run.id).state.is_crashed()


@contextmanager
def dead(url, log):
    """Have the PostgreSQL server at ``url`` die, and come back in the end."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        folder = Path(connection.exec_driver_sql("SHOW data_directory").scalar_one())
    number = int((folder / "postmaster.pid").read_text().split()[0])
    command = (Path("/proc") / str(number) / "cmdline").read_bytes().decode().strip("\0").split("\0")
    os.kill(number, signal.SIGQUIT)
    wait_for(lambda: not (folder / "postmaster.pid").exists() or not _alive(number), 30, lambda: "it lives on")
    try:
        yield
    finally:
        user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        with log.open("w") as stream:
            AGAIN.append(subprocess.Popen(command, cwd=folder.parent, stdout=stream, stderr=stream, **user))
        wait_for(lambda: _answers(engine), 60, log.read_text)


def _alive(number):
    state = Path("/proc") / str(number) / "stat"
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def _answers(engine):
    with suppress(DBAPIError), engine.connect():
        return True
    return False
