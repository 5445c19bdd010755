"""Files appear whole or not at all."""

import glob
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mrtai.values.refusal import DosimetryError

ABANDONED_AFTER_S: Final = 24 * 3600.0
"""No folder is under way for so long: what is older was left by a run that was killed."""


def require_places(*paths: Path) -> None:
    """Refuse, before any work, files that cannot be written: a folder's name, a place below a file, a folder closed to us.

    Raises:
        DosimetryError: ``BAD_OUTPUT``.
    """
    for path in paths:
        above = next(place for place in path.absolute().parents if place.exists())
        if path.is_dir():
            raise _bad_output("the output is a folder", path, "a folder", "give the name of a file")
        if not above.is_dir():
            raise _bad_output("the output lies below a file", path, f"{above.name} is a file", "choose another place")
        if not os.access(above, os.W_OK | os.X_OK):
            raise _bad_output("the output cannot be written", path, f"no right to write into {above.name}", "choose another place")


def _bad_output(what: str, path: Path, found: str, remedy: str) -> DosimetryError:
    return DosimetryError(what, where=path.name, found=found, remedy=remedy, code="BAD_OUTPUT")


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        # mkstemp gives 0600; a result is readable like any file its owner makes
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Give a hidden folder beside ``out`` to write into, which takes its place at the end; where anything fails, it is gone instead.

    So is what a run that was killed left there more than ``ABANDONED_AFTER_S`` ago.
    """
    token = secrets.token_hex(4)
    partial = out.with_name(f".{out.name}.partial-{token}")
    for left in out.parent.glob(f".{glob.escape(out.name)}.partial-*"):
        with suppress(OSError):  # another run may be taking it away
            if time.time() - left.stat().st_mtime > ABANDONED_AFTER_S:
                shutil.rmtree(left, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        put_in_place(partial, out, out.with_name(f".{out.name}.old-{token}"))
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def put_in_place(partial: Path, out: Path, aside: Path) -> None:
    """Move ``partial`` to ``out``; what was there goes ``aside`` and comes back where the move fails."""
    if not out.exists():
        partial.replace(out)
        return
    out.replace(aside)
    try:
        partial.replace(out)
    except BaseException:
        aside.replace(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
