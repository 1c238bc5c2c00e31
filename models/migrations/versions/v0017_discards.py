"""What waits in quarantine and shall never count is discarded."""

from models.migrations.running import run_sql

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    run_sql("0017_discards.sql")
