"""Months of events: which wait for a partition, what those that were taken away add up to, and how long their events
are known by name.

What events are is in event.py; how a month is made and taken away, in the migrations.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

from sqlmodel import Field, Session, SQLModel

from billing.errors import Fault, Refused
from models.database import connection, cursor
from models.event import IS_VOID
from models.values import large

ROWS_AT_ONCE = 5_000


class UsageTaken(SQLModel, table=True):
    """A customer had events in a month (in UTC) that was taken away, so its days cannot be counted anew.

    There is one row with an empty `meter_id` that says no more than that, whether a meter counted them or not; its
    numbers are 0. And there is one for each meter that counted some, void ones apart: how many (`events`), and in
    `quantity` what proves the meter's totals: the sum, where it adds quantities up, else again how many.
    """

    __tablename__ = "usage_taken"
    month: date = Field(primary_key=True)
    customer_id: str = Field(primary_key=True)
    meter_id: str = Field(primary_key=True)
    quantity: Decimal
    events: int = large()


class KeptEvent(NamedTuple):
    """An event of a month's table; `data` is JSON as it was sent, `void` says that it does not count any more."""

    source: str
    id: str
    customer_id: str
    type: str
    occurred_at: datetime
    received_at: datetime
    day: date
    data: str
    meters: list[str]
    void: bool


def kept(session: Session, month: date) -> Iterator[list[KeptEvent]]:
    """All events that lie in the table of a month (in UTC), taken away or not; some thousands at a time."""
    table = f"usage_event_{month:%Y_%m}"
    [(there,)] = cursor(session).execute("select to_regclass(%s) is not null", (table,))
    if not there:
        raise Refused(
            f"There is no table {table}.",
            code="not_found",
            faults=[Fault("month", "has no table of its own, or it was dropped")],
            remedy="Name a month that has one.",
        )
    return _pieces(session, table)


def _pieces(session: Session, table: str) -> Iterator[list[KeptEvent]]:
    with connection(session).cursor(name="events_of_month") as rows:
        rows.execute(
            "select source, id, customer_id, type, occurred_at, received_at, day, data::text, counted_by(meters),"
            f" {IS_VOID} from {table} e"
        )
        while some := rows.fetchmany(ROWS_AT_ONCE):
            yield [KeptEvent(*row) for row in some]


def crowded(session: Session, most: int) -> list[date]:
    """Months (in UTC) without a partition of which more than `most` events have come.

    Those of a month whose partition was taken away and kept beside stay where they are.
    """
    rows = cursor(session).execute(
        "select month from ("
        "select date_trunc('month', occurred_at at time zone 'UTC')::date as month, count(*) as events"
        " from usage_event_other group by 1) m"
        " where events > %s and to_regclass('usage_event_' || to_char(month, 'YYYY_MM')) is null order by 1",
        (most,),
    )
    return [month for (month,) in rows]


def refuse_taken(session: Session, customer_ids: Collection[str], first: date, last: date) -> None:
    """Refuse to count local days anew of which events lie, or may lie, in a month that was taken away."""
    row = (
        cursor(session)
        .execute(
            "select min(month) from usage_taken where customer_id = any(%s)"
            " and month >= date_trunc('month', %s::date - 1) and month <= %s::date + 1",
            (list(customer_ids), first, last),
        )
        .fetchone()
    )
    if row and row[0]:
        raise Refused(
            f"Events of {row[0]:%Y-%m} were taken away, so these days cannot be counted anew.",
            code="month_taken_away",
            remedy="Credit the difference on an invoice, or choose other days.",
        )


def pages_of_names(session: Session) -> int:
    """How many pages of the table hold the names by which events are known again."""
    row = (
        cursor(session).execute("select pg_relation_size('usage_key') / current_setting('block_size')::int").fetchone()
    )
    assert row is not None
    return int(row[0])


def forget_names(session: Session, pages: tuple[int, int], before: datetime) -> int:
    """Forget the names, in these pages of their table (the second not included), of events of a time before that lie in
    no month any more and are neither void nor discarded; how many they were.

    Whether a month is still there and which names there are is seen at one moment: of an event that comes meanwhile the
    name stays.
    """
    first, last = pages
    found = cursor(session).execute(
        "with there as (select to_date(right(inhrelid::regclass::text, 7), 'YYYY_MM') as month from pg_inherits"
        " where inhparent = 'usage_event'::regclass and inhrelid <> 'usage_event_other'::regclass"
        " union select date_trunc('month', occurred_at at time zone 'UTC')::date from usage_event_other)"
        " delete from usage_key where ctid >= %(first)s::tid and ctid < %(last)s::tid and occurred_at < %(before)s"
        " and date_trunc('month', occurred_at at time zone 'UTC')::date not in (select month from there)"
        " and not exists (select from usage_void where usage_key_of(source, id) = key)"
        " and not exists (select from usage_quarantine where discarded_at is not null"
        " and usage_key_of(source, id) = key)",
        {"first": f"({first},0)", "last": f"({last},0)", "before": before},
    )
    return found.rowcount


def forget_quarantined(session: Session) -> None:
    """Forget what waited in quarantine once and was taken in, if its name is forgotten."""
    cursor(session).execute(
        "delete from usage_quarantine where replayed_at is not null"
        " and not exists (select from usage_key where key = usage_key_of(source, id))"
    )
