"""Folded usage: what meters counted, by local day for the bill, and by hour or minute for whoever looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, Session, SQLModel

from billing import usage
from billing.aggregation import APART, Kept
from billing.catalog import Meter
from billing.folding import Properties, Totals
from billing.period import instant
from billing.usage import NO_PROPERTIES, Portion
from billing.usage_proof import EventSet, Sets
from models.database import columns, cursor
from models.values import moment


class UsageTotal(SQLModel, table=True):
    """What a meter keeps of one local day of one customer, of events with the same properties (billing/aggregation.py).

    `properties` are the values of the meter's dimensions; `each` is the quantity of every one of these events, if the
    meter keeps events apart, or a digest of the value that is counted once, or the bucket of a percentile, or the
    minute since 1970 at which the window of a rate begins, else 0. `at` is the time of the latest event where the
    latest is kept, else before all time. `digest` is the sum of the digests of the events (billing/usage_proof.py).
    """

    __tablename__ = "usage_total"
    customer_id: str = Field(primary_key=True)
    meter_id: str = Field(primary_key=True)
    day: date = Field(primary_key=True)
    properties: Any = Field(primary_key=True, sa_type=JSONB)
    each: Decimal = Field(primary_key=True)
    quantity: Decimal
    events: int
    at: datetime = moment()
    digest: Decimal = Decimal(0)


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
    at: datetime = moment()


_DAYS = """
insert into usage_total as t (customer_id, meter_id, day, properties, each, quantity, events, at, digest)
select * from unnest(%s::text[], %s::text[], %s::date[], %s::jsonb[], %s::numeric[], %s::numeric[], %s::bigint[],
                     %s::timestamptz[], %s::numeric[])
order by 1, 2, 3, 4, 5
on conflict (customer_id, meter_id, day, properties, each) do update
  set quantity = {quantity}, events = t.events + excluded.events, at = greatest(t.at, excluded.at),
      digest = t.digest + excluded.digest
"""
_WINDOWS = """
insert into usage_window as t (customer_id, meter_id, starts_at, properties, each, quantity, events, at)
select * from unnest(%s::text[], %s::text[], %s::timestamptz[], %s::jsonb[], %s::numeric[], %s::numeric[],
                     %s::bigint[], %s::timestamptz[])
order by 1, 2, 3, 4, 5
on conflict (customer_id, meter_id, starts_at, properties, each) do update
  set quantity = {quantity}, events = t.events + excluded.events, at = greatest(t.at, excluded.at)
