"""``mrtai validate``: our results against another's, and which step makes them differ."""

import argparse
from pathlib import Path
from typing import Any

from mrtai.cli.arguments import positive, positive_number
from mrtai.cli.progress import working


def add_validate(commands: Any) -> argparse.ArgumentParser:
    """Add ``mrtai validate`` to a parser and return its own."""
    validate: argparse.ArgumentParser = commands.add_parser(
        "validate",
        help="compare cases with manual results, step by step",
        description="Agreement of CASE folders with another's results: bias and limits of agreement, concordance, regression and "
        "equivalence by class of regions, and how much of each dose difference contour, activity, curve and dose calculation make.",
    )
    validate.set_defaults(command=_validate)
    validate.add_argument("auto", type=Path, metavar="AUTO", help="CASE folder, or a folder of CASE folders")
    validate.add_argument(
        "manual",
        type=Path,
        metavar="MANUAL",
        help="CSV of manual results, CASE folders, or a folder of DICOM exports (RTDOSE with RTSTRUCT or SEG)",
    )
    validate.add_argument(
        "--out", required=True, type=Path, metavar="FOLDER", help="folder to write; an earlier comparison there is replaced"
    )
    validate.add_argument(
        "--regions", type=Path, metavar="FILE", help='TOML: table [regions] with lines as "Left kidney (old)" = "kidney_left"'
    )
    validate.add_argument(
        "--margin",
        type=positive_number,
        metavar="M",
        help="mean ratio that still counts as equivalent, as a share (0.05: between 1/1.05 and 1.05; default: as the protocol says)",
    )
    validate.add_argument(
        "--recompute",
        action="store_true",
        help="tell the steps apart by computing doses again from the images of both sides' CASE folders (up to 16 doses a cycle)",
    )
    validate.add_argument(
        "--protocol",
        dest="protocols",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a protocol of yours that cases were worked up with, for its margin and for --recompute; may be given several times",
    )
    validate.add_argument("--threads", type=positive, default=1, metavar="N", help="of the dose engines (default 1)")
    return validate


def _validate(options: argparse.Namespace) -> dict[str, Any]:
    from mrtai.comparison import Comparison, compare
    from mrtai.io.protocols import load_protocol

    asked = Comparison(
        auto=options.auto,
        manual=options.manual,
        out=options.out,
        regions=options.regions,
        margin=options.margin,
        protocols=tuple(options.protocols),
        recompute=options.recompute,
        threads=options.threads,
    )
    for path in options.protocols:
        load_protocol(str(path))  # one that is not there is refused before any work
    with working("comparing"):
        found = compare(asked)
    folder = options.out.resolve()
    return {
        "validation": str(folder / "validation.json"),
        "report": str(folder / "validation.html"),
        "cycles": len({(pair.patient, pair.cycle) for pair in found.pairs}),
        "regions": len(found.pairs),
        "unmatched": len(found.unmatched),
        "text": f"{len(found.pairs)} regions compared, {len(found.unmatched)} without partner: {folder / 'validation.html'}",
    }
