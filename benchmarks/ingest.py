"""Events a second, through the front door: a server process of its own, PostgreSQL, and a caller, all on this machine.

Beside it, in the same run, what to compare with: raw COPY of the bytes that were sent, and of rows made of them; and
the shape that others have (rows inserted a hundred at a time into a table with eight indexes, then a job for each with
five queries).
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psycopg

from benchmarks import load
from benchmarks.measuring import cpu_of_tree
from benchmarks.waits import watched
from models.api_key import create_key
from models.database import open_engine, transaction
from models.event import Event, Named
from sandbox import running
from sandbox.stack import Stack

CUSTOMERS = 200
METERS = ("input", "output")
CONNECTIONS = 32
"""Over which the caller sends, one request after another on each."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one measurement: events a second, and by event what it cost the server process and PostgreSQL."""

    rate: float
    server_us: float
    postgres_us: float
    wal_bytes: float
    commits: float


class Subject:
    """What is measured: a running stack, and its events so far."""

    def __init__(self, stack: Stack) -> None:
        self.url = stack.environment["DATABASE_URL"]
        self.door = f"{stack.addresses.api_url}/v1/events"
        record = running.read_record(stack.folder)
        pids = {child.name: child.pid for child in record.children} if record else {}
        self._api, self._postgres = pids["api"], pids["PostgreSQL"]
        self._no = count()
        self._dice = random.Random(4)
        engine = open_engine(self.url, pool=2)
        with transaction(engine) as session:
            self.key = create_key(session, "benchmark", ["admin"])
        engine.dispose()
        self._prepare(stack.addresses.api_url)

    def _prepare(self, url: str) -> None:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {self.key}"}) as api:
            for name in METERS:
                meter = {"id": name, "name": name, "event_type": "llm", "quantity_field": name, "dimensions": ["model"]}
                api.post("/v1/meters", json=meter).raise_for_status()
            for no in range(CUSTOMERS):
                facts = {"id": f"c{no:04}", "name": "Kunde", "email": "k@k.example", "country": "DE"}
                zone = {"time_zone": "Europe/Berlin"}
                api.post("/v1/customers", json=facts | zone).raise_for_status()

    def events(self, many: int, hot: float = 0.0) -> list[dict[str, Any]]:
        """Of the last hours, of any customer; or so large a share of them of one."""
        now = datetime.now(UTC)
        return [
            {
                "source": "gateway",
                "id": f"{next(self._no):09}-{self._dice.getrandbits(64):016x}",
                "subject": "c0000" if self._dice.random() < hot else f"c{self._dice.randrange(CUSTOMERS):04}",
                "type": "llm",
                "time": (now - timedelta(seconds=self._dice.randrange(7200))).isoformat(),
                "data": {"input": self._dice.randrange(4000), "output": self._dice.randrange(900), "model": "large"},
            }
            for _ in range(many)
        ]

    def bodies(self, many: int, at_once: int, hot: float = 0.0) -> list[bytes]:
        return [json.dumps({"events": self.events(at_once, hot)}).encode() for _ in range(many // at_once)]

    def send(self, bodies: Sequence[bytes], at_once: int) -> Figures:
        """Raises RuntimeError unless all were taken in."""
        events = len(bodies) * at_once
        with psycopg.connect(self.url, autocommit=True) as connection:
            before = self._spent(connection)
            run = load.run(self.door, self.key, bodies, CONNECTIONS)
            after = self._spent(connection)
        if run.statuses != {200: len(bodies)}:
            raise RuntimeError(f"not all were taken in: {run.statuses}")
        server, postgres, wal, commits = ((b - a) / events for a, b in zip(before, after, strict=True))
        return Figures(events / run.seconds, server * 1e6, postgres * 1e6, wal, commits)

    def _spent(self, connection: psycopg.Connection[Any]) -> tuple[float, float, float, float]:
        """CPU seconds of the server and of PostgreSQL, bytes of WAL, commits."""
        row = connection.execute(
            "select (pg_current_wal_lsn() - '0/0')::float, xact_commit::float"
            " from pg_stat_database where datname = current_database()"
        ).fetchone()
        assert row is not None
        return cpu_of_tree(self._api), cpu_of_tree(self._postgres), *row


def measure(events: int) -> Iterator[str]:
    """Lines of text for the table of results. `events` is how many each measurement sends, at the least."""
    with _subject(processes=1) as subject:
        yield from _by_one_process(subject, events)
    with _subject(processes=2) as subject:
        yield from _measured(subject, events)


@contextmanager
def _subject(processes: int) -> Iterator[Subject]:
    """A stack of its own, whose API is served by so many processes."""
    os.environ["API_PROCESSES"] = str(processes)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)  # PostgreSQL's own user must pass.
        with Stack(Path(folder) / "stack") as stack:  # Kept, so what is committed is on disk.
            yield Subject(stack)


def _by_one_process(subject: Subject, events: int) -> Iterator[str]:
    subject.send(subject.bodies(events, 1000), 1000)
    yield _line(
        "ingest by one API process, 1,000 events a request", subject.send(subject.bodies(2 * events, 1000), 1000)
    )
    yield _line("... 100 a request", subject.send(subject.bodies(events, 100), 100))
    yield _line("... 1 a request", subject.send(subject.bodies(max(500, events // 10), 1), 1))


def _measured(subject: Subject, events: int) -> Iterator[str]:
    subject.send(subject.bodies(events, 1000), 1000)
    thousand = subject.bodies(2 * events, 1000)
    even = subject.send(thousand, 1000)
    yield _line("ingest by two, 1,000 events a request", even, "25,000/s; goal 45,000/s")
    hot = subject.send(subject.bodies(2 * events, 1000, hot=0.9), 1000)
    yield _line("... 90% of them of one customer", hot, f"70% of the even rate; it is {hot.rate / even.rate:.0%}")
    hundred = subject.send(subject.bodies(events, 100), 100)
    yield _line("... 100 a request", hundred, "12,000/s; goal 25,000/s")
    one = subject.send(subject.bodies(max(500, events // 10), 1), 1)
    yield _line("... 1 a request", one, "1,500/s; goal 4,000/s")
    for at_once, many in ((1000, events), (100, events), (1, max(500, events // 20))):
        with watched(subject.url) as waits:
            subject.send(subject.bodies(many, at_once, hot=0.9), at_once)
        yield f"| waits for locks meanwhile, 90% of one customer, {at_once:,} a request | {waits} | a few ms |"
    again = subject.send(thousand, 1000)
    yield _line("1,000 a request, of which all were sent before", again, "goal at most 1.2 times the cost")
    for name, copied, reached in _copied_raw(subject, 2 * events):
        yield f"| raw COPY {name} | {copied:,.0f}/s | {reached}ours is {even.rate / copied:.0%} of it |"
    usual = _usual_shape(subject, max(500, events // 20))
    times = f"at most a tenth of it; it is {even.rate / usual:.0f} times that"
    yield f"| eight indexes, and five queries per event | {usual:,.0f}/s | {times} |"


def _line(what: str, found: Figures, goal: str = "") -> str:
    spent = f"server {found.server_us:.0f} µs, PostgreSQL {found.postgres_us:.0f} µs, WAL {found.wal_bytes:,.0f} bytes"
    return f"| {what} | {found.rate:,.0f}/s ({spent}, {found.commits:.4f} commits) | {goal} |"


_COLUMNS = "source text, id text, subject text, type text, time timestamptz, data "


def _rows(events: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [(*(e[name] for name in ("source", "id", "subject", "type", "time")), json.dumps(e["data"])) for e in events]


def _lines(events: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [(json.dumps(e),) for e in events]


def _copied_raw(subject: Subject, many: int) -> Iterator[tuple[str, float, str]]:
    """What is copied into which table, how many events a second, and what share of it is to be reached, where
    duplicates could be told. Only the last keeps what ours keeps.
    """
    bare, told = "into a table without any index", "at least 25%, goal 40%; "
    yield f"of the events as they were sent, as jsonb, {bare}", _raw_copy(subject, "event jsonb", _lines, many), ""
    yield f"of the same taken apart, as text, {bare}", _raw_copy(subject, f"{_COLUMNS} text", _rows, many), ""
    keyed = _raw_copy(subject, f"{_COLUMNS} jsonb, primary key (source, id)", _rows, many)
    yield "of the same taken apart, with jsonb, into one with a primary key", keyed, told
    yield "of finished rows into the tables of events and of their names", _same_tables(subject, many), told


def _raw_copy(
    subject: Subject, columns: str, rows: Callable[[Sequence[dict[str, Any]]], list[tuple[str, ...]]], many: int
) -> float:
    """Into a table made for it."""
    with psycopg.connect(subject.url) as connection:
        connection.execute("drop table if exists bare")
        connection.execute(f"create table bare ({columns})")
        connection.commit()
        return _copied(connection, {"bare": rows(subject.events(many))})


def _same_tables(subject: Subject, many: int) -> float:
    """Into those that taking in fills, as rows that are ready: nothing is looked up, compared or added up."""
    events = subject.events(many)
    named = [Named.of(Event(**{k: e[k] for k in _NAMES}, occurred_at=_time(e), data=e["data"])) for e in events]
    kept = [
        (*(getattr(n.event, name) for name in _NAMES), n.at, str(_time(e).date()), json.dumps(e["data"]), _MARKS)
        for n, e in zip(named, events, strict=True)
    ]
    with psycopg.connect(subject.url) as connection:
        return _copied(
            connection,
            {
                "usage_key (key, content, occurred_at)": [(n.key, str(n.content), n.at) for n in named],
                "usage_event (source, id, customer_id, type, occurred_at, day, data, meters)": kept,
            },
        )


_NAMES = ("source", "id", "subject", "type")
_MARKS = "{input,output}"


def _time(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["time"])


def _copied(connection: psycopg.Connection[Any], tables: dict[str, list[tuple[str, ...]]]) -> float:
    """Rows a second into each of these tables, a thousand of each a transaction; what is sent is ready beforehand."""
    many = len(next(iter(tables.values())))
    lines = {table: ["\t".join(row) + "\n" for row in rows] for table, rows in tables.items()}  # None needs escaping.
    ready = [
        [(table, "".join(some[start : start + 1000])) for table, some in lines.items()]
        for start in range(0, many, 1000)
    ]
    begun = time.monotonic()
    for thousand in ready:
        for table, text in thousand:
            with connection.cursor() as cursor, cursor.copy(f"copy {table} from stdin") as copy:
                copy.write(text)
        connection.commit()
    return many / (time.monotonic() - begun)


_JOB = (
    "select id, time_zone from customer where id = %(subject)s",
    "select id from meter where event_type = %(type)s",
    "select 1 from usual where source = %(source)s and id = %(id)s",
    "insert into usual_total as t values (%(subject)s, %(day)s, 1)"
    " on conflict (subject, day) do update set n = t.n + 1",
    "update usual set done = true where source = %(source)s and id = %(id)s",
)


def _usual_shape(subject: Subject, many: int) -> float:
    """Without any network between it and PostgreSQL, which flatters it."""
    events = subject.events(many)
    with psycopg.connect(subject.url) as connection:
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
        connection.commit()
        begun = time.monotonic()
        for start in range(0, many, 100):
            some = events[start : start + 100]
            with connection.cursor() as cursor:
                cursor.executemany("insert into usual values (%s, %s, %s, %s, %s, %s)", _rows(some))
            connection.commit()
            for e in some:
                for statement in _JOB:
                    connection.execute(statement, {**e, "day": e["time"][:10], "data": None})
                connection.commit()
        return many / (time.monotonic() - begun)
