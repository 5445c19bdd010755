"""Many cycles computed again into a result set of their own: another protocol, another engine, another version.

Every cycle is a run of its own on whatever workers there are; one that fails stops none of the others. Signed results, and drafts too,
stay as they are: a set lies in ``cohorts/NAME`` beside the cycles. At the end it may be compared with manual results, or with the drafts.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from prefect import State, flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Failed

from mrtai.comparison import Comparison, compare
from mrtai.cycle import run_case
from mrtai.io.atomic import write_bytes
from mrtai.io.cycle_folder import CycleFolder
from mrtai.io.ledger import open_ledger
from mrtai.io.site import read_site
from mrtai.values.ledger import CaseRecord
from mrtai.values.refusal import DosimetryError
from mrtai.values.site import Site
from workflows.dose_cycle import case_request
from workflows.room_task import room_as_task

LOOK_EVERY_S: Final = 2.0
SUMMARY: Final = "cohort.json"
COMPARISON: Final = "comparison"
DRAFTS: Final = "drafts"
"""What a set may be compared with by name: the site's own drafts."""


@dataclass(frozen=True, slots=True)
class Another:
    """What is different in a result set: names that ``mrtai run`` knows; None keeps the case's own."""

    protocol: str | None = None
    kinetics: str | None = None
    engine: str | None = None


@flow(name="recompute", flow_run_name="{result_set}/{case_id}", persist_result=False)
def recompute(
    case_id: str, result_set: str, protocol: str | None = None, kinetics: str | None = None, engine: str | None = None
) -> State[Any]:
    """Compute one case again into a result set; what is there already is left as it is."""
    site = read_site()
    out = set_folder(site, result_set) / case_id
    if (out / "results.json").is_file():
        return Completed(message="computed before")
    with open_ledger(site.database) as ledger:
        case = ledger.case(case_id)
    folder = CycleFolder(site.cycles / case_id)
    try:
        request = case_request(site, folder, folder.snapshot(case.settled_sha256 or case.wanted_sha256))
        run_case(replace(request, out=out, protocol=protocol or request.protocol, kinetics=kinetics, engine=engine), room_as_task)
    except DosimetryError as refusal:
        get_run_logger().warning("%s: %s", refusal.code, refusal)
        return Failed(message=str(refusal))
    return Completed(message="computed")


def set_folder(site: Site, result_set: str) -> Path:
    """Return the folder of a result set; refuses a name that leads elsewhere."""
    if not result_set or Path(result_set).name != result_set or result_set.startswith("."):
        raise DosimetryError(
            "not a name for a result set", where="--set", found=repr(result_set), remedy="use a plain word", code="BAD_SET"
        )
    return site.root / "cohorts" / result_set


def cohort(
    site: Site, cases: Sequence[CaseRecord], result_set: str, another: Another, deployment: Any, tell: Callable[[int, int], None]
) -> dict[str, str]:
    """Start a run for every case that the set lacks, wait for all, and return what became of each; calling again goes on.

    The set remembers what is different in it and refuses to be mixed with something else.
    """
    folder = set_folder(site, result_set)
    _require_same_set(folder, another)
    with get_client(sync_client=True) as client:
        told = {case.id: _started(client, deployment, case.id, result_set, another) for case in cases if not _is_done(folder, case.id)}
        outcome = {case.id: "computed before" for case in cases if case.id not in told}
        while len(outcome) < len(cases):
            for case_id, run_id in told.items():
                run = client.read_flow_run(run_id) if case_id not in outcome else None
                if run is not None and run.state is not None and run.state.is_final():
                    outcome[case_id] = f"{run.state.type.value.lower()}: {run.state.message or ''}"
            tell(len(outcome), len(cases))
            time.sleep(LOOK_EVERY_S if len(outcome) < len(cases) else 0.0)
    return outcome


def compared(site: Site, result_set: str, against: str, *, regions: Path | None = None, margin: float | None = None) -> Path:
    """Compare a result set with manual results or with the drafts it was computed again from, and return the folder written.

    A case that failed, or that cannot be read, is listed in the comparison and stops nothing. Calling again replaces it.

    Raises:
        DosimetryError: the manual side cannot be read, or nothing has a partner.
    """
    folder = set_folder(site, result_set)
    manual = site.cycles if against == DRAFTS else Path(against)
    asked = Comparison(folder, manual, folder / COMPARISON, regions=regions, margin=margin, lenient=True)
    compare(asked)
    return asked.out


def _require_same_set(folder: Path, another: Another) -> None:
    told = {"schema": "mrtai.cohort/1", "protocol": another.protocol, "kinetics": another.kinetics, "engine": another.engine}
    summary = folder / SUMMARY
    if not summary.is_file():
        write_bytes(summary, (json.dumps(told, indent=1) + "\n").encode())
    elif json.loads(summary.read_text("utf-8")) != told:
        found, remedy = "a set of another protocol, kinetics or engine", "choose another name for --set"
        raise DosimetryError("the result set holds something else", where=folder.name, found=found, remedy=remedy, code="SET_DIFFERS")


def _is_done(folder: Path, case_id: str) -> bool:
    return (folder / case_id / "results.json").is_file()


def _started(client: SyncPrefectClient, deployment: Any, case_id: str, result_set: str, another: Another) -> Any:
    """Return the run of a case that is under way, else a new one."""
    tag = f"cohort:{result_set}:{case_id}"
    runs: list[FlowRun] = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag])))
    open_run = next((run for run in runs if run.state is not None and not run.state.is_final()), None)
    if open_run is not None:
        return open_run.id
    words = {"protocol": another.protocol, "kinetics": another.kinetics, "engine": another.engine}
    parameters = {"case_id": case_id, "result_set": result_set, **words}
    key = f"{tag}:{len(runs)}"
    return client.create_flow_run_from_deployment(deployment, parameters=parameters, tags=[tag], idempotency_key=key).id
