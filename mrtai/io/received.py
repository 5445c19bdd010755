"""The store of received instances: each once, whole or not at all, and no identity in any name."""

import errno
import filecmp
import hashlib
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from mrtai.io.received_header import Uids, object_digest, read_uids, require_object
from mrtai.units import SECONDS_PER_HOUR

KEY_DIGITS: Final = 32
AGAIN_DIGITS: Final = 8
AGAIN, EXPECTED, PARTIALS, ENDING = ".again", ".expected", ".partial", ".dcm"
CHUNK_BYTES: Final = 2**20
BYTES_PER_GB: Final = 1e9
# a folder that changed so lately may change again within one tick of its clock
UNSETTLED_NS: Final = 2_000_000_000


class Outcome(Enum):
    """What became of an instance that was taken: new, the same again, or another under the same UID, kept beside the first."""

    STORED = "stored"
    KNOWN = "known"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class Taken:
    """An instance that is on disk: what became of it, and the key of its study."""

    outcome: Outcome
    study: str
    path: Path


@dataclass(frozen=True, slots=True)
class Arrived:
    """What the store holds of one study.

    Attributes:
        last_ns: time of the newest instance, also of one that came again, nanoseconds since 1970.
        again: an instance came a second time with other content.
        expected: number of instances that the study should have, where a source has said so.
    """

    study: str
    instances: int
    last_ns: int
    again: bool
    expected: int | None


def key(uid: str) -> str:
    """Return the name under which the store keeps a study or an instance: no identity can be read from it."""
    return hashlib.sha256(uid.encode()).hexdigest()[:KEY_DIGITS]


class Received:
    """Instances as they came, in ``ROOT/received/<study>/<instance>.dcm``; threads and processes may share one store.

    The file system must have hard links: they put an instance in place whole and never over another.
    """

    def __init__(self, root: Path, least_free_gb: float = 0.0) -> None:
        self.folder = root / "received"
        self.least_free_gb = least_free_gb
        self.partials = self.folder / PARTIALS
        self.partials.mkdir(parents=True, exist_ok=True)
        self._durable: set[str] = set()
        self._looked: dict[str, tuple[int, Arrived]] = {}

    def take(self, content: bytes) -> Taken:
        """Take the content of a DICOM file in; see ``take_pieces``."""
        return self.take_pieces([content])

    def take_file(self, path: Path) -> Taken:
        """Copy a DICOM file in; see ``take_pieces``."""
        with path.open("rb") as stream:
            return self.take_pieces(iter(lambda: stream.read(CHUNK_BYTES), b""))

    def take_pieces(self, pieces: Iterable[bytes | memoryview], *, instance: str | None = None, sop_class: str | None = None) -> Taken:
        """Take a DICOM file in that comes in pieces; when this returns, it is on disk.

        Args:
            pieces: of the file, in order.
            instance: SOP instance UID that was announced.
            sop_class: SOP class UID that was announced.

        Raises:
            DosimetryError: no DICOM, cut short, without its UIDs, or another object than announced; nothing is kept.
            OSError: the disk is nearly full or cannot be written; nothing is kept.
        """
        if self.free_gb() < self.least_free_gb:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with self._partial() as partial:
            with partial.open("xb") as stream:
                for piece in pieces:
                    stream.write(piece)
                stream.flush()
                uids = read_uids(partial)
                require_object(uids, instance, sop_class)
                os.fsync(stream.fileno())
            return self._placed(partial, uids)

    def path(self, study_uid: str, instance_uid: str) -> Path:
        """Return where an instance is, or would be."""
        return self.folder / key(study_uid) / (key(instance_uid) + ENDING)

    def count(self, study_uid: str) -> int:
        """Return the number of a study's instances."""
        arrived = self._arrived(key(study_uid))
        return 0 if arrived is None else arrived.instances

    def expect(self, study_uid: str, count: int) -> None:
        """Note the number of instances that a study should have."""
        folder = self._study(key(study_uid))
        if _expected(folder) == count:
            return
        with self._partial() as partial:
            partial.write_text(f"{count}\n", "ascii")
            partial.replace(folder / EXPECTED)

    def accept_newer(self, study: str) -> int:
        """Put the instances of a study that came again with other content in place of the first ones; return how many.

        Of one that came several times the last counts.
        """
        folder = self.folder / study
        newer = sorted((folder / AGAIN).glob(f"*{ENDING}"), key=lambda path: path.stat().st_mtime_ns)
        for path in newer:
            path.replace(folder / (path.stem.rpartition("-")[0] + ENDING))
        if newer:
            (folder / AGAIN).rmdir()
            _sync(folder)
        return len(newer)

    def studies(self) -> Iterator[Arrived]:
        """Yield what has arrived, study by study; a study that did not change since the last look costs one ``stat``."""
        with os.scandir(self.folder) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
        for name in sorted(names):
            arrived = self._arrived(name)
            if arrived is not None and arrived.instances:
                yield arrived

    def free_gb(self) -> float:
        """Return the free space of the store's disk."""
        return shutil.disk_usage(self.folder).free / BYTES_PER_GB

    def sweep(self) -> int:
        """Remove what was left half-written by processes that are gone, or an hour ago; return the number of files."""
        stale = [path for path in self.partials.iterdir() if _abandoned(path)]
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)

    @contextmanager
    def _partial(self) -> Iterator[Path]:
        path = self.partials / f"{_namespace()}.{os.getpid()}.{uuid.uuid4().hex}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _placed(self, partial: Path, uids: Uids) -> Taken:
        study = key(uids.study)
        folder, path = self._study(study), self.path(uids.study, uids.instance)
        outcome = Outcome.STORED
        if not _linked(partial, path):
            same = filecmp.cmp(partial, path, shallow=False) or object_digest(partial) == object_digest(path)
            outcome = Outcome.KNOWN if same else Outcome.DIFFERS
        if outcome is Outcome.DIFFERS:
            path = _kept_beside(partial, path)
        # also for what is known: its first sender may not have come so far yet
        _sync(folder)
        return Taken(outcome, study, path)

    def _study(self, study: str) -> Path:
        """Return a study's folder, made such that it outlives a loss of power."""
        folder = self.folder / study
        made = not folder.exists()
        folder.mkdir(exist_ok=True)
        if made or study not in self._durable:
            _sync(self.folder)
            self._durable.add(study)
        return folder

    def _arrived(self, study: str) -> Arrived | None:
        folder = self.folder / study
        try:
            changed_ns = folder.stat().st_mtime_ns
            before = self._looked.get(study)
            if before is not None and before[0] == changed_ns:
                return before[1]
            arrived = _look(folder)
        except FileNotFoundError:
            self._looked.pop(study, None)
            return None
        if time.time_ns() - changed_ns > UNSETTLED_NS:
            self._looked[study] = (changed_ns, arrived)
        return arrived


