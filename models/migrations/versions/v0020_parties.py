"""Documents keep the seller and the buyer that they were issued by and to."""

from models.migrations.running import run_sql

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    run_sql("0020_parties.sql")
