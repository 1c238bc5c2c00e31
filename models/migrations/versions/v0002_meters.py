"""Meters keep properties and single events; totals are kept by them."""

from models.migrations.running import run_sql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_sql("0002_meters.sql")
