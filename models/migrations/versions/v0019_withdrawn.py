"""An amendment that has not taken effect can be withdrawn."""

from models.migrations.running import run_sql

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    run_sql("0019_withdrawn.sql")
