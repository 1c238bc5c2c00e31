"""What a bill was made of can be proved: digests of sets of events."""

from models.migrations.running import run_sql

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    run_sql("0012_proof.sql")
