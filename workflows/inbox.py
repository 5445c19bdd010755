"""The inbox: complete studies are assigned to cases, and every case whose inputs changed gets a run.

It looks again and again at what is there (received studies, ledger, Prefect's runs) and starts what is missing, so it can die at any
moment and go on. Which runs wait, start and end is Prefect's business.
"""

import logging
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.filters import EventFilter, EventOccurredFilter, EventResourceFilter
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Crashed

from mrtai.io.assignment import Assigner
from mrtai.io.code_version import code_sha256
from mrtai.io.cycle_folder import CycleFolder
from mrtai.io.ledger import Ledger, open_ledger
from mrtai.io.pseudonym import load_key
from mrtai.io.received import Arrived, Received
from mrtai.values.ledger import CaseRecord, CaseState, StudyRecord, StudyState
from mrtai.values.refusal import DosimetryError
from mrtai.values.site import Site
from workflows.faults import where_of
from workflows.install import DOSE_CYCLE, SILENT_S, deployment_id
from workflows.shown import case_event, held_study_event
from workflows.ways_in import WaysIn

ALIVE: Final = "inbox.alive"
"""Touched at every look, so that `status` can tell whether anybody looks."""

NANOSECONDS: Final = 1e9
LOOK_EVERY_S: Final = 5.0
STUCK_S: Final = 90.0
"""A run that a worker took but did not begin within this time was lost with it."""
AWAY: Final = (OSError, httpx.HTTPError, PrefectHTTPStatusError, ObjectNotFound, DosimetryError)
"""What may be another way at the next look: disk, database, server, or its deployments that a worker has yet to install."""
DEAD_S: Final = 2.0 * SILENT_S
"""A run that works and of which nothing was heard for so long is dead, and its automation did not notice."""
FIRST_WAIT_S: Final = 5.0
LONGEST_WAIT_S: Final = 300.0

log = logging.getLogger(__name__)


def serve(site: Site) -> None:
    """Look every few seconds until SIGTERM; what is away (disk, database, server, archive) is tried again at the next look."""
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    ways_in, mended, seen_s = WaysIn(site), True, dict[str, float]()
    while not stop.is_set():
        started = time.monotonic()
        (site.root / ALIVE).touch()
        try:
            ways_in.look()
            with open_ledger(site.database) as ledger:
                take_in(site, ledger, held=mended, seen_s=seen_s)
                mended = False
                with get_client(sync_client=True) as client:
                    start_runs(site, ledger, client)
        except AWAY as fault:
            log.warning("%s: %s; tried again", type(fault).__name__, str(fault).splitlines()[0] if str(fault) else "")
        stop.wait(max(0.0, LOOK_EVERY_S - (time.monotonic() - started)))


def take_in(
    site: Site, ledger: Ledger, *, quiet_s: float | None = None, held: bool = False, seen_s: dict[str, float] | None = None
) -> list[StudyRecord]:
    """Assign every complete study that is new or has grown, refresh held and failed cases whose files were mended; return the studies.

    With ``held`` those that are held are tried again: the site's configuration may have been mended since. ``seen_s`` remembers from
    look to look which files of held and failed cases were seen.
    """
    assigner = Assigner(site, ledger, load_key(), code_sha256())
    quiet = site.quiet_s if quiet_s is None else quiet_s
    known = {record.key: record for record in ledger.studies()}
    records = []
    for one in Received(site.root).studies():
        if _is_complete(one, quiet) and _is_news(one, known.get(one.study), held):
            with _alone(f"study {one.study[:8]}"):
                record = assigner.assign(one.study)
                log.info("study %s: %s %s", record.key[:8], record.state, record.case_id or record.reason_code or "")
                _tell_held(ledger, known.get(one.study), record)
                records.append(record)
    for case in (*ledger.cases(CaseState.HELD), *ledger.cases(CaseState.FAILED)):
        if _was_mended(site, assigner, case, {} if seen_s is None else seen_s):
            with _alone(f"case {case.id}"):
                assigner.refresh(case.id)
    return records


def _tell_held(ledger: Ledger, before: StudyRecord | None, study: StudyRecord) -> None:
    """Tell of a study that is held for a reason it was not held for before, and of a case that is held because its study left it."""
    if study.state is StudyState.HELD and (before is None or (before.state, before.reason_code) != (study.state, study.reason_code)):
        held_study_event(study)
    if before is not None and before.case_id not in (None, study.case_id):
        left = ledger.case(before.case_id)
        if left.state is CaseState.HELD:
            case_event(left.id, left.state, left.reason_code or "")


@contextmanager
def _alone(what: str) -> Iterator[None]:
    """Let the trouble of one study or case keep no other from being looked at; it is tried again at the next look."""
    try:
        yield
    except (OSError, DosimetryError) as fault:
        log.warning("%s: %s; tried again", what, fault)
    except Exception as fault:
        # its message may quote a header
        log.error("%s: %s; tried again", what, where_of(fault))


