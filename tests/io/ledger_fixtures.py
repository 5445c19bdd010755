"""A new ledger for each test on SQLite or on a real PostgreSQL: a plugin that the ledger's tests name."""

import pytest
from postgres import emptied, postgres

from mrtai.io.ledger import open_ledger


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture
def url(kind, tmp_path, request):
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return emptied(request.getfixturevalue("server"))


@pytest.fixture
def ledger(url):
    with open_ledger(url) as one:
        yield one
