"""The folder that ``mrtai validate`` writes: complete or as it was."""

import json
import secrets
import shutil
from pathlib import Path
from typing import Final

from mrtai.io.atomic import put_in_place
from mrtai.io.results import dumped
from mrtai.io.validation import SCHEMA, validation_document
from mrtai.io.validation_page import validation_page
from mrtai.values.refusal import DosimetryError
from mrtai.values.validation import Validation

OURS: Final = frozenset({"validation.json", "validation.html"})


def write_validation(found: Validation, out: Path) -> Path:
    """Write ``validation.json`` and ``.html`` into a folder of their own and return it.

    Raises:
        DosimetryError: ``out`` is a file, or a folder with anything else in it.
    """
    require_ours(out)
    out = out.resolve()
    document = validation_document(found)
    token = secrets.token_hex(4)
    partial = out.with_name(f".{out.name}.partial-{token}")
    try:
        partial.mkdir(parents=True)
        (partial / "validation.json").write_text(dumped(document), "utf-8")
        (partial / "validation.html").write_text(validation_page(document), "utf-8")
        require_ours(out)
        put_in_place(partial, out, out.with_name(f".{out.name}.old-{token}"))
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return out


def require_ours(out: Path) -> None:
    """Raise ``DosimetryError`` unless ``out`` is absent, empty, or holds an earlier comparison of ours alone."""
    above = next(place for place in out.absolute().parents if place.exists())
    if not above.is_dir():
        raise _refused(out, "the output cannot lie below a file", "a file where a folder is needed", "BAD_OUTPUT")
    if not out.exists():
        return
    names = {path.name for path in out.iterdir()} if out.is_dir() else None
    if names is None or (names and (names - OURS or not _is_validation(out / "validation.json"))):
        found = "a file" if names is None else "a folder with other content"
        raise _refused(out, "the output holds something else and is left alone", found, "OUTPUT_NOT_OURS")


def _is_validation(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_bytes())["schema"] == SCHEMA)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _refused(out: Path, what: str, found: str, code: str) -> DosimetryError:
    return DosimetryError(what, where=out.name, found=found, remedy="choose a new or empty folder for --out", code=code)
