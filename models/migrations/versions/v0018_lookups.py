"""What is asked for often is found by an index."""

from models.migrations.running import run_sql

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    run_sql("0018_lookups.sql")
