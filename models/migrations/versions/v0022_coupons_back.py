"""Coupons of a withdrawn amendment can be redeemed again."""

from models.migrations.running import run_sql

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    run_sql("0022_coupons_back.sql")
