"""``mrtai validate``: our results against another's, and which step makes them differ."""

import argparse
from pathlib import Path
from typing import Any

from mrtai.cli.arguments import positive, positive_number


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
    from mrtai.io.validation_folder import require_ours, write_validation
    from mrtai.io.validation_margin import equivalence_margin
    from mrtai.io.validation_pairs import read_sides
    from mrtai.physics.maps_agreement import maps_compared, misplaced
    from mrtai.physics.mixed_units import require_same_units
    from mrtai.physics.validation import attributed, compared
    from mrtai.values.validation import Validation

    require_ours(options.out)
    sides = read_sides(options.auto, options.manual, options.regions)
    require_same_units(sides.pairs)
    equivalence = equivalence_margin(options.margin, sides.auto, options.protocols)
    maps = maps_compared(sides.auto, sides.manual, sides.pairs)
    known, refused = _from_images(options, sides) if options.recompute else ((), ())
    attributions, by_group = attributed(sides.pairs, maps, known)
    found = Validation(
        auto=sides.auto,
        manual=sides.manual,
        pairs=sides.pairs,
        unmatched=(*sides.unmatched, *misplaced(maps)),
        comparisons=compared(sides.pairs, equivalence.margin),
        attributions=attributions,
        group_attributions=by_group,
        margin=equivalence.margin,
        margin_source=equivalence.source,
        maps=maps,
        not_recomputed=refused,
    )
    folder = write_validation(found, options.out)
    return {
        "validation": str(folder / "validation.json"),
        "report": str(folder / "validation.html"),
        "cycles": len({(pair.patient, pair.cycle) for pair in found.pairs}),
        "regions": len(found.pairs),
        "unmatched": len(found.unmatched),
        "text": f"{len(found.pairs)} regions compared, {len(found.unmatched)} without partner: {folder / 'validation.html'}",
    }


def _from_images(options: argparse.Namespace, sides: Any) -> Any:
    from mrtai.agreement import from_images

    return from_images(sides.auto, sides.manual, sides.pairs, tuple(options.protocols), threads=options.threads)
