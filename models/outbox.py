"""The outbox: what has to reach a neighbour, written in the transaction that causes it, delivered afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from sqlalchemy import Column
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, Session, SQLModel

from billing.ids import derive
from models.database import cursor
from models.values import moment

Door = Literal["crm", "documents"]
DOORS: tuple[Door, ...] = get_args(Door)
CLAIM = timedelta(seconds=30)


class Outbox(SQLModel, table=True):
    """One delivery; its id comes from the cause, so it is written once and sent under one key."""

    __tablename__ = "outbox"
    id: str = Field(primary_key=True)
    door: str
    payload: Any = Field(sa_column=Column(JSONB, nullable=False))
    entity_id: str = Field(foreign_key="legal_entity.id")
    clock_id: str | None = Field(default=None, foreign_key="test_clock.id")
    created_at: datetime = moment()
    not_before: datetime = moment()
    attempts: int = 0
    last_error: str | None = None
    delivered_at: datetime | None = moment(default=None)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a door is given: the id of the row and the names it needs; for whom, on which clock, and for which time."""

    id: str
    payload: dict[str, str]
    entity_id: str
    clock_id: str | None
    attempts: int


def post(
    session: Session, door: Door, payloads: Mapping[str, Mapping[str, str]], entity_id: str, clock_id: str | None
) -> None:
    """Put deliveries into the outbox, by cause; a cause that was posted before changes nothing."""
    cursor(session).execute(
        "insert into outbox (id, door, payload, entity_id, clock_id)"
        " select id, %s, payload, %s, %s from unnest(%s::text[], %s::jsonb[]) as p (id, payload)"
        " on conflict do nothing",
        (
            door,
            entity_id,
            clock_id,
            [derive("out", door, cause) for cause in payloads],
            [Jsonb(payload) for payload in payloads.values()],
        ),
    )


def claim(session: Session, door: Door, limit: int) -> list[Delivery]:
    """Take up to `limit` deliveries for half a minute, oldest first; whoever dies with them leaves them to the next."""
    cur = cursor(session).connection.cursor(row_factory=class_row(Delivery))
    return cur.execute(
        "with free as materialized ("
        " select id from outbox where door = %s and delivered_at is null and not_before <= clock_timestamp()"
        " order by created_at, id limit %s for update skip locked), taken as ("
        " update outbox o set not_before = clock_timestamp() + %s, attempts = attempts + 1 from free"
        " where o.id = free.id returning o.id, o.payload, o.entity_id, o.clock_id, o.attempts, o.created_at)"
        " select id, payload, entity_id, clock_id, attempts from taken order by created_at, id",
        (door, limit, CLAIM),
    ).fetchall()


def delivered(session: Session, delivery_id: str) -> None:
    cursor(session).execute(
        "update outbox set delivered_at = clock_timestamp(), last_error = null where id = %s", (delivery_id,)
    )


def failed(session: Session, delivery_id: str, error: str) -> None:
    """Try again later: 1, 2, 4 ... seconds, at most ten minutes."""
    cursor(session).execute(
        "update outbox set last_error = %s, not_before = clock_timestamp()"
        " + least(interval '10 minutes', interval '1 second' * power(2, least(attempts, 12) - 1)) where id = %s",
        (error[:500], delivery_id),
    )


def undelivered(session: Session, clock_id: str) -> int:
    """How many deliveries of that clock have not gone out, those that failed before left aside."""
    row = (
        cursor(session)
        .execute(
            "select count(*) from outbox where clock_id = %s and delivered_at is null and last_error is null",
            (clock_id,),
        )
        .fetchone()
    )
    return int(row[0]) if row else 0
