"""One case's draft as a Prefect flow: one task a room, the same calls as ``mrtai run``, on inputs that were frozen for it.

Parameters are names and digests. Values pass from room to room in memory: no voxel, and no identity, is ever a parameter, a result
or an artifact that Prefect stores.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final, TypeVar

from prefect import State, flow, get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.concurrency.sync import concurrency
from prefect.states import Completed, Failed

from mrtai.cycle import Step, run_case
from mrtai.engines_of_run import CaseRequest
from mrtai.io.case_folder import write_state
from mrtai.io.code_version import code_sha256
from mrtai.io.cycle_folder import CycleFolder, Snapshot
from mrtai.io.ledger import Ledger, open_ledger
from mrtai.io.results import read_results, results_sha256
from mrtai.io.site import read_site
from mrtai.reuse import reusing
from mrtai.values.ledger import CLOSED, CaseState, Superseded
from mrtai.values.refusal import DosimetryError, Held
from mrtai.values.site import Site
from workflows.room_task import room_as_task
from workflows.shown import case_event, show, shown

Result = TypeVar("Result")

ROOMS: Final = ("read", "align", "segment", "integrate", "absorb", "rates", "measure", "check", "write")
GPU: Final = "gpu"
GPU_ROOMS: Final = frozenset({"segment", "integrate", "absorb", "rates", "check"})
BY: Final = "mrtai"


@flow(name="dose-cycle", flow_run_name="{case_id}", persist_result=False)
def dose_cycle(case_id: str, inputs_sha256: str) -> State[Any]:
    """Work up a case from the inputs frozen under a digest, and write down what it came to.

    A refusal is an outcome: the case is held or failed with its reason, and the run is shown as failed. A fault, or a lost disk or
    database, is raised: the inbox starts another run.
    """
    site = read_site()
    with open_ledger(site.database) as ledger:
        if not _is_due(ledger, case_id, inputs_sha256):
            return Completed(message="nothing to do")
        try:
            return _drafted(site, ledger, case_id, inputs_sha256)
        except Superseded:
            return Completed(message="newer inputs came meanwhile")
        except DosimetryError as refusal:
            return _refused(ledger, case_id, inputs_sha256, refusal)


def _drafted(site: Site, ledger: Ledger, case_id: str, inputs_sha256: str) -> State[Any]:
    folder = CycleFolder(site.cycles / case_id)
    folder.sweep()
    _follow(ledger, case_id, folder)
    step = reusing(folder.kept, _shown_step(site, lambda: _require_due(ledger, case_id, inputs_sha256)), code=code_sha256())
    case = run_case(case_request(site, folder, folder.snapshot(inputs_sha256)), step)
    results = read_results(case)
    digest, provisional = results_sha256(results), bool(results["provisional"])
    ledger.move(case_id, CaseState.DRAFT, by=BY, results_sha256=digest, inputs_sha256=inputs_sha256, provisional=provisional)
    step.discard_others()
    folder.discard_others(inputs_sha256, ledger.case(case_id).wanted_sha256)
    shown(show, case, results)
    case_event(case_id, CaseState.DRAFT, results["verdict"])
    kind = "provisional draft" if provisional else "draft"
    get_run_logger().info("%s written; reused: %s", kind, ", ".join(step.reused) or "nothing")
    return Completed(message=f"{kind}, verdict {results['verdict']}")


def _follow(ledger: Ledger, case_id: str, folder: CycleFolder) -> None:
    """Bring the CASE folder to the ledger's word where a crash kept a rejection from it: else it would count as signed."""
    if (folder.case / "results.json").is_file() and read_results(folder.case)["state"] in CLOSED:
        write_state(folder.case, ledger.case(case_id).state)


def _refused(ledger: Ledger, case_id: str, inputs_sha256: str, refusal: DosimetryError) -> State[Any]:
    state = CaseState.HELD if isinstance(refusal, Held) else CaseState.FAILED
    if not _is_due(ledger, case_id, inputs_sha256):
        return Completed(message="another run was first")
    try:
        ledger.move(case_id, state, by=BY, reason=str(refusal), reason_code=refusal.code, inputs_sha256=inputs_sha256)
    except Superseded:
        return Completed(message="newer inputs came meanwhile")
    case_event(case_id, state, refusal.code)
    get_run_logger().warning("%s: %s", refusal.code, refusal)
    return Failed(message=f"{state}: {refusal}")


def case_request(site: Site, folder: CycleFolder, inputs: Snapshot) -> CaseRequest:
    """Return what the walk is asked for on frozen inputs."""
    return CaseRequest(
        inputs.study,
        inputs.protocol,
        folder.case,
        labels=inputs.labels,
        cycle=inputs.cycle,
        whole=True,
        study_toml=inputs.study_toml,
        calibrations=inputs.calibrations,
        priors=tuple(prior.case for prior in inputs.priors),
        device=site.device,
        threads=site.threads,
    )


def _is_due(ledger: Ledger, case_id: str, inputs_sha256: str) -> bool:
    case = ledger.case(case_id)
    return case.is_due and case.wanted_sha256 == inputs_sha256


def _require_due(ledger: Ledger, case_id: str, inputs_sha256: str) -> None:
    if not _is_due(ledger, case_id, inputs_sha256):
        raise Superseded(
            "these inputs are no longer the wanted ones",
            where=case_id,
            found="newer ones",
            remedy="let the newer run finish",
            code="SUPERSEDED",
        )


def _shown_step(site: Site, require_due: Callable[[], None]) -> Step:
    """Return a step that enters rooms as tasks, tells how far the walk is, and writes only what is still wanted."""
    progress = shown(create_progress_artifact, progress=0.0, description="rooms of the walk")

    def step(room: Callable[..., Result], *args: Any) -> Result:
        if room.__name__ == "write":
            require_due()
        with concurrency(GPU, occupy=1) if site.device == "cuda" and room.__name__ in GPU_ROOMS else nullcontext():
            result = room_as_task(room, *args)
        if progress is not None:
            done = 100.0 * (ROOMS.index(room.__name__) + 1) / len(ROOMS)
            shown(update_progress_artifact, progress, progress=done)  # type: ignore[arg-type]
        return result

    return step
