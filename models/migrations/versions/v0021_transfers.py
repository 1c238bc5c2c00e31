"""Bank transfers that came for invoices."""

from models.migrations.running import run_sql

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    run_sql("0021_transfers.sql")
