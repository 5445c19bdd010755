"""Which scans belong to which administration, and what was administered."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from mrtai.io.asked_cycle import cycle_number, no_such_cycle
from mrtai.io.clock import seconds_between
from mrtai.io.dicom_administration import StatedAdministration, started_at, stated_administration
from mrtai.io.dicom_decay import series_seconds
from mrtai.io.dicom_spect import is_in_bq_per_ml
from mrtai.io.dicom_tree import Series
from mrtai.io.study_toml import StatedScan, StatedStudy
from mrtai.units import BQ_PER_MBQ, SECONDS_PER_DAY, SECONDS_PER_HOUR, SECONDS_PER_MINUTE
from mrtai.values.flag import Flag, Severity
from mrtai.values.nuclide import Nuclide
from mrtai.values.protocol import Protocol
from mrtai.values.refusal import DosimetryError, Held
from mrtai.values.study import Administration, Override

SAME_START_S: Final = SECONDS_PER_MINUTE
ACTIVITY_TOLERANCE: Final = 0.01
TIME_TOLERANCE_S: Final = 5 * SECONDS_PER_MINUTE
BETWEEN_CYCLES_S: Final = 3 * SECONDS_PER_DAY
"""Administrations further apart are two cycles; closer ones are two accounts of one."""


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """One SPECT series with its start, what its header says of the administration, and what a person states about it.

    ``acquired_at`` is the start by the header alone where it states one: it tells which series are of one acquisition.
    """

    series: Series
    started_at: datetime
    acquired_at: datetime
    from_series_time: bool
    stated: StatedAdministration
    person: StatedScan | None


@dataclass(frozen=True, slots=True)
class Settled:
    """The administration of a cycle and how it was settled."""

    administration: Administration
    overrides: tuple[Override, ...]
    flags: tuple[Flag, ...]


def scans_of(spects: Sequence[Series], study: StatedStudy, nuclide: Nuclide) -> list[Scan]:
    """Return the scans in order of time, each with its ``[[scan]]`` of ``study.toml``.

    Raises:
        DosimetryError: a scan without time, or a ``[[scan]]`` that fits no series.
    """
    scans = []
    for series in spects:
        header_start, from_series_time = started_at(series)
        person = _person(series, header_start, study.scans)
        named = person is not None and person.spect == series.uid
        start = person.started_at if named and person is not None and person.started_at is not None else header_start
        if start is None:
            raise DosimetryError(
                "no start of acquisition (0008,0022) and (0008,0032)",
                where=series.where,
                found="empty values",
                remedy="name the series by UID and state started_at in study.toml",
                code="SCAN_TIME_MISSING",
            )
        stated = stated_administration(series, nuclide.name, nuclide.half_life_h * SECONDS_PER_HOUR, study)
        scans.append(Scan(series, start, header_start or start, from_series_time, stated, person))
    _require_all_used(scans, study)
    return sorted(scans, key=lambda scan: (_wall(scan.started_at), scan.series.uid))


def of_one_cycle(scans: Sequence[Scan], cycle: str | None, *, stated_at: datetime | None = None) -> tuple[list[Scan], int]:
    """Return the scans of the cycle asked for (a number from 1 or the date of administration) and its number.

    A scan belongs to the administration its header states, else to the latest one before it. ``stated_at`` is the
    administration by a person's word, whose date names a single cycle too.
    """
    cycles = _cycles(scans)
    if cycle is None and len(cycles) > 1:
        days = ", ".join(f"{day:%Y-%m-%d}" for day in cycles if day)
        raise DosimetryError(
            "several cycles",
            where="study",
            found=f"administrations of {days}",
            remedy="choose one with --cycle N or its date",
            code="TWO_CYCLES",
        )
    if cycle is None:
        return next(iter(cycles.values())), 1
    for number, (day, members) in enumerate(cycles.items(), start=1):
        if cycle in (str(number), f"{day:%Y-%m-%d}" if day else ""):
            return members, number
    if len(cycles) == 1:
        members = next(iter(cycles.values()))
        dates = {f"{at:%Y-%m-%d}" for at in (stated_at, *(scan.stated.at for scan in members)) if at}
        return members, cycle_number(cycle, dates)
    raise no_such_cycle(f"{len(cycles)} cycles")


def all_of_one_cycle(scans: Sequence[Scan], number: str | None, *, stated_at: datetime | None = None) -> tuple[list[Scan], int]:
    """Return all scans and the number of their cycle; refuses scans of several administrations unless a person states the one."""
    days = [day for day in _cycles(scans) if day]
    if stated_at is None and len(days) > 1:
        raise DosimetryError(
            "the scans of this cycle state several administrations",
            where="study",
            found=", ".join(f"{day:%Y-%m-%d %H:%M}" for day in days),
            remedy="state administered_at in study.toml, or take the scan of the other cycle out",
            code="TWO_CYCLES",
        )
    return list(scans), int(number or 1)


def one_per_visit(scans: Sequence[Scan]) -> list[Scan]:
    """Return one series for each acquisition: that named in ``study.toml``, else the one in Bq/mL, else the attenuation-corrected one."""
    visits: list[list[Scan]] = []
    for scan in sorted(scans, key=lambda one: _wall(one.acquired_at)):
        last = visits[-1][0] if visits else None
        if last is not None and seconds_between(last.acquired_at, scan.acquired_at) < max(SAME_START_S, series_seconds(last.series) or 0.0):
            visits[-1].append(scan)
        else:
            visits.append([scan])
    return sorted((_preferred(visit) for visit in visits), key=lambda one: _wall(one.started_at))


def settled_administration(scans: Sequence[Scan], study: StatedStudy, protocol: Protocol) -> Settled:
    """Return what was administered: the headers' account where they agree, overruled by ``study.toml`` where it speaks.

    Raises:
        Held: headers that disagree by more than 1 % or 5 min and no ``study.toml`` that decides.
        DosimetryError: activity, time or nuclide stated nowhere, or a nuclide that is not the protocol's.
    """
    nuclides = _nuclide(scans, study, protocol)
    header_bq, header_at = _agreed_activity(scans, study), _agreed_time(scans, study)
    bq, at = study.administered_bq or header_bq, study.administered_at or header_at
    if bq is None:
        raise _missing(
            "no administered activity", "RadionuclideTotalDose (0018,1074)", "administered_mbq", "ADMINISTERED_ACTIVITY_MISSING", scans
        )
    if at is None:
        raise _missing(
            "no time of administration",
            "RadiopharmaceuticalStartDateTime (0018,1078)",
            "administered_at",
            "ADMINISTRATION_TIME_MISSING",
            scans,
        )
    agent = next((scan.stated.agent for scan in scans if scan.stated.agent), None)
    overrides = [
        _override("administered_mbq", _mbq(header_bq), _mbq(study.administered_bq)),
        _override(
            "administered_at",
            header_at.isoformat() if header_at else None,
            study.administered_at.isoformat() if study.administered_at else None,
        ),
        _override("nuclide", nuclides[0], study.nuclide),
        _override("agent", agent, study.agent),
    ]
    flags = _override_flags(header_bq, header_at, study)
    if study.administered_at is None and any(scan.stated.date_assumed for scan in scans):
        flags += (_date_assumed(at),)
    administration = Administration(nuclides[1], study.agent or agent or protocol.agent, bq, at)
    return Settled(administration, tuple(one for one in overrides if one), flags)


def _person(series: Series, start: datetime | None, stated: Sequence[StatedScan]) -> StatedScan | None:
    by_uid = [one for one in stated if one.spect == series.uid]
    near = [
        one
        for one in stated
        if one.spect is None and one.started_at and start and abs(seconds_between(one.started_at, start)) <= SAME_START_S
    ]
    return next(iter(by_uid + near), None)


def _require_all_used(scans: Sequence[Scan], study: StatedStudy) -> None:
    used = {id(scan.person) for scan in scans}
    for number, one in enumerate(study.scans, start=1):
        if id(one) not in used:
            raise DosimetryError(
                "no scan of the study fits this entry",
                where=f"study.toml [[scan]] {number}",
                found=f"{len(scans)} scans that start at {', '.join(scan.started_at.isoformat() for scan in scans)}",
                remedy="name the series UID in 'spect', or a start within a minute",
                code="SCAN_NOT_FOUND",
            )


def _cycles(scans: Sequence[Scan]) -> dict[datetime | None, list[Scan]]:
    dated = sorted((scan.stated.at for scan in scans if scan.stated.at and not scan.stated.date_assumed), key=_wall)
    firsts = dated[:1] + [later for earlier, later in pairwise(dated) if seconds_between(earlier, later) > BETWEEN_CYCLES_S]
    cycles: dict[datetime | None, list[Scan]] = {first: [] for first in firsts} or {None: []}
    for scan in scans:
        known = scan.stated.at if scan.stated.at and not scan.stated.date_assumed else scan.started_at
        before = [first for first in firsts if seconds_between(first, known) >= 0]
        cycles[before[-1] if before else next(iter(cycles))].append(scan)
    return cycles


def _wall(instant: datetime) -> datetime:
    """Return the wall time: a naive and an aware time compare only so."""
    return instant.replace(tzinfo=None)


def _preferred(visit: Sequence[Scan]) -> Scan:
    named = [scan for scan in visit if scan.person is not None and scan.person.spect == scan.series.uid]
    quantitative = [scan for scan in visit if is_in_bq_per_ml(scan.series)]
    corrected = [scan for scan in quantitative or visit if "ATTN" in (scan.series.first.get("CorrectedImage", None) or ())]
    for choice in (visit, named, quantitative, corrected):
        if len(choice) == 1:
            return choice[0]
    raise DosimetryError(
        "several reconstructions of one acquisition",
        where=f"scan of {visit[0].started_at.isoformat()}",
        found=", ".join(scan.series.where for scan in visit),
        remedy="name the one that counts by series UID in study.toml",
        code="AMBIGUOUS_SPECT",
    )


def _nuclide(scans: Sequence[Scan], study: StatedStudy, protocol: Protocol) -> tuple[str | None, str]:
    stated = {scan.stated.nuclide for scan in scans if scan.stated.nuclide}
    header = next(iter(sorted(stated)), None)
    used = study.nuclide or header
    if used is None:
        raise _missing("no nuclide", "RadionuclideCodeSequence (0054,0300)", "nuclide", "NUCLIDE_MISSING", scans)
    foreign = {used} if study.nuclide else stated
    if foreign != {protocol.nuclide}:
        raise DosimetryError(
            f"the protocol {protocol.name} is for {protocol.nuclide}",
            where="study.toml" if study.nuclide else "RadionuclideCodeSequence (0054,0300)",
            found=", ".join(sorted(foreign)),
            remedy="choose the protocol of this nuclide",
            code="NUCLIDE_MISMATCH",
        )
    return header, used


def _agreed_activity(scans: Sequence[Scan], study: StatedStudy) -> float | None:
    values = [scan.stated.administered_bq for scan in scans if scan.stated.administered_bq]
    if values and max(values) > min(values) * (1 + ACTIVITY_TOLERANCE) and study.administered_bq is None:
        raise _conflict("administered activity", f"{_mbq(min(values))} to {_mbq(max(values))} MBq", "administered_mbq")
    return values[0] if values else None


def _agreed_time(scans: Sequence[Scan], study: StatedStudy) -> datetime | None:
    times = sorted((scan.stated.at for scan in scans if scan.stated.at), key=_wall)
    if times and seconds_between(times[0], times[-1]) > TIME_TOLERANCE_S and study.administered_at is None:
        raise _conflict("time of administration", f"{times[0].isoformat()} to {times[-1].isoformat()}", "administered_at")
    return next((scan.stated.at for scan in scans if scan.stated.at), None)


def _conflict(what: str, found: str, key: str) -> Held:
    return Held(
        f"the headers disagree on the {what}",
        where="scans of one cycle",
        found=found,
        remedy=f"state {key} in study.toml",
        code="ADMINISTRATION_CONFLICT",
    )


def _missing(what: str, tag: str, key: str, code: str, scans: Sequence[Scan]) -> DosimetryError:
    return DosimetryError(what, where=scans[0].series.where, found=f"{tag} empty", remedy=f"state {key} in study.toml", code=code)


def _mbq(activity_bq: float | None) -> str | None:
    return None if activity_bq is None else f"{activity_bq / BQ_PER_MBQ:.1f}"


def _override(field: str, header: str | None, stated: str | None) -> Override | None:
    return Override(field, header or "not stated", stated) if stated is not None and stated != header else None


def _override_flags(header_bq: float | None, header_at: datetime | None, study: StatedStudy) -> tuple[Flag, ...]:
    told = []
    if study.administered_bq and header_bq and abs(study.administered_bq / header_bq - 1) > ACTIVITY_TOLERANCE:
        told.append(f"activity {_mbq(study.administered_bq)} MBq for {_mbq(header_bq)} MBq")
    if study.administered_at and header_at and abs(seconds_between(header_at, study.administered_at)) > TIME_TOLERANCE_S:
        told.append(f"time {study.administered_at.isoformat()} for {header_at.isoformat()}")
    if not told:
        return ()
    text = f"study.toml overrules the headers: {' and '.join(told)}."
    return (Flag("ADMINISTRATION_OVERRIDDEN", Severity.REVIEW, text, "Confirm with the administration record."),)


def _date_assumed(at: datetime) -> Flag:
    text = f"The header gives the time of administration without its date; {at:%Y-%m-%d} was taken."
    return Flag("ADMINISTRATION_DATE_ASSUMED", Severity.REVIEW, text, "State administered_at in study.toml.")
