"""Two sides compared and the comparison written: what ``mrtai validate`` does, and a cohort at its end."""

from dataclasses import dataclass
from pathlib import Path

from mrtai.agreement import from_images
from mrtai.io.validation_folder import require_ours, write_validation
from mrtai.io.validation_margin import equivalence_margin
from mrtai.io.validation_pairs import read_sides
from mrtai.physics.maps_agreement import maps_compared, misplaced
from mrtai.physics.mixed_units import require_same_units
from mrtai.physics.validation import attributed, compared
from mrtai.values.validation import Validation


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared, and how.

    Attributes:
        auto: CASE folder, or a folder of them.
        manual: CSV of manual results, CASE folders, or a folder of DICOM exports.
        out: folder to write; an earlier comparison there is replaced.
        regions: TOML file that maps the manual side's region names, None for none.
        margin: of equivalence, None for what the protocol of the cases says.
        protocols: files of protocols that do not come with mrtai.
        recompute: whether the steps are told apart by computing doses again from images; ``threads`` of the dose engines.
        lenient: whether a case that cannot be read is listed and left out, instead of refusing the whole comparison.
    """

    auto: Path
    manual: Path
    out: Path
    regions: Path | None = None
    margin: float | None = None
    protocols: tuple[Path, ...] = ()
    recompute: bool = False
    threads: int = 1
    lenient: bool = False


def compare(asked: Comparison) -> Validation:
    """Return a comparison, written into its folder.

    Raises:
        DosimetryError: as ``comparison`` does, or the folder holds something else.
    """
    require_ours(asked.out)
    found = comparison(asked)
    write_validation(found, asked.out)
    return found


def comparison(asked: Comparison) -> Validation:
    """Return a comparison and write nothing.

    Raises:
        DosimetryError: a side cannot be read, nothing has a partner, or units are mixed up.
    """
    sides = read_sides(asked.auto, asked.manual, asked.regions, lenient=asked.lenient)
    require_same_units(sides.pairs)
    equivalence = equivalence_margin(asked.margin, sides.auto, asked.protocols)
    maps = maps_compared(sides.auto, sides.manual, sides.pairs)
    known, refused = (
        from_images(sides.auto, sides.manual, sides.pairs, asked.protocols, threads=asked.threads) if asked.recompute else ((), ())
    )
    attributions, by_group = attributed(sides.pairs, maps, known)
    return Validation(
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
