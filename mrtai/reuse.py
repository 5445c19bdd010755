"""Work already done for unchanged inputs is not done again: a step into rooms that keeps what each of them returned."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from mrtai.io.kept import Shelf

Result = TypeVar("Result")

NEVER: Final = frozenset({"write"})
"""Rooms that are entered for what they leave behind."""

KEY_DIGITS: Final = 16

logger = logging.getLogger(__name__)


def reusing(folder: Path, step: Callable[..., Any], *, code: str) -> "Reusing":
    """Return a step that enters rooms through ``step`` and gives what is kept of them below ``folder`` where nothing changed.

    It must be the outermost step: what ``step`` shows or times it then also does for a room that is not worked in again.

    Args:
        folder: of one cycle. Neither an identity nor the pseudonym's key is written there.
        step: enters a room.
        code: what stands for the version of the code (``io.code_version.code_sha256``).
    """
    return Reusing(Shelf(folder), step, code)


@dataclass(frozen=True, slots=True, eq=False)
class Reusing:
    """A ``Step`` for one walk.

    A room's result is kept under the digest of the room's name, the code and the content of every argument. An argument is what it
    is: where an earlier room worked again and came to the same, the later one has nothing to do.

    Attributes:
        reused: rooms of this walk whose results were kept from an earlier one.
        names: under which the results of this walk are kept.
    """

    shelf: Shelf
    step: Callable[..., Any]
    code: str
    reused: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def __call__(self, room: Callable[..., Result], *args: Any) -> Result:
        """Return what ``room(*args)`` returned before, else what it returns now."""

        def entered() -> Result:
            return self._entered(room, args)

        entered.__name__ = room.__name__
        result: Result = self.step(room, *args) if room.__name__ in NEVER else self.step(entered)
        return result

    def discard_others(self) -> None:
        """Remove what is kept of other inputs than this walk's, once it is complete."""
        self.shelf.discard_others(self.names)

    def _entered(self, room: Callable[..., Result], args: tuple[Any, ...]) -> Result:
        name = self._name(room, args)
        found: tuple[Result] | None = None if name is None else self.shelf.kept(name)
        if name is not None and found is not None:
            self.names.append(name)
            self.reused.append(room.__name__)
            return found[0]
        result = room(*args)
        # files that changed while the room read them: the result belongs to neither content
        if name is not None and self._name(room, args) == name and self._keep(name, result):
            self.names.append(name)
        return result

    def _name(self, room: Callable[..., Any], args: tuple[Any, ...]) -> str | None:
        try:
            return f"{room.__name__}-{self.shelf.digests.of((room.__name__, self.code, args))[:KEY_DIGITS]}"
        except TypeError as fault:
            logger.warning("%s cannot be reused: %s", room.__name__, fault)
            return None

    def _keep(self, name: str, result: Any) -> bool:
        try:
            self.shelf.keep(name, result)
        except (OSError, TypeError) as fault:
            # a draft does not fail because its stages could not be kept
            logger.warning("%s is not kept: %s", name, type(fault).__name__ if isinstance(fault, OSError) else fault)
            return False
        return True
