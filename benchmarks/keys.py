"""What it costs to know every event that ever came, as there are more and more of them.

A batch of names is entered as taking in does it (models/event.py): all of them new, and all of them again. Names are
digests, so a batch falls anywhere in the index, however it has grown.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
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


def measure(sizes: Sequence[int], batches: int) -> Iterator[str]:
    """Lines of text for the table of results; the table of names grows from one size to the next."""
    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder) / "postgres") as postgres:
        url = postgres.create_database("keys")
        migrate(url)
        engine = open_engine(url, pool=1)
        held = 0
        for size in sizes:
            _grow(url, size - held)
            held = size + batches * BATCH
            names = [[_named() for _ in range(BATCH)] for _ in range(batches)]
            for what in ("new names", "the same again"):
                cost = _entered(engine, url, postgres.child.pid, names)
                yield f"| {what}, {size:,} known | {cost} | flat |"
        with psycopg.connect(url) as connection:
            row = connection.execute("select pg_total_relation_size('usage_key') / count(*) from usage_key").fetchone()
        assert row is not None
        yield f"| a name on disk, index included | {row[0]} bytes | |"
        engine.dispose()


def _named() -> Named:
    return Named.of(Event("gateway", secrets.token_hex(12), "c0001", "llm", MOMENT, {"tokens": 1}))


def _grow(url: str, more: int) -> None:
    """Names that nobody sends, entered in the order of no index."""
    with psycopg.connect(url, autocommit=True) as connection:
        for start in range(0, more, GROWN_AT_ONCE):
            connection.execute(
                "insert into usage_key select gen_random_uuid(), n, %s from generate_series(1, %s) as n",
                [MOMENT, min(GROWN_AT_ONCE, more - start)],
            )
        connection.execute("vacuum analyze usage_key")
        connection.execute("checkpoint")


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
