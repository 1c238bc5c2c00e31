"""Previews a second: POST /v1/prices/preview in one process, on a real database, key check and JSON included.

The caller runs in the same process, so its time counts too; a server of its own answers more.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import structlog
from temporalio.client import Client

from api.access import Doors
from api.app import create
from billing.time_bounds import TimeBounds
from models.api_key import create_key
from models.database import open_engine, transaction
from models.migrations import migrate
from sandbox.postgres import Postgres
from settings import Settings

PRICE = {"price": {"kind": "per_unit", "rate": "0.0000025"}, "quantity": "123456789", "currency": "EUR"}
PLAN = {
    "currency": "EUR",
    "seats": "10",
    "plan": {
        "name": "Team",
        "currency": "EUR",
        "items": [
            {"key": "platform", "name": "Platform fee", "price": {"kind": "flat", "amount": "499"}},
            {"key": "seats", "name": "Seats", "basis": "seats", "price": {"kind": "per_unit", "rate": "20"}},
            {
                "key": "tokens",
                "name": "Tokens",
                "basis": "meter",
                "meter": "tokens",
                "price": {
                    "kind": "graduated",
                    "tiers": [{"up_to": "1000000", "rate": "0.000003"}, {"up_to": None, "rate": "0.000002"}],
                },
            },
        ],
        "bounds": {"minimum": "1000"},
    },
    "usage": [{"meter": "tokens", "quantity": "5234567", "events": 8000}],
}


def measure(times: int) -> list[str]:
    """Lines of text for the table of results."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder) / "server", keep=False) as server:
        url = server.create_database("previews")
        migrate(url)
        engine = open_engine(url, pool=4)
        try:
            with transaction(engine) as session:
                key = create_key(session, "benchmark", ["read"])
            app = create(Settings(database_url=url))
            app.state.doors = Doors.open(engine, cast(Client, None), TimeBounds(timedelta(days=400), timedelta(days=1)))
            return asyncio.run(_measured(app, key, times))
        finally:
            engine.dispose()


async def _measured(app: Any, key: str, times: int) -> list[str]:
    transport = httpx.ASGITransport(app)
    headers = {"Authorization": f"Bearer {key}"}
    found = []
    async with httpx.AsyncClient(transport=transport, base_url="http://benchmark", headers=headers) as client:
        for what, body in (("a price alone", PRICE), ("a plan of three items with a minimum", PLAN)):
            await _ask(client, body, times // 10)
            begun, cpu = time.perf_counter(), time.process_time()
            await _ask(client, body, times)
            wall, used = time.perf_counter() - begun, time.process_time() - cpu
            found.append(f"| preview of {what}, one after the other | {times / wall:.0f}/s | hundreds/s on one core |")
            found.append(f"| ... CPU of one preview, caller included | {used / times * 1000:.2f} ms | |")
    return found


async def _ask(client: httpx.AsyncClient, body: dict[str, Any], times: int) -> None:
    for _ in range(times):
        answer = await client.post("/v1/prices/preview", json=body)
        answer.raise_for_status()
