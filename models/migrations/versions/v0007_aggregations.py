"""Meters take percentiles and peaks of rates."""

from models.migrations.running import run_sql

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_sql("0007_aggregations.sql")
