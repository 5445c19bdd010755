"""``python -m workflows audit``: every move of every case, or of one, as the ledger's chain has it."""

from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mrtai.io.ledger import Ledger


def audit(ledger: Ledger, case_id: str | None = None) -> dict[str, Any]:
    """Return the entries, the oldest first, the newest of all cases by number and digest, and the first broken one, None where none is.

    Raises:
        DosimetryError: a case that the ledger does not know.
    """
    if case_id is not None:
        ledger.case(case_id)
    head = ledger.head()
    newest = None if head is None else {"number": head.number, "sha256": head.sha256}
    return {"entries": [asdict(entry) for entry in ledger.audit(case_id)], "newest": newest, "broken_at": ledger.verify()}


def show(told: dict[str, Any], console: Console) -> None:
    """Print the audit for a person."""
    table = Table(box=SIMPLE)
    for heading in ("", "when (UTC)", "case", "from", "to", "by", "reason", "results"):
        table.add_column(heading, overflow="fold")
    for entry in told["entries"]:
        moved = (str(entry["number"]), entry["at"][:19], entry["case_id"], str(entry["was"]), str(entry["becomes"]))
        table.add_row(*moved, escape(entry["by"]), escape(entry["reason"] or ""), (entry["results_sha256"] or "")[:12])
    console.print(table)
    if told["newest"] is not None:
        console.print(f"newest entry: {told['newest']['number']}, {told['newest']['sha256']}", soft_wrap=True)
    console.print("the chain is whole" if told["broken_at"] is None else f"[red]the chain is broken at entry {told['broken_at']}[/]")
