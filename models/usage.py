"""Folded usage: what meters counted, by local day for the bill, and by hour or minute for whoever looks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, Session, SQLModel

from billing import usage
from billing.aggregation import APART, Kept
from billing.catalog import Meter
from billing.folding import Total, Totals, added, portion_of
from billing.period import instant
from billing.portion import NO_PROPERTIES, Course, Portion, Properties, TimeUnit
from billing.usage import BEFORE
from billing.usage_proof import EventSet, Sets
from models.database import Part, columns, cursor
from models.event import IS_VOID
from models.meter_version import versions
from models.slot import enter
from models.usage_rows import UsageRow, prepared_rows, usage_rows
from models.values import large, moment


class UsageTotal(SQLModel, table=True):
    """What a meter keeps of one local day of one customer, of events with the same properties (billing/aggregation.py).

    It is what the rows of all slots are together (models/slot.py). `properties` are the values of the meter's
    dimensions; `each` is the quantity of every one of these events, if the meter keeps events apart, or a digest of the
    value that is counted once, or the bucket of a percentile, or the minute since 1970 at which the window of a rate
    begins, else 0. `at` is the time of the latest event where the latest is kept, else before all time. `weighted` is
    the sum of the changes of a level, each times the seconds from the day's start to it. `digest` is the sum of the
    digests of the events (billing/usage_proof.py).
    """

    __tablename__ = "usage_total"
    customer_id: str = Field(primary_key=True)
    meter_id: str = Field(primary_key=True)
    day: date = Field(primary_key=True)
    properties: Any = Field(primary_key=True, sa_type=JSONB)
    each: Decimal = Field(primary_key=True)
    slot: int = Field(primary_key=True)
    quantity: Decimal
    events: int = large()
    at: datetime = moment()
    weighted: Decimal = Decimal(0)
    digest: Decimal = Decimal(0)


class UsageWindow(SQLModel, table=True):
    """The same over a shorter window: an hour or a minute of the customer's clock, as the meter says."""

    __tablename__ = "usage_window"
    customer_id: str = Field(primary_key=True)
    meter_id: str = Field(primary_key=True)
    starts_at: datetime = moment(primary_key=True)
    properties: Any = Field(primary_key=True, sa_type=JSONB)
    each: Decimal = Field(primary_key=True)
    slot: int = Field(primary_key=True)
    quantity: Decimal
    events: int = large()
    at: datetime = moment()
    weighted: Decimal = Decimal(0)


_DAYS = """
insert into usage_total as t
  (slot, customer_id, meter_id, day, properties, each, quantity, events, at, weighted, digest)
select * from slot, unnest(%s::text[], %s::text[], %s::date[], %s::jsonb[], %s::numeric[], %s::numeric[],
                           %s::bigint[], %s::timestamptz[], %s::numeric[], %s::numeric[])
order by 2, 3, 4, 5, 6
on conflict (customer_id, meter_id, day, properties, each, slot) do update
  set quantity = {quantity}, events = t.events + excluded.events, at = greatest(t.at, excluded.at),
      weighted = t.weighted + excluded.weighted, digest = t.digest + excluded.digest
"""
_WINDOWS = """
insert into usage_window as t
  (slot, customer_id, meter_id, starts_at, properties, each, quantity, events, at, weighted)
select * from slot, unnest(%s::text[], %s::text[], %s::timestamptz[], %s::jsonb[], %s::numeric[], %s::numeric[],
                           %s::bigint[], %s::timestamptz[], %s::numeric[])
order by 2, 3, 4, 5, 6
on conflict (customer_id, meter_id, starts_at, properties, each, slot) do update
  set quantity = {quantity}, events = t.events + excluded.events, at = greatest(t.at, excluded.at),
      weighted = t.weighted + excluded.weighted
"""
_QUANTITY: dict[Kept, str] = {
    "added": "t.quantity + excluded.quantity",
    "max": "greatest(t.quantity, excluded.quantity)",
    "min": "least(t.quantity, excluded.quantity)",
    "latest": "case when (t.at, t.quantity) < (excluded.at, excluded.quantity) then excluded.quantity else t.quantity"
    " end",
}


def add(session: Session, windows: Totals, days: Totals) -> None:
    """Add to the totals of short windows and of days."""
    enter(session, additions(windows, days))


def additions(windows: Totals, days: Totals) -> list[Part]:
    """The same, to be entered with something else."""
    return [
        *(Part(_WINDOWS.format(quantity=_QUANTITY[kept]), columns(rows, 9)) for kept, rows in _rows(windows).items()),
        *(
            Part(_DAYS.format(quantity=_QUANTITY[kept]), columns(rows, 10))
            for kept, rows in _rows(days, digests=True).items()
        ),
    ]


