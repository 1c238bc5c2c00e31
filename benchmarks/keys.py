"""What it costs to know every event that ever came, as there are more and more of them.

A batch of names is entered as taking in does it (models/event.py): all of them new, and all of them again. Names are
digests, so a batch falls anywhere in the index, however it has grown. After a checkpoint PostgreSQL writes each page of
the index whole when it is changed for the first time; so new names are measured then, and once most pages were changed.
"""

from __future__ import annotations

import secrets
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import LiteralString

import psycopg

from benchmarks.measuring import cpu_of_tree
from models.database import open_engine, transaction
from models.event import Event, Named
from models.event_key import take_keys
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
    """Lines of text for the table of results. All sizes take turns, so that none has a better moment of the machine."""
    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder) / "postgres", settings=settings) as postgres:
        tables = [_Names(postgres, size) for size in sizes]
        yield from _taking_turns("new names, right after a checkpoint", tables, _batches(batches, tables))
        for one in tables:
            one.grow(one.size // TOUCHING)
        names = _batches(batches, tables)
        yield from _taking_turns("new names, later", tables, names)
        yield from _taking_turns("the same again", tables, names)
        yield f"| a name on disk, index included | {tables[-1].bytes_of_one():.0f} bytes | |"
        for one in tables:
            one.close()


class _Names:
    """A database in which so many names are known, which nobody sends again."""

    def __init__(self, postgres: Postgres, size: int) -> None:
        self.size = size
        self._server = postgres.child.pid
        url = postgres.create_database(f"names_{size}")
        migrate(url)
        self._engine = open_engine(url, pool=1)
        self._beside = psycopg.connect(url, autocommit=True)
        for start in range(0, size, GROWN_AT_ONCE):
            self.grow(min(GROWN_AT_ONCE, size - start))
        self._beside.execute("vacuum analyze usage_key")
        self._beside.execute("checkpoint")

    def close(self) -> None:
        self._beside.close()
        self._engine.dispose()

    def grow(self, more: int) -> None:
        self._beside.execute(
            "insert into usage_key"
            " select gen_random_uuid() as key, n, %s from generate_series(1, %s) as n order by key",
            [MOMENT, more],
        )

    def enter(self, batch: Sequence[Named]) -> Cost:
        wal, cpu, begun = self._wal(), cpu_of_tree(self._server), time.monotonic()
        with transaction(self._engine) as session:
            take_keys(session, batch)
        seconds, cpu, wal = time.monotonic() - begun, cpu_of_tree(self._server) - cpu, self._wal() - wal
        return Cost(seconds / len(batch) * 1e6, cpu / len(batch) * 1e6, wal / len(batch))

    def bytes_of_one(self) -> float:
        return self._asked("select pg_total_relation_size('usage_key') / count(*) from usage_key")

    def _wal(self) -> float:
        return self._asked("select (pg_current_wal_lsn() - '0/0')::float8")

    def _asked(self, question: LiteralString) -> float:
        row = self._beside.execute(question).fetchone()
        assert row is not None
        return float(row[0])


def _batches(batches: int, tables: Sequence[_Names]) -> list[list[list[Named]]]:
    """For each turn a batch for each table."""
    return [[[_named() for _ in range(BATCH)] for _ in tables] for _ in range(batches)]


def _named() -> Named:
    return Named.of(Event("gateway", secrets.token_hex(12), "c0001", "llm", MOMENT, {"tokens": 1}))


def _taking_turns(what: str, tables: Sequence[_Names], names: Sequence[Sequence[Sequence[Named]]]) -> Iterator[str]:
    """A line for each table; of `names` a batch goes to each of them in each turn."""
    turns = [[one.enter(batch) for one, batch in zip(tables, turn, strict=True)] for turn in names]
    means = [Cost(*map(statistics.fmean, zip(*map(astuple, mine), strict=True))) for mine in zip(*turns, strict=True)]
    for one, cost in zip(tables, means, strict=True):
        times = f"flat; {cost.milliseconds / means[0].milliseconds:.2f} times the first"
        yield f"| {what}, {one.size:,} known | {cost} | {times} |"
