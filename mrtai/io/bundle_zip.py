"""A bundle's zip, unpacked without trusting it."""

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Final

from mrtai.values.refusal import DosimetryError

MOST_MEMBERS: Final = 10_000
MOST_BYTES: Final = 8 << 30
MOST_RATIO: Final = 100
"""Weights hardly shrink; text shrinks tenfold. More is no model."""

SMALL_BYTES: Final = 64 << 20
"""Below this a high ratio does no harm."""

WANTED: Final = (".json", ".onnx", ".md", ".txt")
CHUNK: Final = 1 << 20


def unpacked(archive: Path, folder: Path) -> Path:
    """Write the members that a bundle is read from below ``folder`` and return it.

    Raises:
        DosimetryError: not a whole zip, a name that leads elsewhere, a link, or far more data than a model has.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _require_harmless(archive, members)
            for member in members:
                if member.filename.lower().endswith(WANTED):
                    _write(opened, member, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as cause:
        raise _bad(archive, "the zip is damaged or not a zip", type(cause).__name__, "transfer it again") from cause
    return folder


def _require_harmless(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    for member in members:
        if _leads_elsewhere(member.filename):
            raise _bad(archive, "the zip has a name that leads out of its folder", repr(member.filename[:80]))
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _bad(archive, "the zip has a link or a device", repr(member.filename[:80]))
        if member.flag_bits & 1:
            raise _bad(archive, "the zip is encrypted", repr(member.filename[:80]), "unpack it and add the folder")
    names = [member.filename.casefold() for member in members]
    if len(set(names)) < len(names):
        raise _bad(archive, "the zip has one name twice", repr(next(name for name in names if names.count(name) > 1)))
    total = sum(member.file_size for member in members)
    if len(members) > MOST_MEMBERS or total > MOST_BYTES or (total > SMALL_BYTES and total > MOST_RATIO * archive.stat().st_size):
        found = f"{len(members)} files of {total / 1e6:.0f} MB in {archive.stat().st_size / 1e6:.1f} MB"
        raise _bad(archive, "the zip would unpack to far more than a model", found)


def _leads_elsewhere(name: str) -> bool:
    """Return True for an absolute name, a drive, a step upwards, or a name that no file may have."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or ":" in name or "\0" in name or not path.parts


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    target = folder / PurePosixPath(member.filename.replace("\\", "/"))
    target.parent.mkdir(parents=True, exist_ok=True)
    # never more than the member declares, and its checksum is compared at the end
    with opened.open(member) as source, target.open("xb") as written:
        while chunk := source.read(CHUNK):
            written.write(chunk)


def _bad(archive: Path, what: str, found: str, remedy: str = "get it again from where it was published") -> DosimetryError:
    return DosimetryError(what, where=archive.name, found=found, remedy=remedy, code="BUNDLE_ZIP")
