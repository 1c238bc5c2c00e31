"""The server that a database lives on. What a bill has seen of its usage is told by that server's numbers of
transactions; on another one, where a dump was restored, they begin anew and would tell it wrongly.
"""

from __future__ import annotations

from sqlmodel import Field, Session, SQLModel

from billing.errors import Refused
from models.database import cursor
from models.values import large


class DatabaseHome(SQLModel, table=True):
    """One row: the server, by the system identifier that PostgreSQL gives to each data folder."""

    __tablename__ = "database_home"
    one_row: bool = Field(default=True, primary_key=True)
    server: int = large()


_NEWEST = """
select max(newest::text::numeric)::bigint from (
  select max(batch) from usage_event
  union all select max(batch) from usage_void
  union all select max(batch) from usage_recounted
  union all select max(pg_snapshot_xmax(usage_snapshot)) from invoice
  union all select max(pg_snapshot_xmax(snapshot)) from usage_proof
  union all select max(pg_snapshot_xmax(seen::pg_snapshot)) from meter_rebuild
) known (newest)
"""


def is_at_home(session: Session) -> bool:
    """Whether this is the server that the database was on when it was last moved in."""
    return bool(_one(session, "select h.server = c.system_identifier from database_home h, pg_control_system() c"))


def move_in(session: Session) -> None:
    """Make this server the database's home. Refused if its numbers of transactions are behind those that are stored."""
    if is_at_home(session):
        return
    newest = _one(session, _NEWEST) or 0
    mine = _one(session, "select pg_current_xact_id()::text::bigint") or 0
    if mine <= newest:
        raise Refused(
            "This database was restored on a server that has made fewer transactions than the one it comes from, so"
            " what invoices have seen of their usage would be told wrongly.",
            code="other_server",
            remedy=f"Stop PostgreSQL, run `pg_resetwal --epoch={(newest >> 32) + 1}` on its data folder as its owner,"
            " start it, and run `perennial migrate` again.",
        )
    cursor(session).execute("update database_home set server = (select system_identifier from pg_control_system())")


def _one(session: Session, statement: str) -> int | None:
    row = cursor(session).execute(statement).fetchone()
    return row[0] if row else None
