"""``mrtai cumulate``: the cycles of one patient added up."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any


def add_cumulate(commands: Any) -> argparse.ArgumentParser:
    """Add ``mrtai cumulate`` to a parser and return its own."""
    cumulate: argparse.ArgumentParser = commands.add_parser(
        "cumulate",
        help="dose and BED over a patient's signed cycles",
        description="Per organ and lesion the sum of absorbed dose, BED and EQD2 over one patient's signed cycles, with uncertainty and "
        "what remains to the protocol's limits. BED is summed cycle by cycle.",
    )
    cumulate.set_defaults(command=_cumulate)
    cumulate.add_argument("cases", nargs="+", type=Path, metavar="CASE", help="folders made by mrtai run, signed or released")
    cumulate.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="folder to write; earlier sums there are replaced")
    cumulate.add_argument("--protocol", metavar="P", help="whose limits hold; else the shipped one that all cases used")
    cumulate.add_argument("--drafts", action="store_true", help="count unsigned drafts too; the output is then marked provisional")
    return cumulate


def _cumulate(options: argparse.Namespace) -> dict[str, Any]:
    from mrtai.io.counted_cycles import limits_protocol, read_counted
    from mrtai.io.cumulative import no_limits_flag
    from mrtai.io.cumulative_folder import require_ours, write_cumulative
    from mrtai.physics.cumulative import cumulated

    require_ours(options.out)
    cycles = read_counted(options.cases, drafts=options.drafts)
    protocol = limits_protocol(options.cases, options.protocol)
    found = cumulated(cycles, {} if protocol is None else protocol.cumulative_limits, None if protocol is None else protocol.name)
    if protocol is None:
        found = replace(found, flags=(*found.flags, no_limits_flag()))
    folder = write_cumulative(found, options.out)
    exceeded = [row.name for row in found.regions if any(limit.exceeded for limit in row.limits)]
    return {
        "cumulative": str(folder / "cumulative.json"),
        "report": str(folder / "cumulative.html"),
        "cycles": len(found.cycles),
        "provisional": found.provisional,
        "exceeded": exceeded,
        "text": f"{len(found.cycles)} cycles added up: {folder / 'cumulative.html'}",
    }
