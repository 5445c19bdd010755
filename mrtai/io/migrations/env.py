"""Run by Alembic, on the connection and in the transaction of ``mrtai.io.ledger_schema``."""

from alembic import context

from mrtai.io.ledger_schema import VERSION_TABLE
from mrtai.io.ledger_tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSION_TABLE)
context.run_migrations()
