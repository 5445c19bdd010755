"""The folder that ``mrtai cumulate`` writes: complete or as it was."""

import json
import secrets
import shutil
from pathlib import Path
from typing import Final

from mrtai.io.atomic import put_in_place
from mrtai.io.cumulative import SCHEMA, cumulative_document
from mrtai.io.cumulative_page import cumulative_page
from mrtai.io.cumulative_tables import cumulative_csv
from mrtai.io.results import dumped
from mrtai.values.cumulative import Cumulative
from mrtai.values.refusal import DosimetryError

OURS: Final = frozenset({"cumulative.json", "cumulative.html", "cumulative.csv"})


def write_cumulative(found: Cumulative, out: Path) -> Path:
    """Write ``cumulative.json``, ``.html`` and ``.csv`` into a folder of their own and return it.

    Raises:
        DosimetryError: ``out`` is a file, or a folder with anything else in it.
    """
    require_ours(out)
    out = out.resolve()
    document = cumulative_document(found)
    token = secrets.token_hex(4)
    partial = out.with_name(f".{out.name}.partial-{token}")
    try:
        partial.mkdir(parents=True)
        (partial / "cumulative.json").write_text(dumped(document), "utf-8")
        (partial / "cumulative.html").write_text(cumulative_page(document), "utf-8")
        (partial / "cumulative.csv").write_text(cumulative_csv(document), "utf-8")
        require_ours(out)
        put_in_place(partial, out, out.with_name(f".{out.name}.old-{token}"))
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return out


def require_ours(out: Path) -> None:
    """Raise ``DosimetryError`` unless ``out`` is absent, empty, or holds earlier sums of ours alone."""
    above = next(place for place in out.absolute().parents if place.exists())
    if not above.is_dir():
        raise _refused(out, "the output cannot lie below a file", "a file where a folder is needed", "BAD_OUTPUT")
    if not out.exists():
        return
    names = {path.name for path in out.iterdir()} if out.is_dir() else None
    if names is None or (names and (names - OURS or not _is_cumulative(out / "cumulative.json"))):
        found = "a file" if names is None else "a folder with other content"
        raise _refused(out, "the output holds something else and is left alone", found, "OUTPUT_NOT_OURS")


def _is_cumulative(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_bytes())["schema"] == SCHEMA)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _refused(out: Path, what: str, found: str, code: str) -> DosimetryError:
    return DosimetryError(what, where=out.name, found=found, remedy="choose a new or empty folder for --out", code=code)