def _rows(totals: Totals, *, digests: bool = False) -> dict[Kept, list[tuple[object, ...]]]:
    """By how a further event changes them."""
    found: dict[Kept, list[tuple[object, ...]]] = {}
    for (*who, start, properties, each), t in totals.items():
        row = (
            *who,
            start,
            _json(properties),
            each or Decimal(0),
            t.quantity,
            t.events,
            t.at or "-infinity",
            t.weighted,
        )
        found.setdefault(t.kept, []).append((*row, t.digest) if digests else row)
    return {kept: found[kept] for kept in _QUANTITY if kept in found}


@lru_cache(maxsize=4096)
def _json(kept: Properties) -> str:
    return msgspec.json.encode(dict(kept)).decode() if kept else "{}"


def clear_days(
    session: Session,
    customer_id: str,
    between: tuple[date, date],
    where: ZoneInfo,
    series: Collection[str] | None = None,
) -> None:
    """Take away the totals of a customer's days, the second not included, of these series or all; to be counted afresh
    in the same transaction.
    """
    since, until = between
    asked = {
        "customer": customer_id,
        "series": None if series is None else list(series),
        "first": since,
        "last": until,
        "since": instant(since, where),
        "until": instant(until, where),
    }
    cur = cursor(session)
    mine = "customer_id = %(customer)s and (%(series)s::text[] is null or meter_id = any(%(series)s))"
    cur.execute(f"delete from usage_total where {mine} and day >= %(first)s and day < %(last)s", asked)
    cur.execute(f"delete from usage_window where {mine} and starts_at >= %(since)s and starts_at < %(until)s", asked)


def totals_of(
    session: Session, customer_ids: Sequence[str], since: date | None = None, until: date | None = None
) -> dict[str, usage.Totals]:
    """Folded usage of many customers: customer to (meter, day) to portions; of the days from `since` to before `until`.

    Of meters that carry over, what was before `since` is there too, under the day `BEFORE`.
    """
    return {customer_id: mine.totals for customer_id, mine in folded(session, customer_ids, since, until).items()}


@dataclass(frozen=True, slots=True)
class Folded:
    """One customer's usage: totals, and which set of events is behind those of each day (and of `BEFORE`).

    `snapshot` is PostgreSQL's word for the moment: a transaction's events are in these totals exactly if it sees the
    transaction.
    """

    totals: usage.Totals
    sets: Sets
    snapshot: str


def folded(
    session: Session, customer_ids: Sequence[str], since: date | None = None, until: date | None = None
) -> dict[str, Folded]:
    """Folded usage of many customers, all of one moment; for days as in `totals_of`."""
    found = usage_rows(session, customer_ids, since, until)
    return _by_customer(customer_ids, found.rows, found.snapshot)


def prepared_of(session: Session, customer_ids: Sequence[str], series: str) -> dict[str, usage.Totals]:
    """What a rebuild has counted so far, likewise."""
    rows = prepared_rows(session, customer_ids, series)
    return {customer_id: mine.totals for customer_id, mine in _by_customer(customer_ids, rows).items()}


def _by_customer(customer_ids: Sequence[str], rows: Iterable[UsageRow], snapshot: str = "") -> dict[str, Folded]:
    totals: dict[str, dict[tuple[str, date], list[Portion]]] = {customer_id: {} for customer_id in customer_ids}
    sets: dict[str, dict[tuple[str, date], EventSet]] = {customer_id: {} for customer_id in customer_ids}
    for row in rows:
        key, mine, its = (row.meter_id, row.day), totals[row.customer_id], sets[row.customer_id]
        mine.setdefault(key, []).append(_portion(row))
        if row.carries_over:
            mine.setdefault((row.meter_id, BEFORE), [])
            its.setdefault((row.meter_id, BEFORE), EventSet())
        its[key] = its.get(key, EventSet()) + EventSet(row.events, int(row.digest))
    return {
        customer_id: Folded({key: tuple(some) for key, some in mine.items()}, sets[customer_id], snapshot)
        for customer_id, mine in totals.items()
    }


def _portion(row: UsageRow) -> Portion:
    return Portion(
        quantity=row.quantity,
        events=row.events,
        properties=tuple(sorted(row.properties.items())) if row.properties else NO_PROPERTIES,
        each=row.each,
        aggregation=row.aggregation,
        percent=row.percent,
        weighted=row.weighted,
        course=_course(row.carries_over, row.operations, row.time_unit, row.time_zone),
    )


