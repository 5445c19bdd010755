"""What a received study is: whose, of which administration, and which rule of the site it falls under."""

import hashlib
import hmac
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import pydicom

from mrtai.io.dicom_administration import header_nuclide, started_at, stated_administration
from mrtai.io.dicom_patient import folded_name, identity_of, of_one_patient
from mrtai.io.dicom_spect import is_spect
from mrtai.io.dicom_tree import Series, read_tree
from mrtai.io.protocols import load_protocol
from mrtai.io.pseudonym import pseudonym
from mrtai.io.study_toml import StatedStudy
from mrtai.io.tables import nuclide
from mrtai.units import SECONDS_PER_HOUR
from mrtai.values.arrival import ActivitySeries, Arrival
from mrtai.values.refusal import DosimetryError
from mrtai.values.site import Rule

OURS: Final = "mrtai"
FALLBACK: Final = "Lu-177"


def read_arrival(folder: Path, rules: Sequence[Rule], stated: StatedStudy, key: bytes) -> Arrival:
    """Return what the headers of a study's folder say; ``stated`` is what a person added, ``key`` the pseudonym's secret.

    Raises:
        DosimetryError: no DICOM, several patients, or an administration that contradicts itself.
    """
    series = tuple(one for one in read_tree(folder) if str(one.first.get("Manufacturer", "")) != OURS)
    if not series:
        raise DosimetryError("not DICOM", where="study", found="no DICOM file", remedy="send it again", code="NOT_DICOM")
    own = of_one_patient(series, None)
    content = sorted(instance.sha256 for one in own for instance in one.instances)
    return Arrival(
        pseudonym=pseudonym(*identity_of(own), key),
        person=_person(own, key),
        modalities=tuple(sorted({one.modality for one in own})),
        activity=tuple(_activity(one, rules, stated) for one in own if is_spect(one)),
        instances=len(content),
        content_sha256=hashlib.sha256("\n".join(content).encode()).hexdigest(),
    )


def study_files(folder: Path) -> list[Path]:
    """Return the received files of a study but for objects of ours, which an archive may send back."""
    files = sorted(path for path in folder.glob("*.dcm") if not path.name.startswith("."))
    headers = ((path, pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Manufacturer"])) for path in files)
    return [path for path, header in headers if str(header.get("Manufacturer", "")) != OURS]


def matching_rule(arrival: Arrival, rules: Sequence[Rule]) -> Rule | None:
    """Return the first rule that a SPECT or PET series of the study fits; None where it is none of ours."""
    return next((rule for rule in rules if any(_fits(series, rule) for series in arrival.activity)), None)


def _fits(series: ActivitySeries, rule: Rule) -> bool:
    return (
        series.modality in rule.modalities
        and (rule.nuclide is None or series.nuclide == rule.nuclide)
        and _any(series.descriptions, rule.descriptions)
        and _any((series.agent or "",), rule.agents)
    )


def _any(texts: Sequence[str], patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(text.casefold(), pattern.casefold()) for text in texts for pattern in patterns)


def _activity(series: Series, rules: Sequence[Rule], stated: StatedStudy) -> ActivitySeries:
    """Return the series by its header."""
    start, _ = started_at(series)
    known = stated.nuclide or header_nuclide(series)
    # a header without a name is read as the rules' first nuclide: its half-life tells whether it is that one
    read_as = known or next((load_protocol(rule.protocol).nuclide for rule in rules), FALLBACK)
    told = stated_administration(series, read_as, nuclide(read_as).half_life_h * SECONDS_PER_HOUR, stated)
    texts = (str(series.first.get(tag, "") or "") for tag in ("SeriesDescription", "StudyDescription", "ProtocolName"))
    return ActivitySeries(
        modality=series.modality,
        nuclide=known or told.nuclide,
        agent=stated.agent or told.agent,
        started_at=start,
        administered_at=stated.administered_at or (None if told.date_assumed else told.at),
        descriptions=tuple(text for text in texts if text),
    )


def _person(series: Sequence[Series], key: bytes) -> str | None:
    """Return a keyed digest of name and birth date; None without both, which alone tell people apart."""
    header = series[0].first
    name, born = folded_name(str(header.get("PatientName", "") or "")), str(header.get("PatientBirthDate", "") or "").strip()
    if not name or not born:
        return None
    # one modality may leave the sex out, or write the name without its groups
    message = "\x1f".join(("person", " ".join(name.replace("^", " ").split()), born))
    return hmac.new(key, message.encode(), hashlib.sha256).hexdigest()[:32]
