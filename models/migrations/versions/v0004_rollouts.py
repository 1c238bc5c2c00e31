"""Roll-outs: who is moved to which version of a plan, when, and what it costs them."""

from models.migrations.running import run_sql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_sql("0004_rollouts.sql")
