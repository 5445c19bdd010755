"""Faults of ours as they may be logged: what and where, without the message, which may quote a header."""

import traceback
from pathlib import Path
from typing import Final

PACKAGES: Final = ("mrtai", "workflows")


def where_of(fault: BaseException) -> str:
    """Return the fault's type and the last place in our code that it came through."""
    places = [frame for frame in traceback.extract_tb(fault.__traceback__) if set(PACKAGES) & set(Path(frame.filename).parts)]
    if not places:
        return type(fault).__name__
    last = Path(places[-1].filename)
    return f"{type(fault).__name__} at {last.parent.name}/{last.name}:{places[-1].lineno}"
