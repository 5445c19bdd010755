"""Values kept on disk between runs: JSON for what is small, one file for each large array, and never a pickle.

``NAME.json`` holds a value and the SHA-256 of its content (``io.digest``), which must come out again when it is read. Arrays lie
beside it in ``arrays``, named after their own SHA-256, so that values which share voxels share the file.
"""

import json
import logging
import os
import re
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from struct import error as StructError  # noqa: N812
from tokenize import TokenError
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from mrtai.io.digest import Digests
from mrtai.io.value_json import decoded, encoded

SCHEMA: Final = "mrtai.kept/1"
NAME: Final = re.compile(r"[a-z_]+-[0-9a-f]{16}")
ARRAY_FILE: Final = re.compile(r"[0-9a-f]{64}\.npy")
PARTIAL: Final = ".partial-"
DAMAGE: Final = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ImportError, EOFError, ArithmeticError, MemoryError, RecursionError,
    StructError, SyntaxError, TokenError,
)  # fmt: skip
"""What reading a file that is not ours, or no longer whole, can raise; NumPy reads the head of an array as a Python literal."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Shelf:
    """Values kept by name (``room-0123456789abcdef``) in one folder; ``digests`` hashes each large array once.

    Two programs may read one shelf; only one at a time should discard from it.
    """

    folder: Path
    digests: Digests = field(default_factory=Digests)
    _loaded: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)

    def keep(self, name: str, value: Any) -> None:
        """Write a value, whole or not at all.

        Raises:
            TypeError: the value holds something that cannot be written and read back bit by bit.
            OSError: the disk is full, or away.
        """
        names: set[str] = set()

        def stored(array: NDArray[Any]) -> str:
            sha256 = self._stored(array)
            names.add(sha256)
            return sha256

        node = encoded(value, stored)
        document = {"schema": SCHEMA, "sha256": self.digests.of(value), "arrays": sorted(names), "value": node}
        content = json.dumps(document, allow_nan=False, separators=(",", ":")).encode("ascii")
        _write(self._file(name), lambda stream: stream.write(content))

    def kept(self, name: str) -> tuple[Any] | None:
        """Return the value of that name, alone in a tuple; None where there is none, or (with a warning) where it is damaged."""
        try:
            content = self._file(name).read_bytes()
        except OSError:
            return None
        try:
            document = json.loads(content)
            if document["schema"] != SCHEMA:
                raise ValueError("another schema")
            value = decoded(document["value"], self._array)
            if self.digests.of(value) != document["sha256"]:
                raise ValueError("another content than was kept")
        except DAMAGE as fault:
            logger.warning("what was kept of %s is damaged (%s) and is worked out again", name, type(fault).__name__)
            return None
        return (value,)

    def discard_others(self, names: Collection[str]) -> None:
        """Remove what is kept under other names, arrays that nothing kept needs, and what a killed program left half-written."""
        if not self.folder.is_dir():
            return
        needed: set[str] = set()
        for file in self.folder.glob("*.json"):
            if file.stem in names:
                needed.update(_arrays_of(file))
            elif NAME.fullmatch(file.stem):
                file.unlink(missing_ok=True)
        unneeded = [file for file in self._arrays.glob("*.npy") if ARRAY_FILE.fullmatch(file.name) and file.stem not in needed]
        for file in (*unneeded, *self.folder.rglob(f".*{PARTIAL}*")):
            file.unlink(missing_ok=True)

    @property
    def _arrays(self) -> Path:
        return self.folder / "arrays"

    def _file(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise ValueError(f"a room's name and 16 hexadecimal digits needed, got {name!r}")
        return self.folder / f"{name}.json"

    def _stored(self, array: NDArray[Any]) -> str:
        sha256 = self.digests.of_array(array)
        file = self._arrays / f"{sha256}.npy"
        if not file.exists():
            _write(file, lambda stream: np.save(stream, np.ascontiguousarray(array), allow_pickle=False))
        return sha256

    def _array(self, sha256: str) -> NDArray[Any]:
        if sha256 in self._loaded:
            return self._loaded[sha256]
        file = self._arrays / f"{sha256}.npy"
        if not ARRAY_FILE.fullmatch(file.name):
            raise ValueError("no name of an array")
        try:
            array: NDArray[Any] = np.load(file, allow_pickle=False)
            array.setflags(write=False)
            if self.digests.of_array(array) != sha256:
                raise ValueError("an array of another content")
        except DAMAGE:
            # its name promises what it does not hold: without it the next value that needs it writes it anew
            file.unlink(missing_ok=True)
            raise
        self._loaded[sha256] = array
        return array


def _arrays_of(file: Path) -> list[str]:
    try:
        return list(json.loads(file.read_bytes())["arrays"])
    except DAMAGE:
        return []


def _write(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file so that a reader, also after a power cut, sees the whole of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}{PARTIAL}")
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
