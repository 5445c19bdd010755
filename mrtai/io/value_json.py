"""Values as JSON and back, bit by bit: every object is ``{"is": kind, …}``, and no text in it is ever executed.

Only frozen dataclasses and enumerations of ``MODULES`` are made from what is read.
"""

import base64
import math
import struct
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from enum import Enum
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MODULES: Final = ("mrtai.values.", "mrtai.physics.kinetics", "mrtai.physics.partial_volume")
INLINE_BYTES: Final = 4096
"""Smaller arrays stand in the JSON itself: a cycle has hundreds of them."""

DTYPE_KINDS: Final = "biufc"


def encoded(value: Any, stored: Callable[[Array], str]) -> Any:
    """Return a value as JSON; ``stored`` keeps a large array and returns its name.

    Raises:
        TypeError: what ``decoded`` could not give back exactly as it is.
    """
    if value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
        return value

    def inner(one: Any) -> Any:
        return encoded(one, stored)

    match value:
        case float() if type(value) is float:
            return {"is": "float", "bits": struct.pack(">d", value).hex()}
        case np.generic():
            return {"is": "scalar", "array": _array(np.asarray(value), stored)}
        case np.ndarray() if type(value) is np.ndarray:
            return _array(value, stored)
        case tuple() | list() if type(value) in (tuple, list):
            return {"is": type(value).__name__, "of": [inner(one) for one in value]}
        case dict() | MappingProxyType() if type(value) in (dict, MappingProxyType):
            return {"is": type(value).__name__, "of": [[inner(key), inner(one)] for key, one in value.items()]}
        case frozenset() if type(value) is frozenset:
            return {"is": "frozenset", "of": [inner(one) for one in sorted(value)]}
        case Enum():
            return {"is": "enum", "name": _allowed(type(value)), "member": value.name}
        case _:
            return _encoded_other(value, inner)


def _encoded_other(value: Any, inner: Callable[[Any], Any]) -> Any:
    if type(value) is bytes:
        return {"is": "bytes", "base64": base64.b64encode(value).decode()}
    if type(value) in (date, datetime):
        if isinstance(value, datetime) and (value.fold or not _is_told_by_its_text(value)):
            raise TypeError("an instant that its text does not tell")
        return {"is": type(value).__name__, "text": value.isoformat()}
    if is_dataclass(value) and not isinstance(value, type):
        return {"is": "value", "name": _allowed(type(value)), "of": {one.name: inner(getattr(value, one.name)) for one in fields(value)}}
    raise TypeError(f"a {type(value).__module__}.{type(value).__qualname__} is not kept")


def _is_told_by_its_text(instant: datetime) -> bool:
    """Say whether the zone is none or a plain offset; a place has rules that no text of one instant holds."""
    again = datetime.fromisoformat(instant.isoformat())
    return (type(instant.tzinfo), instant.tzname()) == (type(again.tzinfo), again.tzname())


def decoded(node: Any, array_of: Callable[[str], Array]) -> Any:
    """Return the value of a JSON node; ``array_of`` gives back a stored array. What is malformed raises one of Python's own errors."""
    if not isinstance(node, dict):
        if node is None or isinstance(node, bool | int | float | str):
            return node
        raise TypeError("a bare list")

    def inner(one: Any) -> Any:
        return decoded(one, array_of)

    match node["is"]:
        case "float":
            return struct.unpack(">d", bytes.fromhex(node["bits"]))[0]
        case "array":
            return _decoded_array(node, array_of)
        case "scalar":
            return inner(node["array"])[()]
        case "tuple" | "list" | "frozenset" as kind:
            return {"tuple": tuple, "list": list, "frozenset": frozenset}[kind](inner(one) for one in node["of"])
        case "dict" | "mappingproxy" as kind:
            pairs = {inner(key): inner(one) for key, one in node["of"]}
            return pairs if kind == "dict" else MappingProxyType(pairs)
        case "bytes":
            return base64.b64decode(node["base64"], validate=True)
        case "date" | "datetime" as kind:
            return {"date": date, "datetime": datetime}[kind].fromisoformat(node["text"])
        case "enum":
            return _class(node["name"], Enum)[node["member"]]
        case "value":
            return _class(node["name"])(**{name: inner(one) for name, one in node["of"].items()})
        case _:
            raise ValueError("an unknown kind")


def _allowed(named: type) -> str:
    name = f"{named.__module__}:{named.__qualname__}"
    if not _is_allowed(named.__module__) or not (issubclass(named, Enum) or named.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        raise TypeError(f"a {name} is not kept")
    return name


def _is_allowed(module: str) -> bool:
    return module in MODULES or any(module.startswith(prefix) for prefix in MODULES if prefix.endswith("."))


def _class(name: str, base: type | None = None) -> Any:
    module, _, qualname = name.partition(":")
    if not _is_allowed(module):
        raise ValueError("a class of another module")
    found = getattr(import_module(module), qualname)
    if found.__module__ != module or not (issubclass(found, base) if base else is_dataclass(found)):
        raise ValueError("no value of ours")
    return found


def _array(array: Array, stored: Callable[[Array], str]) -> dict[str, Any]:
    """Return an array's node: type, shape, and where its elements are. What is not in C order also says how it lies in memory.

    Sums over an array depend in their last bits on the order in which its elements lie.
    """
    if array.dtype.kind not in DTYPE_KINDS:
        raise TypeError(f"an array of {array.dtype} is not kept")
    node: dict[str, Any] = {"is": "array", "dtype": array.dtype.str, "shape": list(array.shape)}
    if not array.flags.c_contiguous:
        node["strides"] = list(array.strides)
    if array.nbytes <= INLINE_BYTES:
        return node | {"base64": base64.b64encode(array.tobytes()).decode()}
    return node | {"sha256": stored(array)}


def _decoded_array(node: dict[str, Any], array_of: Callable[[str], Array]) -> Array:
    dtype, shape = np.dtype(node["dtype"]), tuple(node["shape"])
    if dtype.kind not in DTYPE_KINDS:
        raise ValueError("an array of another type")
    if "base64" in node:
        found: Array = np.frombuffer(base64.b64decode(node["base64"], validate=True), dtype).reshape(shape)
    else:
        found = array_of(node["sha256"])
    if found.shape != shape or found.dtype != dtype:
        raise ValueError("an array of another shape or type")
    if "strides" in node:
        found = _laid_out(found, tuple(node["strides"]))
    found.setflags(write=False)
    return found


def _laid_out(array: Array, strides: tuple[int, ...]) -> Array:
    """Return a copy of an array whose elements lie as the strides say [bytes]."""
    reach = [(n - 1) * step for n, step in zip(array.shape, strides, strict=True)]
    first, last = -sum(min(end, 0) for end in reach), sum(max(end, 0) for end in reach)
    copy: Array = np.ndarray(array.shape, array.dtype, buffer=bytearray(first + last + array.itemsize), offset=first, strides=strides)
    copy[...] = array
    return copy
