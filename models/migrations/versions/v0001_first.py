"""The first memory: every table of the first slice, and the ledger's rules."""

from models.migrations.running import run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_sql("0001_first.sql")
