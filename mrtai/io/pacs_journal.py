"""What became of every object at every target: a journal beside the objects, and the lock that keeps it to one sender."""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from mrtai.io.atomic import write_bytes
from mrtai.io.pacs_link import ToSend
from mrtai.io.targets import Target
from mrtai.values.refusal import DosimetryError

STORED, SENDING, FAILED, NOT_TRIED = "stored", "sending", "failed", "not tried"
DIGEST: Final = "content_sha256"


@dataclass(frozen=True, slots=True)
class SentObject:
    """What became of one object; ``committed`` is None where no commitment was asked for."""

    file: str
    uid: str
    state: str
    reason: str = ""
    committed: bool | None = None


@contextmanager
def sole_sender(journal: Path) -> Iterator[None]:
    """Keep a journal and the objects beside it to one process while the context lasts.

    Raises:
        DosimetryError: another process has it.
    """
    lock = journal.with_name(f".{journal.stem}.lock")
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # objects written again bring a folder of their own: a lock in the old one keeps nobody out
            ours = lock.exists() and os.fstat(handle).st_ino == lock.stat().st_ino
        except BlockingIOError:
            ours = False
        if not ours:
            raise DosimetryError(
                "these objects are being sent or written by another process",
                where=journal.parent.name,
                found="its lock",
                remedy="wait for it to end, then try again",
                code="SEND_BUSY",
            )
        yield
    finally:
        os.close(handle)


class Journal:
    """The journal of one target: UIDs, digests, states and times, written after every change; no identity."""

    def __init__(self, path: Path, target: Target) -> None:
        self.path, self.target = path, target
        self.all: dict[str, dict[str, dict[str, Any]]] = _read(path)
        # a target of the same name at another address is another archive
        self.mine = self.all.setdefault(f"{target.name} at {target.url or f'{target.host}:{target.port}/{target.ae_title}'}", {})

    def require_same(self, items: Sequence[ToSend]) -> None:
        """Refuse objects whose UID was sent with another content; when an object was made is none of its content."""
        changed = [item.path.name for item in items if self.mine.get(item.uid, {}).get(DIGEST, item.content_sha256) != item.content_sha256]
        if changed:
            raise DosimetryError(
                "an object of the same UID was sent with another content",
                where=f"target {self.target.name}",
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
        self.mine[item.uid] = {"file": item.path.name, DIGEST: item.content_sha256, "state": state, "reason": reason, "at": at}
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


def _read(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text("utf-8"))
        if all(isinstance(entry, dict) for target in document.values() for entry in target.values()):
            return dict(document)
    except (ValueError, AttributeError):
        pass
    raise DosimetryError(
        "what was sent before cannot be read",
        where=path.name,
        found="no journal of ours",
        remedy="move it away: all is then sent again, and an archive keeps one object of a UID",
        code="JOURNAL_UNREADABLE",
    )
