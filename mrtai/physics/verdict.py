"""What flags come to: the weight that a site gives them, a verdict for each region and for the case, and numbers that are not given."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from mrtai.values.flag import Flag, Severity
from mrtai.values.marrow import MarrowDose
from mrtai.values.report import RegionDose, Report

_VERDICT: Final = {Severity.INFO: "ok", Severity.REVIEW: "review", Severity.WITHHELD: "withheld"}
_WEIGHT: Final = {Severity.INFO: 0, Severity.REVIEW: 1, Severity.WITHHELD: 2}


def verdict(flags: Iterable[Flag]) -> str:
    """Return ``ok``, ``review`` or ``withheld``: the weight of the gravest flag."""
    gravest = max((flag.severity for flag in flags), key=_WEIGHT.__getitem__, default=Severity.INFO)
    return _VERDICT[gravest]


def weighed(flags: Iterable[Flag], gates: Mapping[str, Severity]) -> tuple[Flag, ...]:
    """Return the flags with the severities that the protocol gives their codes; what has no number stays withheld."""
    return tuple(
        flag if flag.severity is Severity.WITHHELD else replace(flag, severity=gates.get(flag.code, flag.severity)) for flag in flags
    )


def gated(report: Report) -> Report:
    """Return the draft with every flag weighed as the protocol says, and without the numbers of regions that are then withheld.

    What is withheld for other reasons has no numbers already. A union of a region that is withheld here is withheld, too; so is every
    region where a flag of the case or of one of its scans is.
    """
    gates = report.protocol.gates
    if not gates:
        return report
    aligned = report.aligned
    of_scans = (*(point.flags for point in aligned.cycle.time_points), *(one.flags for one in aligned.alignments))
    above = (report.flags, aligned.flags, aligned.cycle.flags, *of_scans)
    whole = _case_withheld([flag for flags in above for flag in weighed(flags, gates)])
    rows = tuple(_withheld(replace(row, flags=(*weighed(row.flags, gates), *whole))) for row in report.regions)
    gone = {row.name for row, before in zip(rows, report.regions, strict=True) if row.dose is None and before.dose is not None}
    cycle = replace(
        aligned.cycle,
        flags=weighed(aligned.cycle.flags, gates),
        time_points=tuple(replace(point, flags=weighed(point.flags, gates)) for point in aligned.cycle.time_points),
    )
    alignments = tuple(replace(one, flags=weighed(one.flags, gates)) for one in aligned.alignments)
    rows = tuple(_with_members(row, gone) for row in rows)
    without = {row.name for row in rows if row.dose is None}
    return replace(
        report,
        regions=rows,
        check=tuple(check for check in report.check if check.region not in without),
        marrow=tuple(_marrow(replace(dose, flags=(*weighed(dose.flags, gates), *whole)), gone) for dose in report.marrow),
        flags=weighed(report.flags, gates),
        aligned=replace(aligned, cycle=cycle, alignments=alignments, flags=weighed(aligned.flags, gates)),
    )


def _case_withheld(flags: Iterable[Flag]) -> tuple[Flag, ...]:
    """Return the flag that withholds every number of a case, where one of the flags of case or scans is withheld."""
    codes = sorted({flag.code for flag in flags if flag.severity is Severity.WITHHELD})
    if not codes:
        return ()
    text = f"The case is withheld by the protocol: {', '.join(codes)}."
    return (Flag("CASE_WITHHELD", Severity.WITHHELD, text, "Settle what the case's or the scan's flag tells first."),)


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


def _marrow(dose: MarrowDose, gone: set[str]) -> MarrowDose:
    """Return the marrow's dose, without numbers where its flags or the region that stands for it withhold them."""
    flags = dose.flags
    if dose.region is not None and any(name == dose.region or name.startswith(f"{dose.region}_") for name in gone):
        text = f"The dose of {dose.region} is withheld by the protocol."
        flags = (*flags, Flag("MARROW_NOT_MEASURED", Severity.WITHHELD, text, "See the flags of that region."))
    if verdict(flags) != "withheld":
        return dose
    return replace(dose, tia_bq_s=None, absorbed_dose_gy=None, absorbed_dose_sd_gy=None, flags=flags)


def _with_members(row: RegionDose, gone: set[str]) -> RegionDose:
    missing = [name for name in row.members if name in gone]
    if not missing:
        return row
    text = f"Its member {', '.join(missing)} is withheld by the protocol."
    return _withheld(replace(row, flags=(*row.flags, Flag("MEMBER_WITHHELD", Severity.WITHHELD, text, "Settle the member first."))))
