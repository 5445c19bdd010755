"""A folder that one command writes whole: complete or as it was, and never over anything else."""

import json
from collections.abc import Mapping
from pathlib import Path

from mrtai.io.atomic import whole_folder
from mrtai.values.refusal import DosimetryError


def write_own_folder(out: Path, files: Mapping[str, str | bytes], schema: str) -> Path:
    """Write texts and bytes by file name into a folder of their own and return it; the first is JSON with that ``schema``.

    Raises:
        DosimetryError: ``out`` is a file, or a folder with anything else in it.
    """
    require_ours(out, tuple(files), schema)
    out = out.resolve()
    with whole_folder(out) as partial:
        for name, content in files.items():
            (partial / name).write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        require_ours(out, tuple(files), schema)
    return out


def require_ours(out: Path, ours: tuple[str, ...], schema: str) -> None:
    """Raise ``DosimetryError`` unless ``out`` is absent, empty, or holds earlier files of these names and this schema alone."""
    above = next(place for place in out.absolute().parents if place.exists())
    if not above.is_dir():
        raise _refused(out, "the output cannot lie below a file", "a file where a folder is needed", "BAD_OUTPUT")
    if not out.exists():
        return
    names = {path.name for path in out.iterdir()} if out.is_dir() else None
    if names is None or (names and (names - set(ours) or not _has_schema(out / ours[0], schema))):
        found = "a file" if names is None else "a folder with other content"
        raise _refused(out, "the output holds something else and is left alone", found, "OUTPUT_NOT_OURS")


def _has_schema(path: Path, schema: str) -> bool:
    try:
        return bool(json.loads(path.read_bytes())["schema"] == schema)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _refused(out: Path, what: str, found: str, code: str) -> DosimetryError:
    return DosimetryError(what, where=out.name, found=found, remedy="choose a new or empty folder for --out", code=code)
