"""What ingest is compared with: raw COPY of the same events, and the shape that others have.

That shape is rows inserted a hundred at a time into a table with eight indexes, then a job for each with five queries.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import psycopg

from models import event
from models.event import Named

Event = dict[str, Any]
"""As it is sent."""
Make = Callable[[int], list[Event]]
Prepare = Callable[[int], Callable[[], float]]
"""Makes so many events ready to be written; then they are, and it is told how many seconds that took."""

_COLUMNS = "source text, id text, subject text, type text, time timestamptz, data "


def _rows(events: Sequence[Event]) -> list[tuple[str, ...]]:
    return [(*(e[name] for name in ("source", "id", "subject", "type", "time")), json.dumps(e["data"])) for e in events]


def _lines(events: Sequence[Event]) -> list[tuple[str, ...]]:
    return [(json.dumps(e),) for e in events]


def copies(url: str, make: Make) -> Iterator[tuple[str, Prepare, str]]:
    """What is copied into which table, and what share of it is to be reached: of what PostgreSQL has read, as it does
    with ours. Only the last keeps what ours keeps.
    """
    bare, reached = "into a table without any index", "at least 25%, goal 40%; "
    yield f"of the events as they were sent, as jsonb, {bare}", _raw(url, make, "event jsonb", _lines), reached
    yield f"of the same taken apart, as text, {bare}", _raw(url, make, f"{_COLUMNS} text", _rows), ""
    keyed = _raw(url, make, f"{_COLUMNS} jsonb, primary key (source, id)", _rows)
    yield "of the same taken apart, with jsonb, into one with a primary key", keyed, reached
    yield "of finished rows into the tables of events and of their names", _finished(url, make), reached


def _raw(url: str, make: Make, columns: str, rows: Callable[[Sequence[Event]], list[tuple[str, ...]]]) -> Prepare:
    """Into a table made for it."""

    def prepared(many: int) -> Callable[[], float]:
        with psycopg.connect(url) as connection:
            connection.execute("drop table if exists bare")
            connection.execute(f"create table bare ({columns})")
        return _ready(url, {"bare": rows(make(many))})

    return prepared


def _finished(url: str, make: Make) -> Prepare:
    return lambda many: _ready(url, _rows_of_ours(make(many)))


def _rows_of_ours(events: Sequence[Event]) -> dict[str, list[tuple[str, ...]]]:
    """Rows of the tables that taking in fills: nothing is left to be looked up, compared or added up."""
    named = Named.all_of(
        [event.Event(**{k: e[k] for k in _NAMES}, occurred_at=_time(e), data=e["data"]) for e in events]
    )
    kept = [
        (*(getattr(n.event, name) for name in _NAMES), n.at, str(_time(e).date()), json.dumps(e["data"]), _MARKS)
        for n, e in zip(named, events, strict=True)
    ]
    return {
        "usage_key (key, content, occurred_at)": [(n.key, str(n.content), n.at) for n in named],
        "usage_event (source, id, customer_id, type, occurred_at, day, data, meters)": kept,
    }


_NAMES = ("source", "id", "subject", "type")
_MARKS = "{input,output}"


def _time(event: Event) -> datetime:
    return datetime.fromisoformat(event["time"])


def _ready(url: str, tables: dict[str, list[tuple[str, ...]]]) -> Callable[[], float]:
    """Rows for each of these tables, a thousand of each a transaction; what is sent is ready beforehand."""
    many = len(next(iter(tables.values())))
    lines = {table: ["\t".join(row) + "\n" for row in rows] for table, rows in tables.items()}  # None needs escaping.
    thousands = [
        [(table, "".join(some[start : start + 1000])) for table, some in lines.items()]
        for start in range(0, many, 1000)
    ]
    return partial(_copied, url, thousands)


def _copied(url: str, thousands: Sequence[Sequence[tuple[str, str]]]) -> float:
    with _connected(url) as connection:
        begun = time.monotonic()
        for thousand in thousands:
            for table, text in thousand:
                with connection.cursor() as cursor, cursor.copy(f"copy {table} from stdin") as copy:
                    copy.write(text)
            connection.commit()
        return time.monotonic() - begun


def _connected(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, application_name="benchmark")


_JOB = (
    "select id, time_zone from customer where id = %(subject)s",
    "select id from meter where event_type = %(type)s",
    "select 1 from usual where source = %(source)s and id = %(id)s",
    "insert into usual_total as t values (%(subject)s, %(day)s, 1)"
    " on conflict (subject, day) do update set n = t.n + 1",
    "update usual set done = true where source = %(source)s and id = %(id)s",
)


def usual(url: str, make: Make) -> Prepare:
    """Without any network between it and PostgreSQL, which flatters it."""
    return lambda many: _usual(url, make(many))


def _usual(url: str, events: Sequence[Event]) -> Callable[[], float]:
    with psycopg.connect(url) as connection:
        connection.execute("drop table if exists usual, usual_total")
        connection.execute(f"create table usual ({_COLUMNS} text)")
        connection.execute("alter table usual add done boolean not null default false")
        connection.execute("create table usual_total (subject text, day date, n bigint, primary key (subject, day))")
        for columns in (
            "source, id",
            "subject",
            "time",
            "subject, time",
            "type",
            "type, time",
            "done",
            "subject, type",
        ):
            connection.execute(f"create {'unique' * (columns == 'source, id')} index on usual ({columns})")
    return partial(_inserted, url, events)


def _inserted(url: str, events: Sequence[Event]) -> float:
    with _connected(url) as connection:
        begun = time.monotonic()
        for start in range(0, len(events), 100):
            some = events[start : start + 100]
            with connection.cursor() as cursor:
                cursor.executemany("insert into usual values (%s, %s, %s, %s, %s, %s)", _rows(some))
            connection.commit()
            for e in some:
                for statement in _JOB:
                    connection.execute(statement, {**e, "day": e["time"][:10], "data": None})
                connection.commit()
        return time.monotonic() - begun
