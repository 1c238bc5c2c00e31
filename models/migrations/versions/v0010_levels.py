"""Meters take levels: weighted by time, carried over, with operations; and formulas over fields."""

from models.migrations.running import run_sql

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    run_sql("0010_levels.sql")
