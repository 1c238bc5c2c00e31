"""What waits in quarantine, and the aliases of customers, are found in order and by customer."""

from models.migrations.running import run_sql

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    run_sql("0015_pages.sql")
