"""Files that ``study.toml`` names: inside the study's folder, or refused."""

from pathlib import Path

from mrtai.values.refusal import DosimetryError


def inside(folder: Path, name: str) -> Path:
    """Return the file of that name below the folder; refuses one that leads outside or is missing."""
    root = folder.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise _refused("a path leads outside the study folder", f"'{Path(name).name}'", "LINK_OUTSIDE", "copy the file into the folder")
    if not path.is_file():
        raise _refused("a file of the study is missing", f"no '{name}'", "NOT_FOUND", "check the path")
    return path


def _refused(what: str, found: str, code: str, remedy: str) -> DosimetryError:
    return DosimetryError(what, where="study.toml", found=found, remedy=remedy, code=code)
