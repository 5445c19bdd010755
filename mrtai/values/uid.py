"""UIDs that follow from what they name."""

import hashlib
from typing import Final

UID_ROOT: Final = "2.25."


def derived_uid(*words: str) -> str:
    """Return a UID under 2.25 (a 128 bit number, PS3.5 B.2) that the same words always give."""
    digest = hashlib.sha256("\x1f".join(words).encode()).digest()[:16]
    return f"{UID_ROOT}{int.from_bytes(digest, 'big')}"


def lesion_uid(pseudonym: str, name: str, first_scan_sha256: str) -> str:
    """Return the tracking UID of a lesion by the cycle in which it was first seen: its patient, its name there and that first scan."""
    return derived_uid("region", pseudonym, name, first_scan_sha256)
