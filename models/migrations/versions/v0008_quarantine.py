"""Events wait in quarantine for their time, too."""

from models.migrations.running import run_sql

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    run_sql("0008_quarantine.sql")
