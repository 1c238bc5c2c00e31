"""Meters change, and days are counted anew for all customers."""

from models.migrations.running import run_sql

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    run_sql("0011_rebuilds.sql")