def _look(folder: Path) -> Arrived:
    with os.scandir(folder) as found:
        entries = list(found)
    instances = [entry for entry in entries if entry.name.endswith(ENDING)]
    again = any(entry.name == AGAIN for entry in entries)
    # the folder's own time too: an instance that was long in writing is put in place later than it was written
    times_ns = [entry.stat().st_mtime_ns for entry in entries if entry in instances or entry.name == AGAIN]
    last_ns = max([folder.stat().st_mtime_ns, *times_ns])
    return Arrived(folder.name, len(instances), last_ns, again, _expected(folder))


def _expected(folder: Path) -> int | None:
    with suppress(FileNotFoundError, ValueError):
        return int((folder / EXPECTED).read_text("ascii"))
    return None


def _linked(partial: Path, path: Path) -> bool:
    """Put a whole file in place unless one is there: of two at once only one can."""
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        return False
    return True


def _kept_beside(partial: Path, path: Path) -> Path:
    folder = path.parent / AGAIN
    folder.mkdir(exist_ok=True)
    beside = folder / f"{path.stem}-{object_digest(partial)[:AGAIN_DIGITS]}{ENDING}"
    if _linked(partial, beside):
        os.utime(path.parent)  # so that a look at the study sees it
    _sync(folder)
    return beside


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _namespace() -> str:
    """Return a name of where a process number means something: this machine, and its container."""
    inside = ""
    with suppress(OSError):
        inside = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(f"{socket.gethostname()} {inside}".encode()).hexdigest()[:AGAIN_DIGITS]


def _abandoned(path: Path) -> bool:
    where, _, rest = path.name.partition(".")
    process = rest.partition(".")[0]
    if where == _namespace() and process.isdigit() and not _alive(int(process)):
        return True
    try:
        return time.time() - path.stat().st_mtime > SECONDS_PER_HOUR
    except FileNotFoundError:
        return False


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
