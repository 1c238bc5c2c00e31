"""Deals as they came from the CRM, and how far we have read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import Column
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, Session, SQLModel

from models.database import cursor
from models.values import moment

OVERLAP = timedelta(minutes=5)
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


class CrmInbox(SQLModel, table=True):
    """A won deal as last seen, or the faults that keep it from being read."""

    __tablename__ = "crm_inbox"
    crm: str = Field(primary_key=True)
    deal_id: str = Field(primary_key=True)
    modified_at: datetime = moment()
    deal: Any = Field(sa_column=Column(JSONB, nullable=False))
    faults: Any = Field(sa_column=Column(JSONB, nullable=False))
    accepted_at: datetime | None = moment(default=None)


class CrmWatermark(SQLModel, table=True):
    """Everything changed before `seen_through` has been read, short of the overlap."""

    __tablename__ = "crm_watermark"
    crm: str = Field(primary_key=True)
    seen_through: datetime = moment()


def read_from(session: Session, crm: str, beginning: datetime) -> datetime:
    """Where to read on: some minutes before the last change seen, as changes may become visible late.

    Nothing that changed before `beginning` is ever read.
    """
    row = session.get(CrmWatermark, crm)
    return max(row.seen_through - OVERLAP, beginning) if row else beginning


def take_in(session: Session, crm: str, deal_id: str, modified_at: datetime, deal: object, faults: object) -> None:
    """Keep the deal as it is now; once accepted it stays as it was."""
    cursor(session).execute(
        "insert into crm_inbox as i (crm, deal_id, modified_at, deal, faults) values (%s, %s, %s, %s, %s)"
        " on conflict (crm, deal_id) do update set modified_at = excluded.modified_at, deal = excluded.deal,"
        " faults = excluded.faults where i.accepted_at is null",
        (crm, deal_id, modified_at, Jsonb(deal), Jsonb(faults)),
    )
    cursor(session).execute(
        "insert into crm_watermark as w (crm, seen_through) values (%s, %s) on conflict (crm) do update"
        " set seen_through = greatest(w.seen_through, excluded.seen_through)",
        (crm, modified_at),
    )


def waiting(session: Session, crm: str) -> list[str]:
    """Readable deals that nobody has accepted yet."""
    rows = cursor(session).execute(
        "select deal_id from crm_inbox where crm = %s and accepted_at is null and faults = '[]'::jsonb order by 1",
        (crm,),
    )
    return [deal_id for (deal_id,) in rows]
