"""What flags come to: the weight that a site gives them, a verdict for each region and for the case, and numbers that are not given."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from mrtai.values.flag import Flag, Severity
from mrtai.values.report import RegionDose, Report

_VERDICT: Final = {Severity.INFO: "ok", Severity.REVIEW: "review", Severity.WITHHELD: "withheld"}
_WEIGHT: Final = {Severity.INFO: 0, Severity.REVIEW: 1, Severity.WITHHELD: 2}


def verdict(flags: Iterable[Flag]) -> str:
    """Return ``ok``, ``review`` or ``withheld``: the weight of the gravest flag."""
    gravest = max((flag.severity for flag in flags), key=_WEIGHT.__getitem__, default=Severity.INFO)
    return _VERDICT[gravest]


def weighed(flags: Iterable[Flag], gates: Mapping[str, Severity]) -> tuple[Flag, ...]:
    """Return the flags with the severities that the protocol gives their codes."""
    return tuple(replace(flag, severity=gates.get(flag.code, flag.severity)) for flag in flags)


def gated(report: Report) -> Report:
    """Return the draft with every flag weighed as the protocol says, and without the numbers of regions that are then withheld.

    What is withheld for other reasons has no numbers already. A union of a region that is withheld here is withheld, too.
    """
    gates = report.protocol.gates
    if not gates:
        return report
    rows = tuple(_withheld(replace(row, flags=weighed(row.flags, gates))) for row in report.regions)
    gone = {row.name for row, before in zip(rows, report.regions, strict=True) if row.dose is None and before.dose is not None}
    aligned = report.aligned
    cycle = replace(
        aligned.cycle,
        flags=weighed(aligned.cycle.flags, gates),
        time_points=tuple(replace(point, flags=weighed(point.flags, gates)) for point in aligned.cycle.time_points),
    )
    alignments = tuple(replace(one, flags=weighed(one.flags, gates)) for one in aligned.alignments)
    return replace(
        report,
        regions=tuple(_with_members(row, gone) for row in rows),
        flags=weighed(report.flags, gates),
        aligned=replace(aligned, cycle=cycle, alignments=alignments, flags=weighed(aligned.flags, gates)),
    )


def _withheld(row: RegionDose) -> RegionDose:
    if verdict(row.flags) != "withheld":
        return row
    return replace(
        row,
        fit=None,
        dose=None,
        biological=None,
        budget=(),
        uncertainty=None,
        spread=None,
        tia_relative_sd=None,
        without_recovery_gy=None,
        with_recovery_gy=None,
    )


def _with_members(row: RegionDose, gone: set[str]) -> RegionDose:
    missing = [name for name in row.members if name in gone]
    if not missing:
        return row
    text = f"Its member {', '.join(missing)} is withheld by the protocol."
    return _withheld(replace(row, flags=(*row.flags, Flag("MEMBER_WITHHELD", Severity.WITHHELD, text, "Settle the member first."))))
