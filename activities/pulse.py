"""Heartbeats from beside the work, so that a dead worker is noticed in seconds even while a neighbour is slow."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from temporalio import activity


@asynccontextmanager
async def heartbeating_async(seconds: float = 1.5) -> AsyncIterator[None]:
    """The same for an activity on the event loop."""

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(seconds)

    beater = asyncio.create_task(beat())
    try:
        yield
    finally:
        beater.cancel()


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
