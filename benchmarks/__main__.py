"""Runs every benchmark and prints one table: `make bench`, or `make bench SIZE=full` for longer runs."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain

from benchmarks import ingest, keys, previews, rating

SIZES: dict[str, tuple[int, int, Sequence[int]]] = {
    "small": (300, 10_000, (100_000, 1_000_000)),
    "full": (3_000, 100_000, (1_000_000, 10_000_000, 50_000_000)),
}
"""Previews, events, and how many names of events are known."""


def main() -> int:
    size = sys.argv[1] if len(sys.argv) > 1 else "small"
    if size not in SIZES:
        print(f"SIZE is small or full, not {size!r}.")
        return 2
    cores, python = os.cpu_count(), platform.python_version()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {cores} cores, Python {python}, size {size}\n")
    print("| what | measured | to reach |\n|---|---|---|")
    previewed, sent, known = SIZES[size]
    parts = (rating.measure(), previews.measure(previewed), ingest.measure(sent), keys.measure(known, 100, keys.ROOM))
    for line in chain.from_iterable(parts):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
