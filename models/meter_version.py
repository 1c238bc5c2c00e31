"""Versions of meters, and which series of totals holds which days (billing/counting.py says what a series is).

How days are counted anew is in models/rebuild.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from psycopg.rows import TupleRow
from sqlalchemy import Column
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, Session, SQLModel

from billing.catalog import Meter
from billing.counting import Counting, Series, Span
from billing.errors import NotFound
from models.catalog import columns_of, live_meters, meter_from
from models.database import cursor
from models.values import moment


class MeterVersion(SQLModel, table=True):
    """How a meter counted from a day on; the first version is made with the meter, by the database."""

    __tablename__ = "meter_version"
    meter_id: str = Field(primary_key=True, foreign_key="meter.id")
    version: int = Field(primary_key=True)
    since: date
    content: Any = Field(sa_column=Column(JSONB, nullable=False))
    made_at: datetime = moment()
    made_with: str


class MeterSpan(SQLModel, table=True):
    """Days of a meter, from `since` up to before `until`, that a series holds."""

    __tablename__ = "meter_span"
    meter_id: str = Field(primary_key=True, foreign_key="meter_version.meter_id")
    since: date = Field(primary_key=True)
    until: date
    series: str
    version: int = Field(foreign_key="meter_version.version")


def meter(session: Session, meter_id: str) -> Meter:
    """The meter in its newest version."""
    found = next((one for one in live_meters(session) if one.meter_id == meter_id), None)
    if found is None:
        raise NotFound("meter", meter_id)
    return found


_COUNTING = f"""
select n.series, n.since, n.until, false, {columns_of("m")}
  from meter_span n join meter m on m.id = n.meter_id and m.version = n.version
union all
select n.series, n.since, n.until, false, {columns_of("c")}
  from meter_span n join meter m on m.id = n.meter_id and m.version <> n.version
  join meter_version v on v.meter_id = n.meter_id and v.version = n.version
  cross join lateral jsonb_populate_record(m, v.content) c
union all
select r.series, r.since, r.until, true, {columns_of("c")}
  from meter_rebuild r join meter m on m.id = r.meter_id cross join lateral jsonb_populate_record(m, r.content) c
  where r.settled_at is null and r.opened_at is not null and r.applied_at is null and r.dropped_at is null
"""


def counting(session: Session) -> Counting:
    """Into which totals events go. Whoever adds to them reads this under their lock."""
    return _made.of(cursor(session).execute(_COUNTING).fetchall())


class _Made:
    """What was made of the rows that were read last. They are read for each transaction, and hardly ever change."""

    def __init__(self) -> None:
        self._last: tuple[Sequence[TupleRow], Counting] | None = None

    def of(self, rows: Sequence[TupleRow]) -> Counting:
        last = self._last
        if last is None or last[0] != rows:
            last = self._last = rows, _counting(rows)
        return last[1]


_made = _Made()


def _counting(rows: Sequence[TupleRow]) -> Counting:
    series = tuple(
        sorted(
            (Series(name, meter_from(row), since, until, prepared) for name, since, until, prepared, *row in rows),
            key=lambda one: (one.meter.meter_id, one.since, one.name),
        )
    )
    # The last days of every meter are those of its newest version.
    newest = {one.meter.meter_id: one.meter for one in series if not one.prepared}
    return Counting(tuple(newest.values()), series)


def spans(session: Session, meter_id: str) -> tuple[Span, ...]:
    """Which series holds which days of a meter, in order."""
    rows = cursor(session).execute(
        "select since, until, series, version from meter_span where meter_id = %s order by since", (meter_id,)
    )
    return tuple(Span(*row) for row in rows)


def put_spans(session: Session, meter_id: str, found: Sequence[Span]) -> None:
    """Replace them, in the transaction in which other totals are to hold."""
    cur = cursor(session)
    cur.execute("delete from meter_span where meter_id = %s", (meter_id,))
    cur.executemany(
        "insert into meter_span (meter_id, since, until, series, version) values (%s, %s, %s, %s, %s)",
        [(meter_id, one.since, one.until, one.series, one.version) for one in found],
    )


def versions(session: Session, meter_id: str) -> list[tuple[MeterVersion, Meter]]:
    """Every version of a meter, the first one first, and how it counts or counted."""
    rows = cursor(session).execute(
        f"select v.version, v.since, v.made_at, v.made_with, {columns_of('c')} from meter_version v"
        " join meter m on m.id = v.meter_id cross join lateral jsonb_populate_record(m, v.content) c"
        " where v.meter_id = %s order by v.version",
        (meter_id,),
    )
    return [
        (
            MeterVersion(meter_id=meter_id, version=no, since=since, content={}, made_at=at, made_with=by),
            meter_from(row),
        )
        for no, since, at, by, *row in rows
    ]
