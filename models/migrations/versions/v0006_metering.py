"""Events lie by month; what makes each one unique is kept apart, and so is what became of all that was sent."""

from models.migrations.running import run_sql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_sql("0006_metering.sql")
