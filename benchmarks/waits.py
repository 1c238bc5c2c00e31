"""How long transactions wait for the locks of others: PostgreSQL is asked each millisecond who waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

SECONDS_BETWEEN_LOOKS = 0.001
_WHO_WAITS = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


@dataclass(slots=True)
class Waits:
    """How often it was looked, and how long each wait that was seen lasted, in seconds."""

    looks: int = 0
    lasted: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        longest = f", {1e3 * max(self.lasted):.1f} ms at the longest" if self.lasted else ""
        return f"{len(self.lasted)} seen in {self.looks:,} looks{longest}"


@contextmanager
def watched(url: str) -> Iterator[Waits]:
    """The waits of the database's transactions as long as it is open; complete when it is closed."""
    found, over = Waits(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(url, found, over))
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


def _watch(url: str, found: Waits, over: threading.Event) -> None:
    since: dict[int, float] = {}
    with psycopg.connect(url, autocommit=True) as connection:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            waiting = {pid for (pid,) in connection.execute(_WHO_WAITS)}
            now = time.monotonic()
            found.looks += 1
            found.lasted += [now - since.pop(pid) for pid in since.keys() - waiting]
            for pid in waiting - since.keys():
                since[pid] = now
    now = time.monotonic()
    found.lasted += [now - begun for begun in since.values()]