@lru_cache(maxsize=1024)
def _course(carries_over: bool, operations: bool, time_unit: TimeUnit | None, time_zone: str) -> Course | None:
    """The same one for all portions that go on alike; None of those that do not."""
    return Course(carries_over, operations, time_unit, time_zone) if carries_over or operations else None


def windows_of(
    session: Session, customer_id: str, meter: Meter, where: ZoneInfo, since: date, until: date, *, short: bool
) -> list[tuple[datetime, Portion]]:
    """What a meter keeps of a customer's days, in order of time: by day, or by its short windows if they are asked for.

    Each with the start of its window, in UTC.
    """
    table, start, of_day = (
        ("usage_window", "starts_at", "(t.starts_at at time zone %(zone)s)::date")
        if short
        else ("usage_total", "day", "t.day")
    )
    rows = cursor(session).execute(
        f"select n.version, t.{start}, nullif(t.properties, '{{}}'), t.each, t.quantity, t.events,"
        " nullif(t.at, '-infinity'), t.weighted"
        f" from {table} t join meter_span n on n.series = t.meter_id and {of_day} >= n.since and {of_day} < n.until"
        " where t.customer_id = %(customer)s and n.meter_id = %(meter)s"
        # A customer's rows are found by the names of the series, which the planner cannot know by itself.
        " and t.meter_id in (select series from meter_span where meter_id = %(meter)s)"
        f" and t.{start} >= %(since)s and t.{start} < %(until)s order by 2",
        {
            "zone": where.key,
            "customer": customer_id,
            "meter": meter.meter_id,
            "since": instant(since, where) if short else since,
            "until": instant(until, where) if short else until,
        },
    )
    # Versions stay, so whichever held when the rows were read is there.
    counted_by = {row.version: one for row, one in versions(session, meter.meter_id)}
    found: dict[tuple[int, datetime | date, Properties, Decimal], Total] = {}
    for version, begin, properties, each, quantity, events, at, weighted in rows:
        place = version, begin, tuple(sorted(properties.items())) if properties else NO_PROPERTIES, each
        total = Total(quantity, events, counted_by[version].kept, at, weighted)
        found[place] = added(found[place], total) if place in found else total
    portions: list[tuple[datetime, Portion]] = []
    for (version, begin, named, each), total in found.items():
        way = counted_by[version]
        portion = portion_of(way, where.key, named, each if way.aggregation in APART else None, total)
        portions.append((begin if isinstance(begin, datetime) else instant(begin, where), portion))
    return portions


def level_before(session: Session, customer_id: str, meter: Meter, day: date) -> tuple[Portion, ...]:
    """What a meter that carries over has of the time before a customer's day."""
    return totals_of(session, [customer_id], day, day)[customer_id].get((meter.meter_id, BEFORE), ())


def totals_folded(session: Session, customer_ids: Sequence[str]) -> dict[str, Decimal]:
    """What all totals add up to, "customer meter" to the quantity or number that `events_folded` proves."""
    rows = cursor(session).execute(
        "select t.customer_id || ' ' || d.meter_id, sum(case when proved_by_sum(d.m) then t.quantity else t.events end)"
        " from usage_total t join meter_days d on d.series = t.meter_id and t.day >= d.since and t.day < d.until"
        " where t.customer_id = any(%s) group by 1",
        (list(customer_ids),),
    )
    return dict(rows.fetchall())


def events_folded(session: Session, customer_ids: Sequence[str]) -> dict[str, Decimal]:
    """The stored events that are not void counted afresh, by the meters that counted them: "customer meter" to the sum
    of the quantities of a meter that adds up a field, and to the number of events of any other. With what was counted
    of months that were taken away.
    """
    rows = cursor(session).execute(
        "select customer_id || ' ' || meter_id, sum(quantity) from ("
        " select e.customer_id, d.meter_id,"
        " case when proved_by_sum(d.m) then (e.data ->> (d.m).quantity_field)::numeric else 1 end as quantity"
        " from usage_event e cross join lateral unnest(counted_by(e.meters)) as c (meter_id)"
        " join meter_days d on d.meter_id = c.meter_id and e.day >= d.since and e.day < d.until"
        f" where not {IS_VOID}"
        " union all select customer_id, meter_id, quantity from usage_taken where meter_id <> ''"
        ") counted where customer_id = any(%s) group by 1",
        (list(customer_ids),),
    )
    return dict(rows.fetchall())
