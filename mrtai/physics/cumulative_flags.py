"""What a reader must know of sums over cycles."""

from collections.abc import Sequence
from itertools import combinations
from typing import Final

from mrtai.physics.same_region import Parts, by_name
from mrtai.units import SECONDS_PER_DAY
from mrtai.values.cumulative import BED, DOSE, CountedCycle, CycleRegion, Remaining
from mrtai.values.flag import Flag, Severity

CLOSE_S: Final = 3 * SECONDS_PER_DAY
"""Administrations of one nuclide closer than this are more often two accounts of one."""

WORDS: Final = {DOSE: "absorbed dose", BED: "BED"}
EXCEEDED, NEXT = "CUMULATIVE_LIMIT_EXCEEDED", "CUMULATIVE_LIMIT_NEXT_CYCLE"


def course_flags(cycles: Sequence[CountedCycle]) -> tuple[Flag, ...]:
    """Return the flags of all cycles together."""
    flags = []
    drafts = [cycle for cycle in cycles if not cycle.is_counted]
    if drafts:
        text = f"The sums hold what nobody has signed: {_labels(drafts)}."
        flags.append(Flag("DRAFTS_COUNTED", Severity.REVIEW, text, "Sign the cases, then add them up again."))
    if len({cycle.nuclide for cycle in cycles}) > 1:
        text = "Several nuclides were given. Sums over all of them add physical doses of different radiation and dose rate."
        flags.append(Flag("NUCLIDES_DIFFER", Severity.REVIEW, text, "Judge the sums of each nuclide; they stand beside each other."))
    for one, other in combinations(cycles, 2):
        if one.nuclide == other.nuclide and abs((other.at.replace(tzinfo=None) - one.at.replace(tzinfo=None)).total_seconds()) < CLOSE_S:
            text = f"{one.label} and {other.label} are less than three days apart."
            flags.append(Flag("ADMINISTRATIONS_CLOSE", Severity.REVIEW, text, "Check that these are two administrations."))
    return tuple(flags)


def region_flags(parts: Parts, cycles: Sequence[CountedCycle]) -> tuple[Flag, ...]:
    """Return why a region's sum is missing or doubtful."""
    return (*_withheld(parts, cycles), *_absent(parts, cycles), *_identity(parts), *_biology(parts, cycles), *_uncertainty(parts, cycles))


def limit_flags(limits: Sequence[Remaining], in_part: bool) -> tuple[Flag, ...]:
    """Return flags of limits that are exceeded, would be by one more mean cycle, or cannot be judged.

    ``in_part``: the region is missing in a cycle, so the sum is a lower bound.
    """
    flags = []
    part = " The region is missing in a cycle, so its true sum may be larger." if in_part else ""
    for limit in limits:
        words = f"{WORDS[limit.quantity]} of {limit.limit_gy:g} Gy"
        if limit.remaining_gy is None:
            text = f"The limit of the {words} cannot be judged: there is no sum."
            flags.append(Flag("CUMULATIVE_LIMIT_NOT_JUDGED", Severity.REVIEW, text, "Settle the cycle that has no number."))
        elif limit.exceeded:
            text = f"The sum is above the limit of the {words} by {-limit.remaining_gy:.3g} Gy.{part}"
            flags.append(Flag(EXCEEDED, Severity.REVIEW, text, "A physician decides on further cycles."))
        elif limit.next_exceeds:
            text = f"{limit.remaining_gy:.3g} Gy remain to the limit of the {words}: one more cycle like the mean would exceed it.{part}"
            flags.append(Flag(NEXT, Severity.REVIEW, text, "A physician decides on further cycles."))
    return tuple(flags)


def _withheld(parts: Parts, cycles: Sequence[CountedCycle]) -> list[Flag]:
    found = [cycles[position] for position, region in parts if region.withheld]
    text = f"No sum is given: the dose was withheld in {_labels(found)}."
    return [Flag("DOSE_WITHHELD", Severity.WITHHELD, text, "Settle the region in that cycle.")] if found else []


def _absent(parts: Parts, cycles: Sequence[CountedCycle]) -> list[Flag]:
    present = {position for position, _ in parts}
    found = [cycle for position, cycle in enumerate(cycles) if position not in present]
    text = f"The region is missing in {_labels(found)}; the sum is over the other cycles."
    return (
        [Flag("NOT_IN_EVERY_CYCLE", Severity.REVIEW, text, "Check whether it was outlined; the true sum may be larger.")] if found else []
    )


def _identity(parts: Parts) -> list[Flag]:
    flags = []
    if by_name(parts):
        text = "Only their common name says that this is one lesion."
        flags.append(Flag("LESION_IDENTITY_BY_NAME", Severity.REVIEW, text, "Compare the outlines of the cycles."))
    unlike = len({region.members for _, region in parts}) > 1
    if unlike:
        text = "The union has other members in other cycles, so the doses added are not of one volume."
        flags.append(Flag("MEMBERS_DIFFER", Severity.REVIEW, text, "Judge the members."))
    return flags


def _biology(parts: Parts, cycles: Sequence[CountedCycle]) -> list[Flag]:
    without = [cycles[position] for position, region in parts if BED not in region.values and not region.withheld]
    with_bed = [region for _, region in parts if BED in region.values]
    if with_bed and without:
        text = f"No BED is given: it is missing in {_labels(without)}."
        return [Flag("BED_MISSING", Severity.WITHHELD, text, "See why in that cycle's report.")]
    if len({region.alpha_beta_gy for region in with_bed}) > 1:
        text = f"No BED is given: the cycles used α/β of {_numbers(with_bed)} Gy."
        return [Flag("ALPHA_BETA_DIFFERS", Severity.WITHHELD, text, "Work the cycles up with one protocol.")]
    return []


def _uncertainty(parts: Parts, cycles: Sequence[CountedCycle]) -> list[Flag]:
    flags = []
    silent = [cycles[position] for position, region in parts if DOSE in region.values and region.values[DOSE].sd_gy is None]
    if silent:
        text = f"The sum has no uncertainty: none is stated in {_labels(silent)}."
        flags.append(Flag("UNCERTAINTY_UNKNOWN", Severity.INFO, text, "See the fit of that cycle."))
    if len(parts) > 1 and any(region.correlation_assumed for _, region in parts):
        text = "It is not stated which part of the uncertainty is common to the cycles; all of it was taken as common, which is cautious."
        flags.append(Flag("CORRELATION_ASSUMED", Severity.INFO, text, "None needed; the uncertainty is not smaller than that."))
    return flags


def _labels(cycles: Sequence[CountedCycle]) -> str:
    return ", ".join(cycle.label for cycle in cycles)


def _numbers(regions: Sequence[CycleRegion]) -> str:
    return ", ".join(f"{value:g}" for value in sorted({region.alpha_beta_gy for region in regions if region.alpha_beta_gy is not None}))
