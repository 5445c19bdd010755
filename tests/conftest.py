"""Shared fixtures: optional real data and optional Debian packages skip by name, and fail where CI requires them."""

import os
import shutil
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
REFERENCE = Path(__file__).resolve().parent / "reference"


def pytest_collection_modifyitems(items):
    """Begin with what takes longest, whole services and whole walks, so that workers end together."""
    items.sort(key=lambda item: (item.path.parent.name != "workflows", item.path.parent != Path(__file__).parent))


@pytest.fixture(scope="session")
def real_data():
    """Return a function from a folder name of the test data to its path; skips when absent, fails when required."""

    def folder(name: str) -> Path:
        root = os.environ.get("MRTAI_TEST_DATA")
        path = Path(root) / name if root else None
        if path is None or not path.exists():
            message = f"real data '{name}' not found: set MRTAI_TEST_DATA to the folder that holds it"
            pytest.fail(message) if os.environ.get("MRTAI_REQUIRE_DATA") == "1" else pytest.skip(message)
        return path

    return folder


@pytest.fixture(scope="session")
def program():
    """Return a function from a program's name to its path; skips naming the Debian package, fails when required."""

    def find(name: str, package: str) -> str:
        path = shutil.which(name)
        if path is None:
            message = f"'{name}' not found: install the Debian package {package}"
            pytest.fail(message) if os.environ.get("MRTAI_REQUIRE_PACKAGES") == "1" else pytest.skip(message)
        return path

    return find


@pytest.fixture(scope="session")
def reference() -> Path:
    """Return the folder with the independent Monte Carlo numbers."""
    return REFERENCE


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    """A key of pseudonyms of the module's own; its path."""
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_bytes(b"k" * 32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRTAI_KEY_FILE", str(path))
        yield path
