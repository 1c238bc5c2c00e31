"""What is signed of a level has the events before its window too."""

from models.migrations.running import run_sql

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    run_sql("0023_level_proofs.sql")
