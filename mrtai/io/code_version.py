"""Which code made a result: what is kept of one version is never taken for another's."""

import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

import mrtai
from mrtai.io.digest import digest
from mrtai.io.hashes import file_sha256
from mrtai.io.manifest import library_versions

COMPILERS: Final = ("numba", "llvmlite", "xraylib")
"""Numbers depend on these too, beside the libraries that the manifest names."""


@cache
def code_sha256() -> str:
    """Return the SHA-256 of this package, code and data, with the versions of Python and of the libraries it counts with."""
    libraries = {**library_versions(), **{name: version(name) for name in COMPILERS}}
    return digest((sys.version, libraries, package_sha256(Path(mrtai.__file__).parent)))


def package_sha256(package: Path) -> str:
    """Return the SHA-256 of the names and contents of a package's files; what Python and numba compiled from them does not count."""
    files = (path for path in sorted(package.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return digest(tuple((path.relative_to(package).as_posix(), file_sha256(path)) for path in files))
