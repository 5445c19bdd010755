"""One SHA-256 for any value of ours, by what it is and not by where it lies or when it was made."""

import functools
import hashlib
import struct
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MappingProxyType, ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrtai.io.dicom_tree import files_below
from mrtai.io.hashes import file_sha256

ALWAYS_HASHED_BYTES: Final = 1 << 16
"""Smaller arrays are not worth remembering."""

DTYPE_KINDS: Final = "biufc"
"""Booleans and numbers."""


class Digests:
    """Digests of values; large read-only arrays, of which a cycle's values share many, are hashed once."""

    def __init__(self) -> None:
        self._of_arrays: dict[tuple[Any, ...], tuple[str, NDArray[Any]]] = {}

    def of(self, value: Any) -> str:
        """Return the SHA-256 of a value.

        A path stands for its content: a file for its name and bytes, a folder for the names and bytes of the files that a study has
        there, one that does not exist for nothing. A function or a class stands for its name. Mappings count in their order.

        Raises:
            TypeError: a value of a type that is not known here; there is no guess from ``repr``.
        """
        hashed = hashlib.sha256()
        # each part with its length, so that no two lists of parts run together into the same bytes
        for part in self._parts(value):
            hashed.update(struct.pack(">Q", len(part)) + part)
        return hashed.hexdigest()

    def of_array(self, array: NDArray[Any]) -> str:
        """Return the SHA-256 of an array's type, shape and elements in C order, however it lies in memory."""
        if array.flags.writeable or array.nbytes < ALWAYS_HASHED_BYTES:
            return _array_sha256(array)
        # keeping the array alive keeps its address from being another's
        place = (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str)
        if place not in self._of_arrays:
            self._of_arrays[place] = (_array_sha256(array), array)
        return self._of_arrays[place][0]

    def _parts(self, value: Any) -> Iterable[bytes]:
        if value is None or type(value) in (bool, int, str):
            return type(value).__name__.encode(), str(value).encode("utf-8", "surrogatepass")
        if type(value) is float:
            return b"float", struct.pack(">d", value)
        if isinstance(value, np.generic | np.ndarray):
            return type(value).__name__.encode(), self.of_array(np.asarray(value)).encode()
        if is_dataclass(value) and not isinstance(value, type):
            members = ((field.name, getattr(value, field.name)) for field in fields(value))
            return b"dataclass", _name(type(value)), *self._pairs(members)
        return self._parts_of_collection(value)

    def _parts_of_collection(self, value: Any) -> Iterable[bytes]:
        kind = type(value).__name__.encode()
        if type(value) in (tuple, list):
            return kind, *map(self._bytes_of, value)
        if type(value) in (dict, MappingProxyType):
            return kind, *self._pairs(value.items())
        if type(value) is frozenset:
            return kind, *sorted(map(self._bytes_of, value))
        return self._parts_of_named(value)

    def _parts_of_named(self, value: Any) -> Iterable[bytes]:
        if type(value) is bytes:
            return b"bytes", value
        if isinstance(value, Enum):
            return b"enum", _name(type(value)), value.name.encode()
        if type(value) in (date, datetime):
            return type(value).__name__.encode(), value.isoformat().encode(), bytes([getattr(value, "fold", 0)])
        if isinstance(value, Path):
            return b"path", *_content(value)
        if isinstance(value, functools.partial):
            return b"partial", self._bytes_of(value.func), self._bytes_of(value.args), *self._pairs(value.keywords.items())
        if isinstance(value, FunctionType | BuiltinFunctionType | type):
            return b"named", _name(value)
        raise TypeError(f"no digest of a {type(value).__module__}.{type(value).__qualname__}")

    def _pairs(self, pairs: Iterable[tuple[Any, Any]]) -> Iterable[bytes]:
        return [self._bytes_of(one) for pair in pairs for one in pair]

    def _bytes_of(self, value: Any) -> bytes:
        return bytes.fromhex(self.of(value))


def digest(value: Any) -> str:
    """Return the SHA-256 of a value; see ``Digests.of``."""
    return Digests().of(value)


def _array_sha256(array: NDArray[Any]) -> str:
    if array.dtype.kind not in DTYPE_KINDS:
        raise TypeError(f"no digest of an array of {array.dtype}")
    hashed = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    hashed.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return hashed.hexdigest()


def _name(named: type | Callable[..., Any]) -> bytes:
    """Return ``module:name``; refuses what a name does not tell apart: lambdas, functions in functions, methods of an object."""
    name = f"{named.__module__}:{named.__qualname__}"
    if "<" in name or not isinstance(getattr(named, "__self__", None), ModuleType | None):
        raise TypeError(f"{name} is not told apart by its name")
    return name.encode()


def _content(path: Path) -> Iterable[bytes]:
    if path.is_dir():
        for file in files_below(path):
            yield file.relative_to(path).as_posix().encode("utf-8", "surrogateescape")
            yield file_sha256(file).encode()
    elif path.exists():
        yield path.name.encode("utf-8", "surrogateescape")
        yield file_sha256(path).encode()
