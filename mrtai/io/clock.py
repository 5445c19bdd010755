"""Instants and the hours between them, with and without time zones."""

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise

from pydicom.dataset import Dataset

from mrtai.units import SECONDS_PER_HOUR, SECONDS_PER_MINUTE
from mrtai.values.refusal import DosimetryError

FARTHEST_ZONE_H = 14
"""No place on earth is further from UTC (PS3.5 6.2 allows -12 to +14)."""

YEARS = range(1900, 3000)
"""Placeholders such as 0001 and 9999 are no dates, and arithmetic with them overflows."""

_DATE = re.compile(r"^(\d{4})[.-]?(\d{2})[.-]?(\d{2})$")
_TIME = re.compile(r"^(\d{2}):?(\d{2})?:?(\d{2})?(?:\.(\d{1,6}))?$")
_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})$")


def seconds_between(earlier: datetime, later: datetime) -> float:
    """Return the seconds from ``earlier`` to ``later``; where only one has a zone, both are read as wall time of one place."""
    if (earlier.tzinfo is None) != (later.tzinfo is None):
        earlier, later = earlier.replace(tzinfo=None), later.replace(tzinfo=None)
    return (later - earlier).total_seconds()


def hours_between(earlier: datetime, later: datetime) -> float:
    """Return the hours from ``earlier`` to ``later``, by the rule of ``seconds_between``."""
    return seconds_between(earlier, later) / SECONDS_PER_HOUR


def require_distinct(starts: Sequence[datetime], where: str) -> None:
    """Raise ``DosimetryError`` where two scans, in order of time, start at one instant: a curve has one value at a time."""
    for earlier, later in pairwise(starts):
        if seconds_between(earlier, later) <= 0:
            raise DosimetryError(
                "two scans start at one time",
                where=where,
                found=f"{later.isoformat()} twice",
                remedy="correct started_at, or keep the scan that counts",
                code="DUPLICATE_SCAN",
            )


def zone_of(header: Dataset) -> timezone | None:
    """Return the zone of ``TimezoneOffsetFromUTC`` (0008,0201), None where the header has none."""
    text = str(header.get("TimezoneOffsetFromUTC", "") or "").strip()
    if not text:
        return None
    found = _OFFSET.fullmatch(text)
    if found is None:
        raise _unreadable("TimezoneOffsetFromUTC (0008,0201)")
    return _zone(found, "TimezoneOffsetFromUTC (0008,0201)")


def date_and_time(header: Dataset, date_tag: str, time_tag: str, zone: timezone | None) -> datetime | None:
    """Return the instant of a pair of DA and TM elements, None where either is empty."""
    day, hour = _text(header, date_tag), _text(header, time_tag)
    if not day or not hour:
        return None
    return datetime.combine(_day(day, date_tag), datetime.min.time()).replace(tzinfo=zone) + _time_of_day(hour, time_tag)


def time_of_day(header: Dataset, time_tag: str) -> timedelta | None:
    """Return a TM element as time since midnight, None where it is empty."""
    text = _text(header, time_tag)
    return _time_of_day(text, time_tag) if text else None


def date_time(header: Dataset, tag: str, zone: timezone | None) -> datetime | None:
    """Return the instant of a DT element; its own offset wins over ``zone``; None where it is empty or has no time of day."""
    text = _text(header, tag)
    found = _OFFSET.search(text)
    bare = text[: found.start()] if found else text
    if len(bare) < len("YYYYMMDDHH"):
        return None
    day, hour = bare[:8], bare[8:]
    zone = _zone(found, tag) if found else zone
    return datetime.combine(_day(day, tag), datetime.min.time()).replace(tzinfo=zone) + _time_of_day(hour, tag)


def _text(header: Dataset, tag: str) -> str:
    return str(header.get(tag, "") or "").strip()


def _day(text: str, tag: str) -> date:
    found = _DATE.fullmatch(text)
    try:
        if found and int(found[1]) in YEARS:
            return date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        pass
    raise _unreadable(tag)


def _time_of_day(text: str, tag: str) -> timedelta:
    found = _TIME.fullmatch(text)
    if found is None or int(found[1]) > 24 or int(found[2] or 0) > 59 or int(found[3] or 0) > 60:
        raise _unreadable(tag)
    seconds = int(found[1]) * SECONDS_PER_HOUR + int(found[2] or 0) * SECONDS_PER_MINUTE + int(found[3] or 0)
    return timedelta(seconds=seconds, microseconds=int((found[4] or "0").ljust(6, "0")))


def _zone(found: re.Match[str], tag: str) -> timezone:
    hours, minutes = int(found[2]), int(found[3])
    if hours > FARTHEST_ZONE_H or minutes > 59:
        raise _unreadable(tag)
    minutes += hours * 60
    return timezone(timedelta(minutes=-minutes if found[1] == "-" else minutes))


def _unreadable(tag: str) -> DosimetryError:
    return DosimetryError(
        "a date or time cannot be read", where=tag, found="not a DICOM date or time", remedy="correct it", code="BAD_TIME"
    )