"""
_QUANTITY: dict[Kept, str] = {
    "added": "t.quantity + excluded.quantity",
    "max": "greatest(t.quantity, excluded.quantity)",
    "min": "least(t.quantity, excluded.quantity)",
    "latest": "case when excluded.at >= t.at then excluded.quantity else t.quantity end",
}


def add_days(session: Session, totals: Totals) -> None:
    """Add to the totals of days. Their rows are locked until the commit, in order, so that there is no dead-lock."""
    for kept, rows in _rows(totals, digests=True).items():
        cursor(session).execute(_DAYS.format(quantity=_QUANTITY[kept]), columns(rows, 9))


def add_windows(session: Session, totals: Totals) -> None:
    """Add to the totals of shorter windows, likewise."""
    for kept, rows in _rows(totals, digests=False).items():
        cursor(session).execute(_WINDOWS.format(quantity=_QUANTITY[kept]), columns(rows, 8))


def _rows(totals: Totals, *, digests: bool) -> dict[Kept, list[tuple[object, ...]]]:
    """By how a further event changes them, in one order for everybody."""
    found: dict[Kept, list[tuple[object, ...]]] = {}
    for (*who, start, properties, each), t in totals.items():
        row = (*who, start, _json(properties), each or Decimal(0), t.quantity, t.events, t.at or "-infinity")
        found.setdefault(t.kept, []).append((*row, t.digest) if digests else row)
    return {kept: found[kept] for kept in _QUANTITY if kept in found}


def _json(kept: Properties) -> str:
    return msgspec.json.encode(dict(kept)).decode() if kept else "{}"


def clear_days(
    session: Session, customer_id: str, between: tuple[date, date], where: ZoneInfo, meter_id: str | None = None
) -> None:
    """Take away the totals of a customer's days, the second not included, of one meter or all; to be counted afresh in
    the same transaction.
    """
    since, until = between
    asked = {
        "customer": customer_id,
        "meter": meter_id,
        "first": since,
        "last": until,
        "since": instant(since, where),
        "until": instant(until, where),
    }
    cur = cursor(session)
    mine = "customer_id = %(customer)s and (%(meter)s::text is null or meter_id = %(meter)s)"
    cur.execute(f"delete from usage_total where {mine} and day >= %(first)s and day < %(last)s", asked)
    cur.execute(f"delete from usage_window where {mine} and starts_at >= %(since)s and starts_at < %(until)s", asked)


def totals_of(session: Session, customer_ids: Sequence[str], since: date | None = None) -> dict[str, usage.Totals]:
    """Folded usage of many customers: customer to (meter, day) to portions."""
    return {customer_id: mine.totals for customer_id, mine in folded(session, customer_ids, since).items()}


@dataclass(frozen=True, slots=True)
class Folded:
    """One customer's usage: totals, and which set of events is behind those of each day.

    `snapshot` is PostgreSQL's word for the moment: a transaction's events are in these totals exactly if it sees the
    transaction.
    """

    totals: usage.Totals
    sets: Sets
    snapshot: str


def folded(session: Session, customer_ids: Sequence[str], since: date | None = None) -> dict[str, Folded]:
    """Folded usage of many customers, all of one moment."""
    rows = cursor(session).execute(
        "select t.customer_id, t.meter_id, t.day, t.quantity, t.events, nullif(t.properties, '{}'),"
        " case when m.per_event or m.aggregation = any(%s) then t.each end, m.aggregation, m.percent, t.digest, null"
        " from usage_total t join meter m on m.id = t.meter_id"
        " where t.customer_id = any(%s) and (%s::date is null or t.day >= %s)"
        # In the same statement, so that it is the moment of these totals.
        " union all select '', '', null, null, null, null, null, '', null, null, pg_current_snapshot()::text",
        (list(APART), list(customer_ids), since, since),
    )
    totals: dict[str, dict[tuple[str, date], list[Portion]]] = {customer_id: {} for customer_id in customer_ids}
    sets: dict[str, dict[tuple[str, date], EventSet]] = {customer_id: {} for customer_id in customer_ids}
    snapshot = ""
    for customer_id, meter, day, quantity, events, properties, each, aggregation, percent, digest, moment_ in rows:
        if moment_:
            snapshot = moment_
            continue
        named = tuple(sorted(properties.items())) if properties else NO_PROPERTIES
        portion = Portion(quantity, events, named, each, "", aggregation, percent)
        key = (meter, day)
        mine, its = totals[customer_id], sets[customer_id]
        if key in mine:
            mine[key].append(portion)
            its[key] = its[key] + EventSet(events, int(digest))
        else:
            mine[key] = [portion]
            its[key] = EventSet(events, int(digest))
    return {
        customer_id: Folded({key: tuple(some) for key, some in mine.items()}, sets[customer_id], snapshot)
        for customer_id, mine in totals.items()
    }


def windows_of(
    session: Session, customer_id: str, meter: Meter, where: ZoneInfo, since: date, until: date, *, short: bool
) -> list[tuple[datetime, Portion]]:
    """What a meter keeps of a customer's days, in order of time: by day, or by its short windows if they are asked for.

    Each with the start of its window, in UTC.
    """
    rows = cursor(session).execute(
        "select starts_at, quantity, events, nullif(properties, '{}'), each from usage_window"
        " where customer_id = %s and meter_id = %s and starts_at >= %s and starts_at < %s order by 1"
        if short
        else "select day, quantity, events, nullif(properties, '{}'), each from usage_total"
        " where customer_id = %s and meter_id = %s and day >= %s and day < %s order by 1",
        (customer_id, meter.meter_id, *((instant(since, where), instant(until, where)) if short else (since, until))),
    )
    apart = meter.aggregation in APART
    return [
        (
            start if short else instant(start, where),
            Portion(
                quantity,
                events,
                tuple(sorted(properties.items())) if properties else NO_PROPERTIES,
                each if apart else None,
                aggregation=meter.aggregation,
                percent=meter.percent,
            ),
        )
        for start, quantity, events, properties, each in rows
    ]


def events_folded(session: Session, customer_ids: Sequence[str]) -> dict[str, Decimal]:
    """The stored events that are not void counted afresh, by the meters that counted them: "customer meter" to the sum
    of the quantities of a meter that adds them up, and to the number of events of any other. With what was counted of
    months that were taken away.
    """
    rows = cursor(session).execute(
        "select customer_id || ' ' || meter_id, sum(quantity) from ("
        " select e.customer_id, m.id as meter_id,"
        " case when m.aggregation = 'sum' then (e.data ->> m.quantity_field)::numeric else 1 end as quantity"
        " from usage_event e join meter m on m.id = any(e.meters)"
        " where not exists (select from usage_void v where v.source = e.source and v.id = e.id)"
        " union all select customer_id, meter_id, quantity from usage_taken"
        ") counted where customer_id = any(%s) group by 1",
        (list(customer_ids),),
    )
    return dict(rows.fetchall())
