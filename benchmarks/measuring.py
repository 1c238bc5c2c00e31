"""How something is measured: CPU time of this process, median of several rounds, or of a server and its children."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path


def cpu_microseconds(work: Callable[[], object], times: int = 2_000, rounds: int = 7) -> float:
    """CPU microseconds of one call."""
    for _ in range(times // 10):
        work()
    found = []
    for _ in range(rounds):
        begun = time.process_time()
        for _ in range(times):
            work()
        found.append((time.process_time() - begun) / times * 1e6)
    return statistics.median(found)


def cpu_of_tree(pid: int) -> float:
    """CPU seconds of a process and its children, those that have ended included."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # It has ended meanwhile.
        own, parent = int(stat.parent.name), int(fields[1])
        if pid in (own, parent):
            ticks += int(fields[11]) + int(fields[12])
        if own == pid:
            ticks += int(fields[13]) + int(fields[14])
    return ticks / os.sysconf("SC_CLK_TCK")
