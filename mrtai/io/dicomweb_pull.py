"""What is new in an archive, by QIDO-RS and WADO-RS; nothing is remembered but what the store has."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import requests
from dicomweb_client.web import DICOMwebClient

from mrtai.io.multipart import only_part
from mrtai.io.pacs_link import LinkLost
from mrtai.io.received import Received, key
from mrtai.values.refusal import DosimetryError
from mrtai.values.site import Poll

STUDY_UID, SERIES_UID, INSTANCE_UID = "0020000D", "0020000E", "00080018"
MODALITIES, COUNT = "00080061", "00201208"
ORIGINAL: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'
TIMEOUT_S: Final = 60.0
PAGE: Final = 1000
# after so many studies in a row without an answer the archive counts as gone
MOST_LOST: Final = 3

# their messages hold addresses with UIDs, and what is received
for _quiet in ("dicomweb_client", "retrying", "urllib3"):
    logging.getLogger(_quiet).setLevel(logging.CRITICAL)
logger = logging.getLogger(__name__)

Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pulled:
    """One look at an archive: studies that it offered, what became of instances, and how many studies are left for the next look."""

    studies: int
    instances: Counter[str]
    unfinished: int


def pull(poll: Poll, store: Received) -> Pulled:
    """Bring into the store what the archive has of the last days and the store has not.

    Raises:
        LinkLost: the archive did not answer the query; the next look starts anew.
    """
    with requests.Session() as session:
        _authorised(session, poll)
        client = DICOMwebClient(poll.url, session=session, timeout=TIMEOUT_S)
        # trying again is the next look's
        client.set_http_retry_params(retry=False)
        return _pulled(_Archive(poll, session, client), store)


@dataclass(frozen=True, slots=True)
class _Archive:
    poll: Poll
    session: requests.Session
    client: DICOMwebClient

    def studies(self) -> dict[str, int | None]:
        """Return the number of instances by study UID; None where the archive does not say it."""
        # open to the future: its clock is not ours
        since = f"{datetime.now().astimezone() - timedelta(days=self.poll.days):%Y%m%d}-"
        found: dict[str, int | None] = {}
        for modality in self.poll.modalities:
            filters = {"StudyDate": since, "ModalitiesInStudy": modality}
            search = partial(self.client.search_for_studies, search_filters=filters, fields=[MODALITIES, COUNT])
            for study, one in _all(search, STUDY_UID).items():
                # an archive may not know this filter and return every study
                if modality in (_values(one, MODALITIES) or [modality]):
                    found[study] = _count(one)
        return found

    def instances(self, study: str) -> Iterator[tuple[str, str]]:
        """Yield the series and SOP instance UID of each instance of a study."""
        for instance, one in _all(partial(self.client.search_for_instances, study), INSTANCE_UID).items():
            for series in _values(one, SERIES_UID):
                yield str(series), instance

    def content(self, study: str, series: str, instance: str) -> Iterator[bytes]:
        """Yield an instance as the archive keeps it, in pieces."""
        places = zip(("studies", "series", "instances"), (study, series, instance), strict=True)
        url = "/".join([self.poll.url, *(f"{name}/{quote(uid, safe='')}" for name, uid in places)])
        with self.session.get(url, headers={"Accept": ORIGINAL}, stream=True, timeout=TIMEOUT_S) as answer:
            answer.raise_for_status()
            yield from only_part(answer)


def _pulled(archive: _Archive, store: Received) -> Pulled:
    try:
        studies = archive.studies()
    except (requests.RequestException, ValueError) as fault:
        raise LinkLost(type(fault).__name__) from None
    instances: Counter[str] = Counter()
    unfinished = lost = 0
    for study, count in studies.items():
        if lost >= MOST_LOST:
            unfinished += 1
            continue
        try:
            _bring(archive, store, study, count, instances)
            lost = 0
        # of one study: the others go on; requests' faults are OSErrors, as a full disk is
        except (OSError, ValueError) as fault:
            logger.warning("poll %s: study %s is left for the next look (%s)", archive.poll.name, key(study), type(fault).__name__)
            unfinished += 1
            lost = lost + 1 if isinstance(fault, requests.ConnectionError | requests.Timeout) else 0
    return Pulled(len(studies), instances, unfinished)


def _all(search: Callable[..., Sequence[Answer]], uid: str) -> dict[str, Answer]:
    """Return every answer to a query by its UID, page by page.

    The client's own way of asking for what remains does not end where an archive takes no notice of the offset, as Orthanc may.
    """
    found: dict[str, Answer] = {}
    asked = 0
    while True:
        page = search(limit=PAGE, offset=asked) if asked else search()
        new = {str(value): one for one in page for value in _values(one, uid) if str(value) not in found}
        if not new:
            return found
        found |= new
        asked += len(page)


def _bring(archive: _Archive, store: Received, study: str, count: int | None, instances: Counter[str]) -> None:
    if count is not None:
        if store.count(study) >= count:
            return
        store.expect(study, count)
    for series, instance in archive.instances(study):
        if store.path(study, instance).exists():
            continue
        try:
            taken = store.take_pieces(archive.content(study, series, instance), instance=instance)
            instances[taken.outcome.value] += 1
        except DosimetryError as refusal:
            instances[f"refused {refusal.code}"] += 1


def _authorised(session: requests.Session, poll: Poll) -> None:
    if poll.ca is not None:
        session.verify = str(poll.ca)
    if poll.token_file is not None:
        session.headers["Authorization"] = f"Bearer {_secret(poll.token_file)}"
    elif poll.user is not None and poll.password_file is not None:
        session.auth = (poll.user, _secret(poll.password_file))


def _secret(path: Path) -> str:
    return path.read_text("utf-8").strip()


def _values(answer: Answer, tag: str) -> list[Any]:
    found = answer.get(tag, {}).get("Value", [])
    return list(found)


def _count(answer: Answer) -> int | None:
    values = _values(answer, COUNT)
    return int(values[0]) if values and str(values[0]).isdigit() else None
