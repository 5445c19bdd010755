"""How a command ends: its exit status, and the one line that says why."""

import argparse
import errno
import json
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from mrtai.values.refusal import DosimetryError

DONE: Final = 0
FAULT: Final = 1
REFUSED: Final = 2

OF_PLACES: Final = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR),
        *(errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT),
    }
)
"""What the operating system refuses because of where or by whom something is read or written: no fault of ours."""

OURS: Final = Path(__file__).resolve().parents[1]


class OneLineParser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments, as every refusal does; ``as_json`` as a JSON object."""

    def __init__(self, *args: Any, as_json: bool = False, **words: Any) -> None:
        super().__init__(*args, **words)
        self.as_json = as_json

    def add_subparsers(self, **words: Any) -> Any:
        """Return the group of commands, whose parsers say it the same way."""
        parser_class: Any = partial(OneLineParser, as_json=self.as_json)
        return super().add_subparsers(parser_class=parser_class, **words)

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        line = f"{self.prog}: {message}; see {self.prog} --help"
        self.exit(REFUSED, (json.dumps({"error": line, "code": "USAGE"}) if self.as_json else line) + "\n")


def plain(fault: BaseException) -> str:
    """Return a fault with its message, in one line."""
    return f"{type(fault).__name__}: {' '.join(str(fault).split())}"


def ended(
    command: Callable[[], int], *, as_json: bool = False, with_traceback: bool = False, words: Callable[[BaseException], str] = plain
) -> int:
    """Run a command and return its exit status: its own, 2 where an input or a place was refused, 1 for a fault of ours.

    ``words``: how a fault is told; libraries' messages may quote a header.
    """
    try:
        return command()
    except KeyboardInterrupt:
        _write("interrupted; nothing half-written was left", "INTERRUPTED", as_json=as_json)
        return FAULT
    except DosimetryError as refusal:
        tell(refusal, as_json=as_json)
        return REFUSED
    except Exception as fault:
        refused = _of_a_place(fault)
        if refused is not None:
            tell(refused, as_json=as_json)
            if with_traceback:
                raise
            return REFUSED
        logging.getLogger(__name__).debug("fault", exc_info=True)
        _write(f"fault of mrtai: {words(fault)}", "FAULT", as_json=as_json)
        if with_traceback:
            raise
        return FAULT


def _write(line: str, code: str, *, as_json: bool) -> None:
    sys.stderr.write((json.dumps({"error": line, "code": code}) if as_json else line) + "\n")


def tell(refusal: DosimetryError, *, as_json: bool) -> None:
    """Write a refusal to stderr."""
    keys = ("code", "where", "what", "found", "remedy")
    told = json.dumps({"error": str(refusal)} | {key: getattr(refusal, key) for key in keys}) if as_json else str(refusal)
    sys.stderr.write(f"{told}\n")


def _of_a_place(fault: Exception) -> DosimetryError | None:
    if not isinstance(fault, OSError) or fault.errno not in OF_PLACES or not fault.filename:
        return None
    if Path(str(fault.filename)).is_relative_to(OURS):
        return None  # a file of ours that is not there
    return DosimetryError(
        "cannot be read or written",
        where=Path(str(fault.filename2 or fault.filename)).name,
        found=(fault.strerror or type(fault).__name__).lower(),
        remedy="check the place, its permissions and its free space",
        code="PLACE",
    )
