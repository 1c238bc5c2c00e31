"""What it costs to know every event that ever came, as there are more and more of them.

A batch of names is entered as taking in does it (models/event.py): all of them new, and all of them again. Names are
digests, so a batch falls anywhere in the index, however it has grown. After a checkpoint PostgreSQL writes each page of
the index whole when it is changed for the first time; so new names are measured then, and once most pages were changed.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from sqlalchemy import Engine

from benchmarks.measuring import cpu_of_tree
from models.database import open_engine, transaction
from models.event import Event, Named, take_keys
from models.migrations import migrate
from sandbox.postgres import Postgres

BATCH = 1_000
TOUCHING = 60
"""One new name for each 60 known ones falls on nearly every page of the index, each of which holds some 180."""
GROWN_AT_ONCE = 1_000_000
MOMENT = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one name: milliseconds of waiting for a thousand, microseconds of PostgreSQL's CPU, bytes of WAL."""

    milliseconds: float
    cpu_us: float
    wal_bytes: float

    def __str__(self) -> str:
        return (
            f"{self.milliseconds:.1f} ms a thousand, PostgreSQL {self.cpu_us:.1f} µs, WAL {self.wal_bytes:,.0f} bytes"
        )


ROOM: dict[str, str] = {"shared_buffers": "4GB", "max_wal_size": "16GB", "checkpoint_timeout": "30min"}
"""What docs/RUNBOOK.md advises for 100 million names: the index in memory, and checkpoints far apart."""


def measure(sizes: Sequence[int], batches: int, settings: Mapping[str, str]) -> Iterator[str]:
    """Lines of text for the table of results; the table of names grows from one size to the next."""
    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder) / "postgres", settings=settings) as postgres:
        url = postgres.create_database("keys")
        migrate(url)
        engine = open_engine(url, pool=1)
        held = 0
        for size in sizes:
            _grow(url, size - held)
            held = size + size // TOUCHING + 2 * batches * BATCH
            for what in ("right after a checkpoint", "later"):
                names = [[_named() for _ in range(BATCH)] for _ in range(batches)]
                cost = _entered(engine, url, postgres.child.pid, names)
                yield f"| new names, {size:,} known, {what} | {cost} | flat |"
                if what != "later":
                    _enter(url, size // TOUCHING)
            cost = _entered(engine, url, postgres.child.pid, names)
            yield f"| the same again, {size:,} known | {cost} | flat |"
        with psycopg.connect(url) as connection:
            row = connection.execute("select pg_total_relation_size('usage_key') / count(*) from usage_key").fetchone()
        assert row is not None
        yield f"| a name on disk, index included | {row[0]} bytes | |"
        engine.dispose()


def _named() -> Named:
    return Named.of(Event("gateway", secrets.token_hex(12), "c0001", "llm", MOMENT, {"tokens": 1}))


def _grow(url: str, more: int) -> None:
    """Names that nobody sends."""
    for start in range(0, more, GROWN_AT_ONCE):
        _enter(url, min(GROWN_AT_ONCE, more - start))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum analyze usage_key")
        connection.execute("checkpoint")


def _enter(url: str, more: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into usage_key"
            " select gen_random_uuid() as key, n, %s from generate_series(1, %s) as n order by key",
            [MOMENT, more],
        )


def _entered(engine: Engine, url: str, server: int, batches: Sequence[Sequence[Named]]) -> Cost:
    names = sum(map(len, batches))
    with psycopg.connect(url, autocommit=True) as connection:
        wal, cpu, begun = _wal(connection), cpu_of_tree(server), time.monotonic()
        for batch in batches:
            with transaction(engine) as session:
                take_keys(session, batch)
        seconds, cpu, wal = time.monotonic() - begun, cpu_of_tree(server) - cpu, _wal(connection) - wal
    return Cost(seconds / names * 1e6, cpu / names * 1e6, wal / names)


def _wal(connection: psycopg.Connection[tuple[object, ...]]) -> float:
    row = connection.execute("select (pg_current_wal_lsn() - '0/0')::float8").fetchone()
    assert row is not None
    return float(str(row[0]))
