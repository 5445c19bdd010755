"""What every way of sending shares: what is sent, and the loss of a link."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ToSend:
    """One object to be sent: its file, class, UIDs and the digest of its content."""

    path: Path
    sop_class: str
    uid: str
    series_uid: str
    study_uid: str
    content_sha256: str


class LinkLost(Exception):
    """The peer cannot be reached, or went away: worth another try."""


class NoLink(LinkLost):
    """No connection was to be had: other objects would fare no better."""


class Link(Protocol):
    """A connection to one archive, made when it is first needed and made again after a loss."""

    def store(self, item: ToSend) -> str:
        """Send one object; return why it was refused, empty when it was stored. Raises ``LinkLost``."""
        ...

    def has(self, item: ToSend) -> bool:
        """Return True when the archive says that it has the object; False when it cannot tell. Raises ``LinkLost``."""
        ...

    def commitment(self, items: Sequence[ToSend]) -> Mapping[str, bool]:
        """Return by UID whether the archive commits itself to keep the object; no entry where it did not answer."""
        ...

    def close(self) -> None:
        """Let the connection go."""
        ...
