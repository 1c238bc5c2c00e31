"""Heartbeats from beside the work, so that a dead worker is noticed in seconds even while a neighbour is slow."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from temporalio import activity


@contextmanager
def heartbeating(seconds: float = 1.5) -> Iterator[None]:
    """Beat every `seconds` until the block is left; outside of an activity it does nothing."""
    if not activity.in_activity():
        yield
        return
    done = threading.Event()

    def beat() -> None:
        while not done.wait(seconds):
            activity.heartbeat()

    context = contextvars.copy_context()
    beater = threading.Thread(target=lambda: context.run(beat), daemon=True)
    beater.start()
    try:
        yield
    finally:
        done.set()
        beater.join()
