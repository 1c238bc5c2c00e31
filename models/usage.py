"""Usage: events stored once and folded into daily totals by the same statement; what cannot be attributed is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import ARRAY, Column, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, Session, SQLModel

from billing.meter_check import LONGEST_VALUE
from billing.usage import NO_PROPERTIES, Portion, Totals
from models.database import cursor
from models.values import moment


class UsageEvent(SQLModel, table=True):
    """One event as it came; (`source`, `id`) makes it one, whatever its time says."""

    __tablename__ = "usage_event"
    source: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    customer_id: str = Field(foreign_key="customer.id")
    type: str
    occurred_at: datetime = moment()
    received_at: datetime = moment()
    day: date
    data: Any = Field(sa_column=Column(JSONB, nullable=False))
    meters: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    batch: int


class UsageTotal(SQLModel, table=True):
    """A meter's sum over one local day of one customer, over events with the same properties.

    `properties` are the values of the meter's dimensions; `each` is the quantity of every one of these events, if the
    meter keeps events apart, else 0.
    """

    __tablename__ = "usage_total"
    customer_id: str = Field(primary_key=True, foreign_key="customer.id")
    meter_id: str = Field(primary_key=True, foreign_key="meter.id")
    day: date = Field(primary_key=True)
    properties: Any = Field(primary_key=True, sa_type=JSONB)
    each: Decimal = Field(primary_key=True)
    quantity: Decimal
    events: int


class UsageQuarantine(SQLModel, table=True):
    """An event that belongs to no known customer yet; kept whole until it is replayed."""

    __tablename__ = "usage_quarantine"
    source: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    subject: str
    event: Any = Field(sa_column=Column(JSONB, nullable=False))
    reason: str
    received_at: datetime = moment()
    replayed_at: datetime | None = moment(default=None)


@dataclass(frozen=True, slots=True)
class Event:
    """A usage event as sent; `data` carries the quantities that meters add up."""

    source: str
    id: str
    subject: str
    type: str
    occurred_at: datetime
    data: dict[str, object]


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a batch, in numbers; they add up to its size."""

    accepted: int
    duplicate: int
    quarantined: int


_ENCODER = msgspec.json.Encoder(decimal_format="number")

_STORE = """
with sent as (
  select * from unnest(%(source)s::text[], %(id)s::text[], %(subject)s::text[], %(type)s::text[],
                       %(occurred_at)s::timestamptz[], %(data)s::text[])
    with ordinality as e (source, id, subject, type, occurred_at, data, no)
), once as (
  select distinct on (source, id) * from sent order by source, id, no
), placed as (
  select o.source, o.id, o.subject, o.type, o.occurred_at, o.data::jsonb as data, c.id as customer_id, c.time_zone
  from once o
  left join customer_alias a on a.alias = o.subject
  left join customer c on c.id = coalesce(a.customer_id, o.subject)
), kept as (
  insert into usage_event (source, id, customer_id, type, occurred_at, day, data, meters)
  select source, id, customer_id, type, occurred_at, (occurred_at at time zone time_zone)::date, data,
         array(select m.id from meter m where m.event_type = p.type
               and jsonb_typeof(p.data -> m.quantity_field) = 'number' order by 1)
  from placed p where customer_id is not null order by source, id
  on conflict do nothing returning customer_id, day, data, meters
), counted as (
  select k.customer_id, m.id as meter_id, k.day, m.per_event, (k.data ->> m.quantity_field)::numeric as quantity,
         case when m.dimensions = '{}' then '{}' else coalesce(
           (select jsonb_object_agg(name, k.data ->> name) from unnest(m.dimensions) as d (name)
            where jsonb_typeof(k.data -> name) in ('string', 'number', 'boolean')
            and length(k.data ->> name) <= %(longest)s), '{}') end as properties
  from kept k join meter m on m.id = any(k.meters)
), folded as (
  insert into usage_total as t (customer_id, meter_id, day, properties, each, quantity, events)
  select customer_id, meter_id, day, properties, case when per_event then quantity else 0 end, sum(quantity), count(*)
  from counted group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5
  on conflict (customer_id, meter_id, day, properties, each) do update
    set quantity = t.quantity + excluded.quantity, events = t.events + excluded.events
), strange as (
  insert into usage_quarantine (source, id, subject, event, reason)
  select source, id, subject,
         jsonb_build_object('source', source, 'id', id, 'subject', subject, 'type', type,
                            'time', occurred_at, 'data', data), 'unknown customer'
  from placed where customer_id is null order by source, id
  on conflict do nothing returning 1
)
select (select count(*) from kept), (select count(*) from strange)
"""


