"""A person's word on a case: signed or rejected. The ledger is the authority; the case's own file follows it."""

from pathlib import Path

from mrtai.io.case_folder import write_state
from mrtai.io.cycle_folder import CycleFolder
from mrtai.io.ledger import Ledger
from mrtai.io.results import read_results, results_sha256
from mrtai.values.ledger import CLOSED, CaseRecord, CaseState
from mrtai.values.refusal import DosimetryError
from mrtai.values.site import Site


def case_id(site: Site, named: str) -> str:
    """Return a case's ID, given as such or as a path of its folder or of its CASE folder."""
    path = Path(named)
    if path.is_dir():
        inside = path.resolve()
        for place in (inside, inside.parent):
            if place.parent == site.cycles.resolve():
                return place.name
        raise DosimetryError(
            "the folder is no case of this site",
            where=path.name,
            found="a folder elsewhere",
            remedy="give a case of `status`",
            code="NO_CASE",
        )
    return named


def is_case(site: Site, folder: Path) -> bool:
    """Say whether a folder is a cycle's folder of this site, or the CASE folder in it."""
    inside = folder.resolve()
    return site.cycles.resolve() in (inside.parent, inside.parent.parent)


def sign(site: Site, ledger: Ledger, case: str, by: str) -> CaseRecord:
    """Sign the draft as it lies in the CASE folder.

    Raises:
        DosimetryError: no draft, its results are not those that were drafted, or a newer draft is under way.
    """
    seen = ledger.case(case)
    if seen.is_due:
        remedy = "wait for the new draft and look at it"
        raise DosimetryError(
            "newer scans or files came in after this draft", where=case, found="a draft under way", remedy=remedy, code="DRAFT_DUE"
        )
    if seen.state is CaseState.SIGNED:
        _require_same_signer(ledger, case, by)
    folder = CycleFolder(site.cycles / case)
    if seen.state is CaseState.DRAFT:
        _require_priors(ledger, folder, str(seen.drafted_sha256))
    digest = results_sha256(read_results(folder.case))
    # with the inputs that were looked at: a scan that comes in this instant is not signed over
    record = ledger.move(case, CaseState.SIGNED, by=by, results_sha256=digest, inputs_sha256=seen.drafted_sha256)
    write_state(folder.case, record.state)
    return record


def _require_same_signer(ledger: Ledger, case: str, by: str) -> None:
    """Let who signed a case say it again, which mends a file that a crash left behind, and nobody else."""
    signed = [entry for entry in ledger.audit(case) if entry.becomes is CaseState.SIGNED]
    if signed and signed[-1].by != by:
        remedy = "reject it and submit it again, if another word must count"
        raise DosimetryError("the case is signed already", where=case, found=f"by {signed[-1].by}", remedy=remedy, code="CASE_SIGNED")


def _require_priors(ledger: Ledger, folder: CycleFolder, inputs_sha256: str) -> None:
    """Refuse a draft that leans on an earlier cycle which is no longer signed as it was."""
    for prior in folder.snapshot(inputs_sha256).priors:
        earlier = ledger.case(prior.case.parent.name)
        if earlier.state not in CLOSED or earlier.results_sha256 != prior.results_sha256:
            raise DosimetryError(
                "an earlier cycle that this draft leans on has changed",
                where=folder.root.name,
                found=f"{earlier.id} is {earlier.state}",
                remedy="submit the case again and look at the new draft",
                code="PRIOR_CHANGED",
            )


def reject(site: Site, ledger: Ledger, case: str, by: str, reason: str) -> CaseRecord:
    """Reject a case with a reason; new inputs, or submitting it again, make a new draft."""
    record = ledger.move(case, CaseState.REJECTED, by=by, reason=reason, reason_code="REJECTED")
    folder = CycleFolder(site.cycles / case).case
    if (folder / "results.json").is_file():
        write_state(folder, record.state)
    return record
