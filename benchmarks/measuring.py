"""How something is measured: CPU time of this process, after a warm-up, the median of several rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


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
