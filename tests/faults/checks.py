"""What must be true of a department after everything in it has died several times; each check returns what is wrong."""

import os
import re
import sqlite3
import tempfile
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from mrtai.cycle import run_case
from mrtai.io.cycle_folder import CycleFolder
from mrtai.io.ledger import open_ledger
from mrtai.io.received import AGAIN
from mrtai.io.results import read_results, results_sha256
from mrtai.values.ledger import CaseState
from workflows.dose_cycle import case_request


def final_drafts(site, cycles, scans):
    """Every cycle has come to its final draft of all its scans, and the folder holds what the ledger says."""
    wrong = [] if len(site.cases()) == cycles else [f"{len(site.cases())} cases of {cycles} cycles"]
    for case in site.cases():
        results = site.results(case.id)
        if case.is_due or case.state is not CaseState.DRAFT or case.provisional:
            wrong.append(f"{case.id}: {case.state}, due {case.is_due}, provisional {case.provisional}: {case.reason}")
        elif len(results["scans"]) != scans or results["provisional"]:
            wrong.append(f"{case.id}: {len(results['scans'])} scans, provisional {results['provisional']}")
        elif results_sha256(results) != case.results_sha256:
            wrong.append(f"{case.id}: the results are not those of the ledger")
    return wrong


def as_undisturbed(site):
    """Every draft has the results that the plain walk comes to on the same inputs, without Prefect and without kept stages."""
    os.environ["MRTAI_CONFIG"] = str(site.config)
    wrong = []
    for case in site.cases():
        folder = CycleFolder(site.site.cycles / case.id)
        with tempfile.TemporaryDirectory() as out:
            plain = run_case(replace(case_request(site.site, folder, folder.snapshot(case.wanted_sha256)), out=Path(out) / "case"))
            if results_sha256(read_results(plain)) != case.results_sha256:
                wrong.append(f"{case.id}: another result than that of an undisturbed walk")
    return wrong


def once(site, instances):
    """No instance is missing, doubled or changed; no draft was made twice; the audit is whole."""
    received = [path for path in site.site.received.rglob("*.dcm") if path.parent.parent == site.site.received]
    wrong = [] if len(received) == instances else [f"{len(received)} instances of {instances} that were sent"]
    wrong += [f"{path.parent.name}: an instance counts as changed" for path in site.site.received.rglob(AGAIN)]
    with open_ledger(site.site.database) as ledger:
        if ledger.verify() is not None:
            wrong.append(f"the audit is broken at entry {ledger.verify()}")
        for case in ledger.cases():
            drafts = [entry.results_sha256 for entry in ledger.audit(case.id) if entry.becomes is CaseState.DRAFT]
            if len(drafts) != len(set(drafts)):
                wrong.append(f"{case.id}: a draft was made twice")
    return wrong


def whole(site):
    """Nothing is left half-written, and nothing of a process that died."""
    left = [path for path in site.site.cycles.rglob("*") if path.name.startswith(".")]
    left += (site.site.received / ".partial").glob("*")
    left += [path for path in site.site.received.rglob("*") if "partial" in path.name and path.is_file()]
    wrong = [f"left: {path.relative_to(site.site.root)}" for path in left]
    for case in site.cases():
        snapshots = list((site.site.cycles / case.id).glob("inputs-*"))
        if len(snapshots) != 1:
            wrong.append(f"{case.id}: {len(snapshots)} snapshots")
    return wrong


def runs_ended(watch):
    """No run is left open for ever, and no two of one case wrote at the same time."""
    runs = watch.asked("flow_runs/filter", {"limit": 200}) or []
    final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
    wrong = [f"run {run['name']} is {run['state_type']}" for run in runs if run["state_type"] not in final]
    writes = watch.asked("task_runs/filter", {"limit": 200, "task_runs": {"name": {"any_": ["write"]}}}) or []
    case_of = {run["id"]: run["parameters"].get("case_id") for run in runs}
    for case in {case for case in case_of.values() if case}:
        spans = sorted(_spans(one for one in writes if case_of.get(one["flow_run_id"]) == case))
        if any(later < end for (_, end), (later, _) in pairwise(spans)):
            wrong.append(f"{case}: two runs wrote at the same time")
    return wrong


def _spans(tasks):
    for task in tasks:
        if task["start_time"] and task["end_time"]:
            yield datetime.fromisoformat(task["start_time"]), datetime.fromisoformat(task["end_time"])


def no_identity(site, words):
    """No word of an identity is in a name, a file, a log or a database of ours; DICOM files alone hold it."""
    pattern = re.compile("|".join(map(re.escape, words)).encode(), re.IGNORECASE)
    wrong = []
    for path in [*site.site.root.rglob("*"), site.folder / "serve.log"]:
        told = path.name.encode() + (path.read_bytes() if path.is_file() and path.suffix != ".dcm" else b"")
        if pattern.search(told):
            wrong.append(f"an identity in {path.name}")
    for database in site.site.root.rglob("*.db"):
        with sqlite3.connect(database) as connection:
            if any(pattern.search(line.encode()) for line in connection.iterdump()):
                wrong.append(f"an identity in {database.name}")
    return wrong


def one_of_each(watch, kinds):
    """Every part runs, once."""
    counts = {kind: len(watch.running(kind)) for kind in kinds}
    return [f"{count} processes of {kind}" for kind, count in counts.items() if count != 1]
