"""The catalog: products, features, coupons, overrides, when a plan is sold, and what terms have besides the plan."""

from models.migrations.running import run_sql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_sql("0003_catalog.sql")
