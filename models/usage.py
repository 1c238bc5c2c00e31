"""Folded usage: what meters counted, by local day for the bill, and by hour or minute for whoever looks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, Session, SQLModel

from billing.folding import Properties, Sums
from billing.usage import NO_PROPERTIES, Portion, Totals
from models.database import columns, cursor
from models.values import moment


class UsageTotal(SQLModel, table=True):
    """A meter's sum over one local day of one customer, over events with the same properties.

    `properties` are the values of the meter's dimensions; `each` is the quantity of every one of these events, if the
    meter keeps events apart, else 0.
    """

    __tablename__ = "usage_total"
    customer_id: str = Field(primary_key=True)
    meter_id: str = Field(primary_key=True)
    day: date = Field(primary_key=True)
    properties: Any = Field(primary_key=True, sa_type=JSONB)
    each: Decimal = Field(primary_key=True)
    quantity: Decimal
    events: int


class UsageWindow(SQLModel, table=True):
    """The same over a shorter window: an hour or a minute of the customer's clock, as the meter says."""

    __tablename__ = "usage_window"
    customer_id: str = Field(primary_key=True)
    meter_id: str = Field(primary_key=True)
    starts_at: datetime = moment(primary_key=True)
    properties: Any = Field(primary_key=True, sa_type=JSONB)
    each: Decimal = Field(primary_key=True)
    quantity: Decimal
    events: int


_ADD = """
insert into {table} as t (customer_id, meter_id, {when}, properties, each, quantity, events)
select * from unnest(%s::text[], %s::text[], %s::{type}[], %s::jsonb[], %s::numeric[], %s::numeric[], %s::bigint[])
order by 1, 2, 3, 4, 5
on conflict (customer_id, meter_id, {when}, properties, each) do update
  set quantity = t.quantity + excluded.quantity, events = t.events + excluded.events
"""
_TO_DAYS = _ADD.format(table="usage_total", when="day", type="date")
_TO_WINDOWS = _ADD.format(table="usage_window", when="starts_at", type="timestamptz")


def add_days(session: Session, sums: Sums) -> None:
    """Add to the totals of days. Their rows are locked until the commit, in order, so that there is no dead-lock."""
    _add(session, _TO_DAYS, sums)


def add_windows(session: Session, sums: Sums) -> None:
    """Add to the totals of shorter windows, likewise."""
    _add(session, _TO_WINDOWS, sums)


def _add(session: Session, statement: str, sums: Sums) -> None:
    if sums:
        rows = (
            (customer_id, meter_id, when, _json(kept), each or Decimal(0), quantity, events)
            for (customer_id, meter_id, when, kept, each), (quantity, events) in sums.items()
        )
        cursor(session).execute(statement, columns(rows, 7))


def _json(kept: Properties) -> str:
    return msgspec.json.encode(dict(kept)).decode() if kept else "{}"


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