def receive(session: Session, events: Sequence[Event]) -> Received:
    """Store a batch: each event once, attributed, and folded into the totals by the same statement.

    Duplicates are known by (source, id), whatever their content. An event of an unknown customer goes to
    quarantine. A meter counts an event only if the event has its quantity, as a number, and only from the meter's
    making on: what a stored event was counted by is written on it. Of the meter's dimensions, those count that the
    event has, as text, number or truth.
    """
    return _store(
        session,
        [(e.source, e.id, e.subject, e.type, e.occurred_at, _ENCODER.encode(e.data).decode()) for e in events],
    )


def _store(session: Session, sent: Sequence[tuple[str, str, str, str, datetime, str]]) -> Received:
    """Events as the columns of `_STORE`, their data as JSON text: numbers go in digit by digit."""
    columns = zip(*sent, strict=True) if sent else [()] * 6
    names = ("source", "id", "subject", "type", "occurred_at", "data")
    parameters = {name: list(column) for name, column in zip(names, columns, strict=True)}
    row = cursor(session).execute(_STORE, {**parameters, "longest": LONGEST_VALUE}).fetchone()
    assert row is not None
    accepted, quarantined = row
    return Received(accepted, len(sent) - accepted - quarantined, quarantined)


def replay(session: Session, subject: str | None, limit: int) -> Received:
    """Send quarantined events again, those of one subject or all; what fits now is stored and folded.

    Up to `limit`, those of subjects that are known by now first.
    """
    cur = cursor(session)
    rows = cur.execute(
        "select source, id, subject, event ->> 'type', (event ->> 'time')::timestamptz, event ->> 'data'"
        " from usage_quarantine q where replayed_at is null"
        " and (%(subject)s::text is null or subject = %(subject)s)"
        " order by exists (select from customer c where c.id = q.subject)"
        " or exists (select from customer_alias a where a.alias = q.subject) desc, source, id"
        " limit %(limit)s for update",
        {"subject": subject, "limit": limit},
    ).fetchall()
    outcome = _store(session, rows)
    cur.execute(
        "update usage_quarantine q set replayed_at = now() where replayed_at is null"
        " and (source, id) in (select * from unnest(%s::text[], %s::text[]))"
        " and exists (select from usage_event e where e.source = q.source and e.id = q.id)",
        ([source for source, *_ in rows], [key for _, key, *_ in rows]),
    )
    return Received(outcome.accepted, cur.rowcount - outcome.accepted, len(rows) - cur.rowcount)


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


def totals_of(session: Session, customer_ids: Sequence[str], since: date | None = None) -> dict[str, Totals]:
    """Folded usage of many customers: customer to (meter, day) to portions."""
    rows = cursor(session).execute(
        "select t.customer_id, t.meter_id, t.day, t.quantity, t.events, nullif(t.properties, '{}'),"
        " case when m.per_event then t.each end from usage_total t join meter m on m.id = t.meter_id"
        " where t.customer_id = any(%s) and (%s::date is null or t.day >= %s)",
        (list(customer_ids), since, since),
    )
    found: dict[str, dict[tuple[str, date], list[Portion]]] = {customer_id: {} for customer_id in customer_ids}
    for customer_id, meter, day, quantity, events, properties, each in rows:
        named = tuple(sorted(properties.items())) if properties else NO_PROPERTIES
        found[customer_id].setdefault((meter, day), []).append(Portion(quantity, events, named, each))
    return {customer_id: {key: tuple(some) for key, some in mine.items()} for customer_id, mine in found.items()}


def events_folded(session: Session, customer_ids: Sequence[str]) -> dict[str, Decimal]:
    """The quantities of the stored events added up afresh, by the meters that counted them: "customer meter" to sum."""
    rows = cursor(session).execute(
        "select e.customer_id || ' ' || m.id, sum((e.data ->> m.quantity_field)::numeric) from usage_event e"
        " join meter m on m.id = any(e.meters)"
        " where e.customer_id = any(%s) group by 1",
        (list(customer_ids),),
    )
    return dict(rows.fetchall())
