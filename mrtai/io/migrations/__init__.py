"""Alembic's environment of the ledger; ``mrtai.io.ledger_schema`` runs it."""
