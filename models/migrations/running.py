"""How a revision runs its SQL: the file of that name beside it, on the raw connection."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op


def run_sql(name: str) -> None:
    sql = Path(__file__).with_name("versions").joinpath(name).read_text()
    connection = op.get_bind().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    connection.execute(sql.encode())
