"""The first memory: every table of the first slice, and the ledger's rules."""

from pathlib import Path

import psycopg
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    sql = Path(__file__).with_name("0001_first.sql").read_text()
    connection = op.get_bind().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    connection.execute(sql)
