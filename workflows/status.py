"""``python -m workflows status``: whether everything runs, where the cases stand, and what waits for a person."""

import shutil
import socket
import time
from collections import Counter
from typing import Any, Final

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mrtai.io.ledger import LedgerAway, open_ledger
from mrtai.values.ledger import CaseRecord, CaseState, StudyState
from mrtai.values.site import Site
from workflows.inbox import ALIVE
from workflows.serve import server_is_up

INBOX_SILENT_S: Final = 60.0
NEEDS_A_PERSON: Final = (CaseState.HELD, CaseState.FAILED, CaseState.DRAFT)


def status(site: Site) -> dict[str, Any]:
    """Return health, counts and what waits; only pseudonyms, codes and reasons."""
    health = {
        "server": server_is_up(),
        "workers": _workers(),
        "receiver": _listens(site.receive.port),
        "inbox": _inbox_is_alive(site),
        "disk_free_gb": round(shutil.disk_usage(site.root if site.root.exists() else site.root.parent).free / 1e9, 1),
        "ledger": True,
        "audit_whole": True,
    }
    try:
        with open_ledger(site.database) as ledger:
            cases, studies, broken = ledger.cases(), ledger.studies(), ledger.verify()
    except LedgerAway as fault:
        return {"health": {**health, "ledger": False, "reason": str(fault)}, "well": False, "cases": {}, "waiting": [], "studies": {}}
    health["audit_whole"] = broken is None
    well = bool(health["server"] and health["workers"] and health["receiver"] and health["inbox"] and broken is None)
    return {
        "health": health,
        "well": well,
        "cases": dict(Counter(str(case.state) for case in cases)),
        "waiting": [_row(case) for case in cases if case.state in NEEDS_A_PERSON],
        "studies": {
            **Counter(str(one.state) for one in studies),
            "held_studies": [
                {"study": one.key[:8], "code": one.reason_code, "reason": one.reason} for one in studies if one.state is StudyState.HELD
            ],
            "ignored_studies": [
                {"study": one.key[:8], "modalities": list(one.modalities)} for one in studies if one.state is StudyState.IGNORED
            ],
        },
    }


def show(told: dict[str, Any], console: Console) -> None:
    """Print the status for a person."""
    health = told["health"]
    for part in ("server", "workers", "receiver", "inbox", "ledger", "audit_whole"):
        console.print(f"{'[green]up  [/]' if health[part] else '[red]DOWN[/]'} {part.replace('_', ' ')}{_number(health[part])}")
    console.print(f"     {health['disk_free_gb']} GB free")
    console.print("cases: " + (", ".join(f"{count} {state}" for state, count in sorted(told["cases"].items())) or "none"))
    if told["waiting"]:
        table = Table(box=SIMPLE, title="waiting for a person")
        for heading in ("case", "state", "why"):
            table.add_column(heading, overflow="fold")
        for row in told["waiting"]:
            table.add_row(row["case"], f"provisional {row['state']}" if row["provisional"] else row["state"], escape(row["reason"] or ""))
        console.print(table)
    for one in told["studies"].get("held_studies", []):
        console.print(f"held study {one['study']}: {escape(one['reason'] or '')}")
    for one in told["studies"].get("ignored_studies", []):
        console.print(f"study {one['study']} left alone: no rule fits {', '.join(one['modalities'])}")


def _row(case: CaseRecord) -> dict[str, Any]:
    provisional = case.state is CaseState.DRAFT and case.provisional
    return {"case": case.id, "state": str(case.state), "provisional": provisional, "code": case.reason_code, "reason": case.reason}


def _number(value: object) -> str:
    return f": {value}" if isinstance(value, int) and not isinstance(value, bool) else ""


def _workers() -> int:
    """Return how many workers of the pool the server heard of lately."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

    from workflows.install import POOL

    if not server_is_up():
        return 0
    with get_client(sync_client=True) as client:
        try:
            return sum(str(worker.status) == "WorkerStatus.ONLINE" for worker in client.read_workers_for_work_pool(POOL))
        except (ObjectNotFound, PrefectHTTPStatusError):  # no worker has made the pool yet
            return 0


def _listens(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(2)
        return one.connect_ex(("127.0.0.1", port)) == 0


def _inbox_is_alive(site: Site) -> bool:
    alive = site.root / ALIVE
    return alive.is_file() and time.time() - alive.stat().st_mtime < INBOX_SILENT_S
