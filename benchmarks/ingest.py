"""Events a second, through the front door: a server process of its own, PostgreSQL, and a caller, all on this machine.

Beside it, in the same run, what to compare with (benchmarks/shapes.py).
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psycopg

from benchmarks import load
from benchmarks.measuring import cpu_of_tree
from benchmarks.shapes import Event, copies, usual
from benchmarks.statements import logged
from benchmarks.waits import watched
from models.api_key import create_key
from models.database import open_engine, transaction
from sandbox import running
from sandbox.stack import Stack

CUSTOMERS = 200
METERS = ("input", "output")
CONNECTIONS = 32
"""Over which the caller sends, one request after another on each."""
TURNS = 5
"""So often ours and COPY are measured one after another, of which the median counts."""
API, CALLER = "perennial api", "benchmark"
"""Who sends statements."""

Work = Callable[[], float]
"""What is measured, all of it ready; how many seconds it took."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one measurement: events a second, and by event what it cost the server process and PostgreSQL."""

    rate: float
    server_us: float
    postgres_us: float
    wal_bytes: float
    commits: float
    statements: float

    def __str__(self) -> str:
        server = f"server {self.server_us:.0f} µs, " if self.server_us >= 1 else ""
        return (
            f"{self.rate:,.0f}/s ({server}PostgreSQL {self.postgres_us:.0f} µs, WAL {self.wal_bytes:,.0f} bytes,"
            f" {self.statements:.4f} statements, {self.commits:.4f} commits)"
        )


class Subject:
    """What is measured: a running stack, and its events so far."""

    def __init__(self, stack: Stack) -> None:
        self.url = stack.environment["DATABASE_URL"]
        self.door = f"{stack.addresses.api_url}/v1/events"
        record = running.read_record(stack.folder)
        pids = {child.name: child.pid for child in record.children} if record else {}
        self._api, self._postgres = pids["api"], pids["PostgreSQL"]
        self._log = stack.log("postgres")
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

    def events(self, many: int, hot: float = 0.0) -> list[Event]:
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

    def sending(self, at_once: int, hot: float = 0.0, connections: int = CONNECTIONS) -> Callable[[int], Work]:
        """For `cost`: many events, so many at once, a share of them of one customer."""
        return lambda many: partial(self.send, self.bodies(many, at_once, hot), connections)

    def send(self, bodies: Sequence[bytes], connections: int = CONNECTIONS) -> float:
        """Seconds. Raises RuntimeError unless all were taken in."""
        run = load.run(self.door, self.key, bodies, connections)
        if run.statuses != {200: len(bodies)}:
            raise RuntimeError(f"not all were taken in: {run.statuses}")
        return run.seconds

    def cost(self, many: int, prepared: Callable[[int], Work], sender: str = API) -> Figures:
        """Of so many events; how many statements it takes is counted with a tenth as many, for that takes time too."""
        work, few = prepared(many), max(1000, many // 10)
        with psycopg.connect(self.url, autocommit=True) as connection:
            before = self._spent(connection)
            seconds = work()
            after = self._spent(connection)
        server, postgres, wal, commits = ((b - a) / many for a, b in zip(before, after, strict=True))
        work = prepared(few)
        with logged(self.url, self._log, sender) as statements:
            work()
            each = statements.many() / few
        return Figures(many / seconds, server * 1e6, postgres * 1e6, wal, commits, each)

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
    subject.send(subject.bodies(events, 1000))
    yield _line("ingest by one API process, 1,000 events a request", subject.cost(2 * events, subject.sending(1000)))
    yield _line("... 100 a request", subject.cost(events, subject.sending(100)))
    yield _line("... 1 a request", subject.cost(max(500, events // 10), subject.sending(1)))


def _measured(subject: Subject, events: int) -> Iterator[str]:
    subject.send(subject.bodies(events, 1000))
    even = subject.cost(2 * events, subject.sending(1000))
    yield _line("ingest by two, 1,000 events a request", even, "25,000/s; goal 45,000/s")
    hot = subject.cost(2 * events, subject.sending(1000, hot=0.9))
    yield _line("... 90% of them of one customer", hot, f"70% of the even rate; it is {hot.rate / even.rate:.0%}")
    yield _line("... 100 a request", subject.cost(events, subject.sending(100)), "12,000/s; goal 25,000/s")
    for connections in (16, CONNECTIONS, 64):
        one = subject.cost(max(500, events // 10), subject.sending(1, connections=connections))
        yield _line(f"... 1 a request, by {connections} connections", one, "1,500/s by 16 to 64; goal 4,000/s")
    for at_once, many in ((1000, events), (100, events), (1, max(500, events // 20))):
        with watched(subject.url) as waits:
            subject.send(subject.bodies(many, at_once, hot=0.9))
        yield f"| waits for locks meanwhile, 90% of one customer, {at_once:,} a request | {waits} | a few ms |"
    known = subject.bodies(2 * events, 1000)
    subject.send(known)
    again = subject.cost(2 * events, lambda many: partial(subject.send, known[: many // 1000]))
    yield _line("1,000 a request, of which all were sent before", again, "goal at most 1.2 times the cost")
    yield from _beside_copy(subject, 2 * events)
    found = subject.cost(max(500, events // 20), usual(subject.url, subject.events), CALLER)
    times = f"at most a tenth of it; it is {even.rate / found.rate:.0f} times that"
    yield _line("eight indexes, and five queries per event", found, times)


def _beside_copy(subject: Subject, many: int) -> Iterator[str]:
    """What raw COPY costs, and ours as a share of it: turn about, since machines change their speed within minutes."""
    raw = [*copies(subject.url, subject.events)]
    turns = [(subject.sending(1000)(many)(), [prepared(many)() for _, prepared, _ in raw]) for _ in range(TURNS)]
    for no, (name, prepared, reached) in enumerate(raw):
        shares = sorted(copied[no] / ours for ours, copied in turns)
        share = f"ours is {median(shares):.0%} of it, {shares[0]:.0%} to {shares[-1]:.0%} in {TURNS} turns"
        yield _line(f"raw COPY {name}", subject.cost(many, prepared, CALLER), reached + share)


def _line(what: str, found: Figures, goal: str = "") -> str:
    return f"| {what} | {found} | {goal} |"
