"""Brings a ledger's tables to the present form, once, however many processes open it first."""

import threading

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from mrtai.io.ledger_link import transaction
from mrtai.values.refusal import DosimetryError

VERSION_TABLE = "ledger_version"
"""Not Alembic's usual name: other programs' tables may live in the same database."""

_ADVISORY_LOCK = 0x6D72746169
"""Any number that no other program on the server is likely to lock."""

# Alembic's environment is one for the process
_ALEMBIC = threading.Lock()


def migrate(engine: Engine) -> None:
    """Bring the tables to the newest revision, in one transaction.

    Raises:
        LedgerAway: the database cannot be used.
        DosimetryError: ``LEDGER_NEWER``: a later version of mrtai has written it.
    """
    scripts = ScriptDirectory.from_config(_config())
    present = revision(engine)
    if present == scripts.get_current_head():
        return
    if present is not None and present not in {script.revision for script in scripts.walk_revisions()}:
        raise DosimetryError(
            "the ledger was written by a later version",
            where="ledger",
            found=f"revision {present}",
            remedy="upgrade mrtai, or restore the backup made before the upgrade",
            code="LEDGER_NEWER",
        )
    _upgrade(engine)


def revision(engine: Engine) -> str | None:
    """Return the revision of the tables, None where there are none."""
    with transaction(engine, writes=False) as connection:
        return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def _upgrade(engine: Engine) -> None:
    config = _config()
    with _ALEMBIC, transaction(engine, writes=True) as connection:
        if engine.dialect.name == "postgresql":
            # tables that do not exist yet cannot be locked
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "mrtai.io:migrations")
    config.set_main_option("path_separator", "os")
    return config
