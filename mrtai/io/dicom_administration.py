"""What was given, when and how much: as each scan's header states it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pydicom.dataset import Dataset

from mrtai.io.clock import date_and_time, date_time, seconds_between, time_of_day, zone_of
from mrtai.io.dicom_numbers import number_of
from mrtai.io.dicom_tree import Series
from mrtai.io.nuclide_names import nuclide_name
from mrtai.io.study_toml import StatedStudy
from mrtai.units import BQ_PER_MBQ, SECONDS_PER_DAY
from mrtai.values.refusal import DosimetryError, Held

SMALLEST_BQ: Final = 1e5
"""No administered activity is smaller in Bq, and none is larger in MBq: the number itself tells which unit was meant."""

LONGEST_GUESS_HALF_LIVES: Final = 10
"""After so many half-lives nobody scans, so a guessed date that gives more is wrong."""


@dataclass(frozen=True, slots=True)
class StatedAdministration:
    """One header's account of the administration; None where it is silent.

    ``date_assumed`` says that the header gave a time of day only.
    """

    nuclide: str | None
    agent: str | None
    administered_bq: float | None
    at: datetime | None
    half_life_s: float | None
    date_assumed: bool = False


def started_at(series: Series) -> tuple[datetime | None, bool]:
    """Return the start of acquisition, the earliest of the slices, and whether only the series' own time was there."""
    pairs = (("AcquisitionDate", "AcquisitionTime"), ("SeriesDate", "SeriesTime"))
    for n, (day, hour) in enumerate(pairs):
        found = [date_and_time(i.header, day, hour, zone_of(i.header)) for i in series.instances]
        known = [one for one in found if one is not None]
        if n == 0 and not known:
            stamps = (date_time(i.header, "AcquisitionDateTime", zone_of(i.header)) for i in series.instances)
            known = [one for one in stamps if one is not None]
        if known:
            return _earliest(known, series.where), n == 1
    return None, True


def header_nuclide(series: Series) -> str | None:
    """Return the nuclide that the header of a SPECT series names, None where it is silent."""
    items = series.first.get("RadiopharmaceuticalInformationSequence", None) or ()
    return next((name for item in items if (name := _nuclide(item))), None)


def stated_administration(series: Series, nuclide: str, half_life_s: float, study: StatedStudy) -> StatedAdministration:
    """Return what the header of a SPECT series says of the administration of ``nuclide``; doubts that ``study`` settles are silent.

    Raises:
        Held: an activity that is given in MBq where Bq belongs.
        DosimetryError: a half-life that is not that of the stated nuclide, or an unreadable number or date.
    """
    items = list(series.first.get("RadiopharmaceuticalInformationSequence", None) or ())
    item = next((one for one in items if _nuclide(one) == nuclide), items[0] if items else Dataset())
    stated_s = max(number_of(item, "RadionuclideHalfLife", series.where) or 0.0, 0.0) or None
    name = _nuclide(item)
    if name is None and stated_s is not None and abs(stated_s / half_life_s - 1) < HALF_LIFE_TOLERANCE:
        name = nuclide
    if name == nuclide and stated_s is not None and abs(stated_s / half_life_s - 1) > HALF_LIFE_TOLERANCE:
        raise DosimetryError(
            f"the half-life (0018,1075) is not that of {nuclide}",
            where=series.where,
            found=f"{stated_s:.0f} s for {half_life_s:.0f} s",
            remedy="correct the header",
            code="HALF_LIFE_CONTRADICTION",
        )
    at, assumed = _administered_at(item, series, half_life_s, study.administered_at is not None)
    return StatedAdministration(name, _agent(item), _activity(item, series, study.administered_bq is not None), at, stated_s, assumed)


HALF_LIFE_TOLERANCE: Final = 0.02
"""Consoles carry half-lives rounded to three digits; the nearest two nuclides differ by more."""


def _earliest(instants: list[datetime], where: str) -> datetime:
    if len({one.tzinfo is None for one in instants}) > 1:
        raise DosimetryError(
            "some slices have a time zone and some have none", where=where, found="both", remedy="correct the headers", code="BAD_TIME"
        )
    return min(instants)


def _nuclide(item: Dataset) -> str | None:
    texts = [str(code.get("CodeMeaning", "") or "") for code in item.get("RadionuclideCodeSequence", None) or ()]
    texts += [str(code.get("CodeMeaning", "") or "") for code in item.get("RadiopharmaceuticalCodeSequence", None) or ()]
    texts.append(str(item.get("Radiopharmaceutical", "") or ""))
    return next((name for text in texts if (name := nuclide_name(text))), None)


def _agent(item: Dataset) -> str | None:
    codes = item.get("RadiopharmaceuticalCodeSequence", None) or ()
    text = str(item.get("Radiopharmaceutical", "") or "").strip()
    return text or next((str(code.get("CodeMeaning", "") or "").strip() for code in codes), "") or None


def _activity(item: Dataset, series: Series, settled: bool) -> float | None:
    """Return the administered activity [Bq]; the standard says Bq in PET and MBq in NM objects (PS3.3 C.8.9.2, C.8.4.10.1.7)."""
    try:
        value = number_of(item, "RadionuclideTotalDose", series.where, remedy="state administered_mbq in study.toml") or 0.0
    except DosimetryError:
        if settled:
            return None
        raise
    if value <= 0:
        return None
    if value >= SMALLEST_BQ:
        return value
    if series.modality == "NM":
        return value * BQ_PER_MBQ
    if settled:
        return None
    raise Held(
        "RadionuclideTotalDose (0018,1074) is too small to be in Bq",
        where=series.where,
        found=f"{value:g}, which looks like MBq",
        remedy="state administered_mbq in study.toml",
        code="ADMINISTERED_ACTIVITY_UNIT",
    )


def _administered_at(item: Dataset, series: Series, half_life_s: float, settled: bool) -> tuple[datetime | None, bool]:
    zone = zone_of(series.first)
    stamp = date_time(item, "RadiopharmaceuticalStartDateTime", zone)
    if stamp is not None:
        return stamp, False
    hour = time_of_day(item, "RadiopharmaceuticalStartTime")
    start, _ = started_at(series)
    if hour is None or start is None or settled:
        return None, False
    same_day = start.replace(hour=0, minute=0, second=0, microsecond=0) + hour
    if seconds_between(same_day, start) > 0:
        return same_day, True
    day_before = same_day - timedelta(seconds=SECONDS_PER_DAY)
    if seconds_between(day_before, start) > LONGEST_GUESS_HALF_LIVES * half_life_s:
        raise DosimetryError(
            "the scan starts before the administration",
            where=series.where,
            found=f"scan at {start:%H:%M}, RadiopharmaceuticalStartTime (0018,1072) {same_day:%H:%M} without a date",
            remedy="state administered_at in study.toml",
            code="SCAN_BEFORE_ADMINISTRATION",
        )
    return day_before, True
