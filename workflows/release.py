"""The flow ``release``: a signed case becomes DICOM, is proven, and goes to the archive of its rule."""

from typing import Any, Final

from prefect import State, flow, get_run_logger
from prefect.states import Completed, Failed

from mrtai.io.case_folder import write_state
from mrtai.io.cycle_folder import CycleFolder
from mrtai.io.dicom_write import Choices
from mrtai.io.ledger import open_ledger
from mrtai.io.results import read_results, results_sha256
from mrtai.io.site import config_path, read_site
from mrtai.io.targets import Target, read_targets
from mrtai.release import export_case, send_case
from mrtai.values.ledger import CaseState
from mrtai.values.refusal import DosimetryError
from mrtai.values.site import Site
from workflows.room_task import lost_disk, room_as_task
from workflows.shown import case_event

RETRY_DELAYS_S: Final = [10, 60, 300]
WORTH_ANOTHER_TRY: Final = frozenset({"SEND_INCOMPLETE", "SEND_BUSY", "LISTEN_PORT"})


@flow(name="release", flow_run_name="{case_id}", persist_result=False)
def release(case_id: str, retry_delays_s: list[int] = RETRY_DELAYS_S) -> State[Any]:
    """Write, prove and send a signed case; an archive that is away is tried again, what it has is not sent twice."""
    site = read_site()
    try:
        folder, target = _signed(site, case_id)
        for room, *what in ((_export, folder), (_send, folder, target)):
            room_as_task(room, *what, delays_s=retry_delays_s, may_pass=_may_pass)
        with open_ledger(site.database) as ledger:
            record = ledger.move(case_id, CaseState.RELEASED, by="mrtai", results_sha256=results_sha256(read_results(folder.case)))
    except DosimetryError as refusal:
        get_run_logger().warning("%s: %s", refusal.code, refusal)
        return Failed(message=str(refusal))
    write_state(folder.case, record.state)
    case_event(case_id, record.state, target.name)
    return Completed(message=f"released to {target.name}")


def _signed(site: Site, case_id: str) -> tuple[CycleFolder, Target]:
    """Return folder and target of a case that the ledger calls signed.

    Raises:
        DosimetryError: it is not signed, was changed since, or its rule names no target.
    """
    with open_ledger(site.database) as ledger:
        case = ledger.case(case_id)
    if case.state not in (CaseState.SIGNED, CaseState.RELEASED):
        remedy = "have a qualified person sign it first: python -m workflows sign CASE --by NAME"
        raise DosimetryError("only a signed case is released", where=case_id, found=f"state {case.state}", remedy=remedy, code="NOT_SIGNED")
    folder = CycleFolder(site.cycles / case_id)
    if results_sha256(read_results(folder.case)) != case.results_sha256:
        remedy = "reject the case, submit it again and sign the new draft"
        raise DosimetryError(
            "the results are not those that were signed", where=case_id, found="another digest", remedy=remedy, code="RESULTS_CHANGED"
        )
    folder.sweep()
    write_state(folder.case, case.state)  # a crash between signature and file
    target = next((rule.target for rule in site.rules if rule.name == case.rule), None)
    if target is None:
        remedy = "name a [[target]] in its [[rule]]"
        raise DosimetryError(
            "the rule of this case names no target", where="mrtai.toml", found=f"rule '{case.rule}'", remedy=remedy, code="NO_TARGET"
        )
    return folder, read_targets(config_path())[target]


def _export(folder: CycleFolder) -> None:
    with open_ledger(read_site().database) as ledger:
        inputs = str(ledger.case(folder.root.name).drafted_sha256)
    export_case(folder.case, folder.snapshot(inputs).study, Choices())


def _send(folder: CycleFolder, target: Target) -> None:
    send_case(folder.case, target)


def _may_pass(fault: object) -> bool:
    return lost_disk(fault) or (isinstance(fault, DosimetryError) and fault.code in WORTH_ANOTHER_TRY)
