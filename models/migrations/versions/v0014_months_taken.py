"""A month that was taken away is remembered for every customer who had events in it, counted or not."""

from models.migrations.running import run_sql

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    run_sql("0014_months_taken.sql")
