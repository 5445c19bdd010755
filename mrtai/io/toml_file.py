"""TOML input files, checked key by key: what is not known is refused by name."""

import math
import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from mrtai.values.refusal import DosimetryError

LAST_PORT: Final = 65_535


def parsed(content: bytes) -> dict[str, Any]:
    """Return the table of TOML in UTF-8; raises ValueError for what is none, and for ``nan`` and ``inf``, which no setting means."""
    return tomllib.loads(content.decode("utf-8"), parse_float=_finite)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"a number that is not finite: {text}")
    return number


def read_toml(path: Path, code: str) -> tuple[dict[str, Any], bytes]:
    """Return the table of a TOML file and its bytes; refuses what is missing or not TOML with ``code``."""
    try:
        content = path.read_bytes()
        return parsed(content), content
    except FileNotFoundError:
        raise DosimetryError("file not found", where=path.name, found="nothing there", remedy="check the path", code=code) from None
    except (IsADirectoryError, NotADirectoryError, PermissionError) as fault:
        found = "a folder" if path.is_dir() else type(fault).__name__
        raise DosimetryError("the file cannot be read", where=path.name, found=found, remedy="give a TOML file", code=code) from fault
    except ValueError as fault:
        raise DosimetryError("not usable as TOML", where=path.name, found=str(fault), remedy="correct that line", code=code) from fault


def require_keys(table: Mapping[str, Any], known: set[str], *, where: str, code: str) -> None:
    """Refuse a table with a key that nobody reads: a misspelt setting must not be ignored."""
    unknown = sorted(set(table) - known)
    if unknown:
        raise DosimetryError(
            "unknown key",
            where=where,
            found=", ".join(f"'{key}'" for key in unknown),
            remedy=f"known keys: {', '.join(sorted(known))}",
            code=code,
        )


def tables(table: Mapping[str, Any], key: str, file: Path) -> list[dict[str, Any]]:
    """Return the tables of an array ``[[key]]``, none where it is absent."""
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise DosimetryError(
            f"'{key}' must be an array of tables", where=file.name, found=repr(found), remedy=f"write [[{key}]]", code="CONFIG_FILE"
        )
    return found


def number(table: Mapping[str, Any], key: str, *, where: str, code: str) -> float | None:
    """Return a number, None where the key is absent."""
    value = table.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise DosimetryError(f"'{key}' must be a number", where=where, found=repr(value), remedy="write it without quotes", code=code)
    return None if value is None else float(value)


def positive(table: Mapping[str, Any], key: str, default: float, *, where: str, code: str) -> float:
    """Return a positive number, ``default`` where the key is absent."""
    value = number(table, key, where=where, code=code)
    if value is not None and not 0 < value < float("inf"):
        raise DosimetryError(f"'{key}' must be positive", where=where, found=f"{value:g}", remedy="correct it", code=code)
    return default if value is None else value


def whole(table: Mapping[str, Any], key: str, default: int, *, where: str, code: str) -> int:
    """Return a whole number from 1, ``default`` where the key is absent."""
    value = positive(table, key, default or 1, where=where, code=code)
    if value != int(value):
        raise DosimetryError(f"'{key}' must be a whole number", where=where, found=f"{value:g}", remedy="correct it", code=code)
    return int(value) if key in table else default


def port(table: Mapping[str, Any], key: str, default: int, *, where: str, code: str) -> int:
    """Return a port, ``default`` where the key is absent."""
    value = whole(table, key, default, where=where, code=code)
    if value > LAST_PORT:
        raise DosimetryError(f"'{key}' must be a port", where=where, found=f"{value}", remedy=f"1 to {LAST_PORT}", code=code)
    return value


def text(table: Mapping[str, Any], key: str, *, where: str, code: str) -> str | None:
    """Return a non-empty string, None where the key is absent."""
    value = table.get(key)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise DosimetryError(f"'{key}' must be a text", where=where, found=repr(value), remedy="write it in quotes", code=code)
    return None if value is None else str(value)


def instant(table: Mapping[str, Any], key: str, *, where: str, code: str) -> datetime | None:
    """Return a date with time of day, quoted or as TOML's own type, with its zone where one is written; None where absent."""
    value = table.get(key)
    if value is None or isinstance(value, datetime):
        return value
    try:
        if isinstance(value, str) and len(value.strip()) > len("2026-03-02"):
            return datetime.fromisoformat(value.strip())
    except ValueError:
        pass
    raise DosimetryError(
        f"'{key}' must be a date with time of day",
        where=where,
        found=repr(value),
        remedy='write it as "2026-03-02T09:30:00+01:00"',
        code=code,
    )
