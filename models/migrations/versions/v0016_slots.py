"""Totals lie in slots, so that transactions that add to the same do not wait for one another."""

from models.migrations.running import run_sql

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    run_sql("0016_slots.sql")
