"""The way to the ledger's database: SQLite or PostgreSQL, transactions, and what to say when it is away."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError

from mrtai.values.refusal import DosimetryError

BUSY_S = 30.0
"""How long a transaction waits for another one."""

_SOCKET_S = 60.0
"""How long a silent server is waited for; longer than any lock."""

_SQLITE_AWAY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }
)

# SQLSTATE: connection, login, no such database, right missing, read-only, deadlock, resources and disk, lock, shutdown, system, damage
_POSTGRES_AWAY = ("08", "28", "3D000", "42501", "25006", "40", "53", "55P03", "57", "58", "XX")

_START = {
    ("sqlite", False): "BEGIN",
    ("sqlite", True): "BEGIN IMMEDIATE",
    ("postgresql", False): "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    ("postgresql", True): "SET LOCAL lock_timeout = {busy_ms}",
}
"""What begins a transaction: a reader sees one moment, a writer waits for its turn."""


class LedgerAway(OSError):
    """The ledger's database cannot be reached, is locked, full or closed to us: worth another try later."""


def engine_of(url: str, *, busy_s: float = BUSY_S) -> Engine:
    """Return the engine of ``sqlite:///FILE`` or ``postgresql+pg8000://…``; ``postgresql://`` means the same driver.

    Nothing is kept open between transactions, so a restarted server or a restored file is met at once, and a fork inherits nothing.

    Raises:
        DosimetryError: ``LEDGER_URL``.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        engine = _sqlite_engine(Path(str(parsed.database)).resolve(), busy_s)
    else:
        waits = {"timeout": _SOCKET_S + busy_s}
        engine = create_engine(parsed.set(drivername="postgresql+pg8000"), poolclass=NullPool, hide_parameters=True, connect_args=waits)
    return engine.execution_options(busy_ms=int(busy_s * 1000))


@contextmanager
def transaction(engine: Engine, *, writes: bool) -> Iterator[Connection]:
    """Give a connection in a transaction that is kept when the block ends well, else undone. Raises ``LedgerAway``."""
    start = _START[engine.dialect.name, writes].format(busy_ms=engine.get_execution_options()["busy_ms"])
    with guarded(engine), engine.begin() as connection:
        connection.exec_driver_sql(start)
        yield connection


@contextmanager
def guarded(engine: Engine) -> Iterator[None]:
    """Turn what a database says when it is away into ``LedgerAway``; let faults of ours through."""
    try:
        yield
    except DBAPIError as error:
        why = _why_away(error)
        if why is None:
            raise
        raise away(engine, why) from error
    except LedgerAway:
        raise
    except OSError as error:
        # pg8000 lets a silent or reset connection through as it came
        raise away(engine, str(error)) from error


def away(engine: Engine, why: str) -> LedgerAway:
    """Return the one line that says which database is away and why, without its password."""
    place = engine.url.set(query={}).render_as_string(hide_password=True)
    remedy = "see that it runs, has room and lets this user write, then try again"
    return LedgerAway(f"ledger {place}: {' '.join(why.split()).rstrip('.')}; {remedy}")


def make_file(engine: Engine, *, busy_s: float = BUSY_S) -> None:
    """Make a SQLite ledger's file where there is none, readable by its owner only, with a write-ahead log. Raises ``LedgerAway``."""
    try:
        os.close(os.open(str(engine.url.database), os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise away(engine, error.strerror or "cannot be opened") from error
    until = time.monotonic() + busy_s
    with guarded(engine):
        while not _logs_ahead(engine, until):
            time.sleep(0.05)


def _logs_ahead(engine: Engine, until: float) -> bool:
    """Switch to the write-ahead log; False where another process is at it, which SQLite answers without waiting."""
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    except DBAPIError as error:
        if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
            raise
        return False
    return True


def _sqlite_engine(path: Path, busy_s: float) -> Engine:
    def connect() -> sqlite3.Connection:
        # mode=rw: a ledger that vanished is away, not empty; isolation_level=None: we begin transactions ourselves
        connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=busy_s, isolation_level=None)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    return create_engine(URL.create("sqlite", database=str(path)), creator=connect, poolclass=NullPool, hide_parameters=True)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise _bad_url("no URL") from None
    file = parsed.database or ""
    if parsed.drivername in ("sqlite", "sqlite+pysqlite") and file and not file.startswith((":", "file:")):
        return parsed
    if parsed.drivername in ("postgresql", "postgresql+pg8000"):
        return parsed
    raise _bad_url(parsed.drivername)


def _bad_url(found: str) -> DosimetryError:
    return DosimetryError(
        "this is no address of a ledger",
        where="ledger URL",
        found=found,
        remedy="write sqlite:///FILE or postgresql+pg8000://USER@HOST/DATABASE",
        code="LEDGER_URL",
    )


def _why_away(error: DBAPIError) -> str | None:
    """Return the database's own words where it is away, None where the fault is ours."""
    origin = error.orig
    if isinstance(origin, sqlite3.Error):
        code = getattr(origin, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        return str(origin) if code & 0xFF in _SQLITE_AWAY else None
    said = origin.args[0] if origin is not None and origin.args else None
    if isinstance(said, dict):
        return str(said.get("M")) if str(said.get("C", "")).startswith(_POSTGRES_AWAY) else None
    return str(origin) if isinstance(error, InterfaceError) else None