def start_runs(site: Site, ledger: Ledger, client: SyncPrefectClient) -> list[str]:
    """Start a run for every case that is due and has none under way; return the cases. After too many attempts a case has failed."""
    started: list[str] = []
    due = [case for case in ledger.cases() if case.is_due]
    if not due:
        return started
    deployment = deployment_id(client, DOSE_CYCLE)  # an attempt counts only where a run can be started
    for case in due:
        runs = _runs(client, case.id)
        if _is_under_way(client, runs) or not _has_rested(runs, case):
            continue
        if case.attempts >= site.attempts:
            _give_up(ledger, case, runs)
            continue
        if ledger.attempt(case):  # else another inbox was first
            _start(client, deployment, case)
            started.append(case.id)
    return started


def _is_complete(study: Arrived, quiet_s: float) -> bool:
    expected = study.expected is not None and study.instances >= study.expected
    return expected or time.time() - study.last_ns / NANOSECONDS >= quiet_s


def _is_news(study: Arrived, record: StudyRecord | None, held: bool) -> bool:
    if record is None or (held and record.state is StudyState.HELD):
        return True
    return study.last_ns / NANOSECONDS > datetime.fromisoformat(record.last_seen).timestamp()


def _was_mended(site: Site, assigner: Assigner, case: CaseRecord, seen_s: dict[str, float]) -> bool:
    """Say whether a person changed what a held or failed case is computed from: attachments or calibrations."""
    try:
        calibrations = assigner.rule(case.rule).calibrations
    except DosimetryError:
        return False
    folders = [CycleFolder(site.cycles / case.id).attached, *([calibrations] if calibrations else [])]
    newest_s = max(_newest_s(folder) for folder in folders)
    if newest_s <= max(datetime.fromisoformat(case.updated_at).timestamp(), seen_s.get(case.id, 0.0)):
        return False
    seen_s[case.id] = newest_s
    return True


def _newest_s(folder: Path) -> float:
    places = [folder, *folder.glob("*")] if folder.is_dir() else []
    return max((place.stat().st_mtime for place in places), default=0.0)


def case_tag(case_id: str) -> str:
    """Return the tag by which a case's runs are found."""
    return f"case:{case_id}"


def _runs(client: SyncPrefectClient, case_id: str) -> Sequence[FlowRun]:
    asked = FlowRunFilter(tags=FlowRunFilterTags(all_=[case_tag(case_id)]))
    return client.read_flow_runs(flow_run_filter=asked, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=5)


def _is_under_way(client: SyncPrefectClient, runs: Sequence[FlowRun]) -> bool:
    """Say whether a run waits or works; one that a worker took to its grave is marked as crashed."""
    for run in runs:
        if run.state is None or run.state.is_final():
            continue
        lost = _lost(client, run)
        if lost is None:
            return True
        client.set_flow_run_state(run.id, Crashed(message=lost), force=True)
    return False


def _lost(client: SyncPrefectClient, run: FlowRun) -> str | None:
    """Say why a run that waits for its process, or works, is lost; None where it may be well.

    Prefect's automation sees most dead runs earlier. It forgets those whose events were lost with the server.
    """
    now = datetime.now(UTC)
    if run.state is None or now - run.state.timestamp < timedelta(seconds=STUCK_S):
        return None
    if run.state.is_pending():
        return f"not begun within {STUCK_S:.0f} s"
    since = now - timedelta(seconds=DEAD_S)
    if not run.state.is_running() or run.state.timestamp > since:
        return None
    occurred = EventOccurredFilter.model_validate({"since": since})
    asked = EventFilter(occurred=occurred, resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]))
    return None if client.read_events(filter=asked, limit=1).events else f"nothing heard of it for {DEAD_S:.0f} s"


def _has_rested(runs: Sequence[FlowRun], case: CaseRecord) -> bool:
    """Say whether the wait after the last failed attempt is over; it doubles with every attempt."""
    ends = [run.end_time for run in runs if run.end_time is not None]
    if not ends or case.attempts == 0:
        return True
    wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (case.attempts - 1))
    return datetime.now(UTC) - max(ends) > timedelta(seconds=wait_s)


def _give_up(ledger: Ledger, case: CaseRecord, runs: Sequence[FlowRun]) -> None:
    last = next((run.state.message for run in runs if run.state is not None and run.state.message), "no message")
    reason = f"{case.attempts} runs ended without an outcome; the last one: {last}; submit the case again when the cause is mended"
    ledger.move(case.id, CaseState.FAILED, by="mrtai", reason=reason, reason_code="ATTEMPTS", inputs_sha256=case.wanted_sha256)
    case_event(case.id, CaseState.FAILED, "ATTEMPTS")


def _start(client: SyncPrefectClient, deployment: UUID, case: CaseRecord) -> None:
    client.create_flow_run_from_deployment(
        deployment,
        parameters={"case_id": case.id, "inputs_sha256": case.wanted_sha256},
        tags=[case_tag(case.id)],
        idempotency_key=f"{case.id}:{case.wanted_sha256}:{case.updated_at}",
    )
