"""Meters say what becomes of late usage; a person may be asked about it."""

from models.migrations.running import run_sql

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    run_sql("0009_late_usage.sql")
