"""A watched folder: files that no longer change are taken into the store; nothing in the folder is touched."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mrtai.io.received import Received
from mrtai.io.received_header import read_uids
from mrtai.values.refusal import DosimetryError


@dataclass(frozen=True, slots=True)
class Seen:
    """A file's state, when it was first seen in it, and whether it has been dealt with."""

    state: tuple[int, int]
    since_s: float
    done: bool = False


class Watched:
    """One folder with everything below it, but for hidden names.

    What was taken or left alone is remembered while the process lives and the file does not change; a new process takes it again,
    and the store knows it.
    """

    def __init__(self, folder: Path, store: Received, still_s: float = 10.0) -> None:
        self.folder, self.store, self.still_s = folder, store, still_s
        self._files: dict[Path, Seen] = {}

    def look(self) -> Counter[str]:
        """Take what has not changed for the still time and return counts of what became of each file.

        Counted are the outcomes of the store, ``left`` for what is no DICOM, and ``failed`` for what could not be read or stored and
        is tried again at the next look.
        """
        counts: Counter[str] = Counter()
        now_s, before = time.monotonic(), self._files
        self._files = {}
        for path, state in _files(self.folder):
            seen = before.get(path)
            if seen is None or seen.state != state:
                seen = Seen(state, now_s)
            if not seen.done and now_s - seen.since_s >= self.still_s:
                told, done = self._dealt_with(path, state)
                counts[told] += 1
                seen = Seen(state, seen.since_s, done)
            self._files[path] = seen
        return counts

    def _dealt_with(self, path: Path, state: tuple[int, int]) -> tuple[str, bool]:
        """Return what became of a file, and whether it need not be looked at again."""
        try:
            # before it is copied: anything may lie in a folder
            read_uids(path)
            taken = self.store.take_file(path)
            return taken.outcome.value, _state(path) == state
        except DosimetryError:
            return "left", True
        except OSError:
            return "failed", False


def _files(folder: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(where) / name
            try:
                if not name.startswith(".") and path.is_file():
                    yield path, _state(path)
            except OSError:
                # gone since the folder was listed
                continue


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
