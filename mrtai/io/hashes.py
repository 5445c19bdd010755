"""Digests of files, so that an input can be recognised again."""

import hashlib
from pathlib import Path

from mrtai.values.study import InputFile


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def input_file(path: Path) -> InputFile:
    """Return a file's name and the SHA-256 of its content."""
    return InputFile(path.name, file_sha256(path))
