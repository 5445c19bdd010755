"""Digests of files, so that an input can be recognised again."""

import hashlib
from pathlib import Path

from mrtai.values.study import InputFile


def input_file(path: Path) -> InputFile:
    """Return a file's name and the SHA-256 of its content."""
    with path.open("rb") as stream:
        return InputFile(path.name, hashlib.file_digest(stream, "sha256").hexdigest())
