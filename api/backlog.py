"""What waits in the database, counted seldom: the figures are open to whoever reaches the port."""

from __future__ import annotations

import asyncio
from time import monotonic

from fastapi.concurrency import run_in_threadpool
from prometheus_client import Gauge
from sqlalchemy import Engine

from models.backlog import backlog
from models.database import transaction

SECONDS_KEPT = 15.0
BACKLOG = Gauge("perennial_backlog", "What waits, by kind.", ["kind"], multiprocess_mode="mostrecent")


class Backlog:
    """The gauge of one process. It belongs to one loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turn = asyncio.Lock()
        self._counted_at: float | None = None

    async def bring_up_to_date(self) -> None:
        """Count, unless that was done within the last seconds. Whoever comes meanwhile waits for the same count."""
        async with self._turn:
            if self._counted_at is not None and monotonic() < self._counted_at + SECONDS_KEPT:
                return
            for kind, many in (await run_in_threadpool(self._count)).items():
                BACKLOG.labels(kind).set(many)
            self._counted_at = monotonic()

    def _count(self) -> dict[str, int]:
        with transaction(self._engine) as session:
            return backlog(session)
