"""``mrtai export`` and ``mrtai send``: a case as DICOM objects, and on to an archive."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mrtai.cli.progress import bar
from mrtai.values.refusal import DosimetryError


def add_export(commands: Any) -> argparse.ArgumentParser:
    """Add ``mrtai export`` to a parser and return its own."""
    export: argparse.ArgumentParser = commands.add_parser(
        "export",
        help="a case as DICOM objects, proven",
        description="Write RTDOSE, parametric maps, SEG, RTSTRUCT, SR, PDF and registrations of a case into CASE/dicom. Every object is "
        "read back by another route and compared with the case before it is put in place.",
    )
    export.set_defaults(command=_export)
    export.add_argument("case", type=Path, metavar="CASE", help="folder made by mrtai run")
    export.add_argument("--study", type=Path, required=True, metavar="STUDY", help="the DICOM study it was made from: patient, references")
    export.add_argument("--seg", choices=("binary", "labelmap"), default="binary", help="kind of segmentation (default binary)")
    export.add_argument("--dose-grid", choices=("dose", "ct"), default="dose", help="grid of RTDOSE: the SPECT's, or the contours' (CT)")
    return export


def add_send(commands: Any) -> argparse.ArgumentParser:
    """Add ``mrtai send`` to a parser and return its own."""
    send: argparse.ArgumentParser = commands.add_parser(
        "send",
        help="a signed case's proven objects to an archive",
        description="Send CASE/dicom to a target of mrtai.toml. What the target acknowledged is remembered: sending again sends the rest.",
    )
    send.set_defaults(command=_send)
    send.add_argument("case", type=Path, metavar="CASE", help="signed case with proven objects in CASE/dicom")
    send.add_argument("--to", required=True, metavar="NAME", help="a [[target]] of mrtai.toml")
    return send


def _export(options: argparse.Namespace) -> dict[str, Any]:
    from mrtai.io.dicom_write import Choices
    from mrtai.release import export_case

    choices = Choices(labelmap=options.seg == "labelmap", dose_on_ct=options.dose_grid == "ct")
    with bar("export") as show:
        folder = export_case(options.case, options.study, choices, show)
    count = len(list(folder.glob("*.dcm")))
    return {"dicom": str(folder), "objects": count, "text": f"{count} objects written and proven: {folder}"}


def _send(options: argparse.Namespace) -> dict[str, Any]:
    from mrtai.io.targets import read_targets
    from mrtai.release import send_case

    targets = read_targets()
    if options.to not in targets:
        known = ", ".join(sorted(targets)) or "none is set"
        raise DosimetryError(
            "no such target", where="mrtai.toml", found=f"'{options.to}'", remedy=f"choose one of: {known}", code="NO_TARGET"
        )
    with bar(f"send to {options.to}") as show:
        outcome = send_case(options.case, targets[options.to], lambda done, of: show(f"{done} of {of}", done / of))
    committed = sum(one.committed is True for one in outcome)
    text = f"{len(outcome)} objects stored at {options.to}{f', {committed} committed' if committed else ''}"
    return {"objects": [asdict(one) for one in outcome], "text": text}
