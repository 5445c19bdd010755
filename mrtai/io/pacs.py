"""Sending objects to an archive, so that each arrives once.

Acknowledged ones are remembered; what was under way when a link broke is asked for before it goes again.
"""

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pydicom

from mrtai.io.dicom_write.header import content_digest
from mrtai.io.pacs_journal import FAILED, SENDING, STORED, Journal, SentObject, sole_sender
from mrtai.io.pacs_link import Link, LinkLost, NoLink, ToSend
from mrtai.io.pacs_store import StoreLink
from mrtai.io.pacs_stow import StowLink
from mrtai.io.targets import C_STORE, Target
from mrtai.values.refusal import DosimetryError

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 30.0


def send(
    files: Sequence[Path], target: Target, journal: Path, *, progress: Callable[[int, int], None] = lambda done, of: None
) -> list[SentObject]:
    """Send objects to a target and return what became of each; ``journal`` remembers what the target acknowledged.

    A second call with the same files sends the rest. What was under way when the link broke is asked for first where the peer can
    answer, so that nothing arrives twice. An object that breaks the link each time does not keep the others back. A definite refusal
    of an object is not tried again within the call.

    Raises:
        DosimetryError: another process is sending; an object of the same UID but another content was sent before; or not every object
            was stored (and, where the target commits itself, committed): the message says how many, and sending again goes on from there.
    """
    with sole_sender(journal):
        items = [_described(path) for path in files]
        record = Journal(journal, target)
        record.require_same(items)
        link: Link = StoreLink(target, items) if target.protocol == C_STORE else StowLink(target)
        try:
            _send_all(items, link, target, record, progress)
            if target.commitment:
                _commit(items, link, record)
        finally:
            link.close()
        outcome = [record.outcome(item) for item in items]
    _require_complete(outcome, target)
    return outcome


def _described(path: Path) -> ToSend:
    ds = pydicom.dcmread(path)
    uids = (ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.StudyInstanceUID)
    sop_class, uid, series_uid, study_uid = (str(one) for one in uids)
    return ToSend(path, sop_class, uid, series_uid, study_uid, content_digest(ds))


def _send_all(items: Sequence[ToSend], link: Link, target: Target, record: Journal, progress: Callable[[int, int], None]) -> None:
    """Send what is not stored yet; an object that breaks every link is left for the next call, and the others go on."""
    for done, item in enumerate(items):
        progress(done, len(items))
        if record.state(item) != STORED and not _send_with_patience(item, link, target, record):
            return
    progress(len(items), len(items))


def _send_with_patience(item: ToSend, link: Link, target: Target, record: Journal) -> bool:
    """Send an object, again after each loss of the link; return False where no connection was to be had at all."""
    for attempt in range(1, target.attempts + 1):
        try:
            _send_one(item, link, record)
            return True
        except LinkLost as fault:
            link.close()
            if attempt >= target.attempts:
                record.lost(item, str(fault))
                return not isinstance(fault, NoLink)
            time.sleep(_wait_s(attempt))
    return True


def _send_one(item: ToSend, link: Link, record: Journal) -> None:
    if record.state(item) == SENDING and _has_arrived(item, link):
        record.put(item, STORED, "found at the target")
        return
    record.put(item, SENDING)
    refused = link.store(item)
    record.put(item, FAILED if refused else STORED, refused)


def _has_arrived(item: ToSend, link: Link) -> bool:
    """Ask the archive; a link that is lost in the question twice means that it cannot tell, not that nothing may be sent any more."""
    try:
        return link.has(item)
    except NoLink:
        raise
    except LinkLost:
        link.close()
    try:
        return link.has(item)
    except NoLink:
        raise
    except LinkLost:
        link.close()
        return False


def _wait_s(attempt: int) -> float:
    """Return an exponential back-off with jitter, so that many senders do not come back at once."""
    return float(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1)) * random.uniform(0.5, 1.5))


def _commit(items: Sequence[ToSend], link: Link, record: Journal) -> None:
    open_ones = [item for item in items if record.state(item) == STORED and record.outcome(item).committed is not True]
    if open_ones:
        answers = link.commitment(open_ones)
        for item in open_ones:
            record.committed(item, answers.get(item.uid))


def _require_complete(outcome: Sequence[SentObject], target: Target) -> None:
    unstored = [one for one in outcome if one.state != STORED]
    uncommitted = [one for one in outcome if target.commitment and one.committed is not True and one.state == STORED]
    if not unstored and not uncommitted:
        return
    said = [f"{one.file}: {one.state}{f' ({one.reason})' if one.reason else ''}" for one in unstored]
    said += [f"{one.file}: stored, not committed" for one in uncommitted]
    raise DosimetryError(
        "not every object arrived",
        where=f"target {target.name}",
        found=f"{len(outcome) - len(unstored)} of {len(outcome)} stored; {'; '.join(said[:4])}",
        remedy="send again: it goes on with what is missing",
        code="SEND_INCOMPLETE",
    )
