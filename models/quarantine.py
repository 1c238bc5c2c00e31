"""Events that belong to no known customer: kept whole, and sent again when somebody has said whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import JSON, Column
from sqlmodel import Field, Session, SQLModel

from models.database import columns, cursor
from models.event import Event
from models.values import moment

UNKNOWN = "unknown customer"


class UsageQuarantine(SQLModel, table=True):
    """An event that belongs to no known customer yet; kept whole until it is replayed."""

    __tablename__ = "usage_quarantine"
    source: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    subject: str
    event: Any = Field(sa_column=Column(JSON, nullable=False))
    reason: str
    received_at: datetime = moment()
    replayed_at: datetime | None = moment(default=None)


_DECODER = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


def keep(session: Session, strangers: Sequence[Event]) -> set[tuple[str, str]]:
    """Keep events of unknown subjects, each name once; the names of those that are new here."""
    if not strangers:
        return set()
    rows = [(e.source, e.id, e.subject, e.as_sent) for e in strangers]
    kept = cursor(session).execute(
        "insert into usage_quarantine (source, id, subject, event, reason)"
        " select source, id, subject, event, %s"
        " from unnest(%s::text[], %s::text[], %s::text[], %s::json[]) as e (source, id, subject, event)"
        " order by 1, 2 on conflict do nothing returning source, id",
        [UNKNOWN, *columns(rows, 4)],
    )
    return set(kept.fetchall())


def waiting(session: Session, subjects: Sequence[str] | None, limit: int, *, hold: bool = True) -> list[Event]:
    """Events that wait, those of known subjects first; with `hold`, nobody else may send them again meanwhile."""
    rows = cursor(session).execute(
        "select source, id, subject, event ->> 'type', (event ->> 'time')::timestamptz, event ->> 'data'"
        " from usage_quarantine q where replayed_at is null"
        " and (%(subjects)s::text[] is null or subject = any(%(subjects)s))"
        " order by exists (select from customer c where c.id = q.subject)"
        " or exists (select from customer_alias a where a.alias = q.subject) desc, source, id"
        " limit %(limit)s" + (" for update" if hold else ""),
        {"subjects": subjects, "limit": limit},
    )
    return [
        Event(source, key, subject, kind, at, _DECODER.decode(data)) for source, key, subject, kind, at, data in rows
    ]


def release(session: Session, settled: Sequence[Event]) -> None:
    """These wait no longer: they are stored, or known from elsewhere."""
    cursor(session).execute(
        "update usage_quarantine set replayed_at = now()"
        " where (source, id) in (select * from unnest(%s::text[], %s::text[]))",
        columns([(e.source, e.id) for e in settled], 2),
    )


def quarantined(session: Session, limit: int) -> list[tuple[str, str, str, str, datetime]]:
    """Open quarantine, oldest first: source, id, subject, reason, received."""
    return (
        cursor(session)
        .execute(
            "select source, id, subject, reason, received_at from usage_quarantine where replayed_at is null"
            " order by received_at, source, id limit %s",
            (limit,),
        )
        .fetchall()
    )
