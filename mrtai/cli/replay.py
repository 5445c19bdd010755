"""``mrtai replay``: a case made again from its manifest."""

import argparse
from pathlib import Path
from typing import Any

from mrtai.cli.progress import watched


def add_replay(commands: Any) -> argparse.ArgumentParser:
    """Add ``mrtai replay`` to a parser and return its own."""
    replay: argparse.ArgumentParser = commands.add_parser(
        "replay",
        help="make a case again and compare",
        description="Work a case up again from its own inputs, found by their digests. Exit status 0 when the results are equal; 2 when an "
        "input is missing or changed, or when equal inputs give other results, with one line that says which. The case is left untouched.",
    )
    replay.set_defaults(command=_replay)
    replay.add_argument("case", type=Path, metavar="CASE", help="folder made by mrtai run")
    replay.add_argument("--study", type=Path, required=True, metavar="STUDY", help="the study it was made from")
    replay.add_argument(
        "--with",
        dest="places",
        action="append",
        default=[],
        type=Path,
        metavar="FILE_OR_FOLDER",
        help="where labels, calibrations, earlier cycles and the like lie, if not in STUDY or CASE; repeatable",
    )
    replay.add_argument("--patient", metavar="ID", help="as in the run, which does not keep it")
    return replay


def _replay(options: argparse.Namespace) -> dict[str, Any]:
    from mrtai.replay import replay_case

    done = replay_case(options.case, options.study, options.places, patient=options.patient, step=watched("replay"))
    since = f" (changed since: {', '.join(done.changed)})" if done.changed else ""
    return {"equal": True, "inputs": done.inputs, "changed": list(done.changed), "text": f"equal results from {done.inputs} inputs{since}"}
