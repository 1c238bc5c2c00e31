"""A database knows the server that it lives on, and so notices that it was restored on another one."""

from models.migrations.running import run_sql

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    run_sql("0013_home.sql")
