"""Sending objects to an archive, so that each arrives once.

Acknowledged ones are remembered; what was under way when a link broke is asked for before it goes again.
"""

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pydicom

from mrtai.io.atomic import write_bytes
from mrtai.io.hashes import file_sha256
from mrtai.io.pacs_link import Link, LinkLost, ToSend
from mrtai.io.pacs_store import StoreLink
from mrtai.io.pacs_stow import StowLink
from mrtai.io.targets import C_STORE, Target
from mrtai.values.refusal import DosimetryError

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 30.0
STORED, SENDING, FAILED, NOT_TRIED = "stored", "sending", "failed", "not tried"


@dataclass(frozen=True, slots=True)
class SentObject:
    """What became of one object; ``committed`` is None where no commitment was asked for."""

    file: str
    uid: str
    state: str
    reason: str = ""
    committed: bool | None = None


def send(
    files: Sequence[Path], target: Target, journal: Path, *, progress: Callable[[int, int], None] = lambda done, of: None
) -> list[SentObject]:
    """Send objects to a target and return what became of each; ``journal`` remembers what the target acknowledged.

    A second call with the same files sends the rest. What was under way when the link broke is asked for first where the peer can
    answer, so that nothing arrives twice. A definite refusal of an object is not tried again within the call.

    Raises:
        DosimetryError: an object of the same UID but another content was sent before; or not every object was stored (and, where the
            target commits itself, committed): the message says how many, and sending again goes on from there.
    """
    items = [_described(path) for path in files]
    record = _Record(journal, target.name)
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
    header = pydicom.dcmread(
        path, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"]
    )
    uids = (header.SOPClassUID, header.SOPInstanceUID, header.SeriesInstanceUID, header.StudyInstanceUID)
    sop_class, uid, series_uid, study_uid = (str(one) for one in uids)
    return ToSend(path, sop_class, uid, series_uid, study_uid, file_sha256(path))


def _send_all(items: Sequence[ToSend], link: Link, target: Target, record: "_Record", progress: Callable[[int, int], None]) -> None:
    attempt = 0
    waiting = [item for item in items if record.state(item) != STORED]
    while waiting:
        progress(len(items) - len(waiting), len(items))
        try:
            _send_one(waiting[0], link, record)
            waiting.pop(0)
            attempt = 0
        except LinkLost as fault:
            link.close()
            attempt += 1
            if attempt >= target.attempts:
                record.lost(waiting[0], str(fault))
                return
            time.sleep(_wait_s(attempt))
    progress(len(items), len(items))


def _send_one(item: ToSend, link: Link, record: "_Record") -> None:
    if record.state(item) == SENDING and link.has(item):
        record.put(item, STORED, "found at the target")
        return
    record.put(item, SENDING)
    refused = link.store(item)
    record.put(item, FAILED if refused else STORED, refused)


def _wait_s(attempt: int) -> float:
    """Return an exponential back-off with jitter, so that many senders do not come back at once."""
    return float(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1)) * random.uniform(0.5, 1.5))


def _commit(items: Sequence[ToSend], link: Link, record: "_Record") -> None:
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


class _Record:
    """The journal of one target: UIDs, digests, states and times, written after every change; no identity."""

    def __init__(self, path: Path, target: str) -> None:
        self.path, self.target = path, target
        self.all: dict[str, dict[str, dict[str, Any]]] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        self.mine = self.all.setdefault(target, {})

    def require_same(self, items: Sequence[ToSend]) -> None:
        """Refuse objects whose UID was sent with another content."""
        changed = [item.path.name for item in items if self.mine.get(item.uid, {}).get("sha256", item.sha256) != item.sha256]
        if changed:
            raise DosimetryError(
                "an object of the same UID was sent with another content",
                where=f"target {self.target}",
                found=", ".join(changed[:4]),
                remedy="export the case again, so that changed objects get UIDs of their own",
                code="UID_REUSED",
            )

    def state(self, item: ToSend) -> str:
        """Return what became of an object so far."""
        return str(self.mine.get(item.uid, {}).get("state", NOT_TRIED))

    def put(self, item: ToSend, state: str, reason: str = "") -> None:
        """Write down a new state at once."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self.mine[item.uid] = {"file": item.path.name, "sha256": item.sha256, "state": state, "reason": reason, "at": at}
        self._write()

    def lost(self, item: ToSend, reason: str) -> None:
        """Write down why the link was lost; what was under way stays so."""
        if self.state(item) == SENDING:
            self.mine[item.uid]["reason"] = reason
            self._write()
        else:
            self.put(item, NOT_TRIED, reason)

    def committed(self, item: ToSend, answer: bool | None) -> None:
        """Write down the archive's commitment; a refused object is sent again by the next call."""
        self.mine[item.uid]["committed"] = answer
        if answer is False:  # the archive does not have it after all: the next call sends it again
            self.mine[item.uid]["state"] = FAILED
            self.mine[item.uid]["reason"] = "commitment refused"
        self._write()

    def outcome(self, item: ToSend) -> SentObject:
        """Return what became of an object, for the caller."""
        entry = self.mine.get(item.uid, {})
        return SentObject(item.path.name, item.uid, self.state(item), str(entry.get("reason", "")), entry.get("committed"))

    def _write(self) -> None:
        write_bytes(self.path, (json.dumps(self.all, indent=1) + "\n").encode())
