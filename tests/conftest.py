"""The real parts that tests run on: PostgreSQL and Temporal from their wheels, and the whole house in one process."""

from __future__ import annotations

import gc
import logging
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import httpx
import prometheus_client
import pytest
import structlog
from fastapi import FastAPI
from sqlalchemy import Engine
from temporalio.client import Client

from api.access import Doors
from api.app import create
from billing.time_bounds import TimeBounds
from integrations.crm.pretend import PretendCrm
from integrations.erp.pretend import PretendErp
from integrations.payments.pretend import PretendGateway
from models.api_key import create_key
from models.database import open_engine, transaction
from models.migrations import migrate
from models.tax import store_seed
from sandbox.postgres import Postgres
from sandbox.process import SERVER_PORTS
from sandbox.temporal import Temporal
from worker import ALL_SLOTS, Hands, workers
from workflows.client import connect, register_attributes

ENTITY = {
    "id": "acme",
    "name": "Acme GmbH",
    "country": "DE",
    "functional_currency": "EUR",
    "time_zone": "Europe/Berlin",
}
METER = {"id": "tokens", "name": "Tokens", "event_type": "llm", "quantity_field": "n", "unit": "tokens"}
TEAM = {
    "name": "Team",
    "currency": "EUR",
    "items": [
        {"key": "base", "name": "Base", "price": {"kind": "flat", "amount": "100"}},
        {
            "key": "tokens",
            "name": "Tokens",
            "basis": "meter",
            "meter": "tokens",
            "price": {"kind": "per_unit", "rate": "0.01"},
        },
    ],
}
CUSTOMER = {"id": "cus", "name": "Kunde AG", "email": "k@k.example", "country": "DE", "time_zone": "Europe/Berlin"}

ANY_TIME = TimeBounds(timedelta(days=100_000), timedelta(days=100_000))
"""Most tests live in years of their own."""

MEMORY = Path("/dev/shm")
ROOM = 4 * 2**30
"""In bytes. A server of the tests stays below half a gibibyte, most of it what it writes ahead."""

structlog.configure(
    # Plain tracebacks: those that show every variable take minutes over what a test holds.
    processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()],
    wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
)


LONGEST = (
    "tests/test_kills.py",
    "tests/test_demo.py",
    "tests/test_rebuild_kills.py",
    "tests/test_metering_guide.py",
    "tests/test_ingest_storm.py",
    "tests/cli/test_event_import.py",
    "tests/activities/test_lives.py",
    "tests/models/test_corrections.py",
    "tests/api/test_round_trip.py",
    "tests/cli/test_catalog_files.py",
    "tests/billing/test_recipe_properties.py",
    "tests/cli/test_event_garbage.py",
    "tests/models/test_recount.py",
    "tests/api/test_event_garbage.py",
    "tests/sandbox/test_stack.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Each process has ports of its own: two that choose one before either listens would take it from each other."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker.startswith("gw"):
        share = len(SERVER_PORTS) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        first = SERVER_PORTS[int(worker.removeprefix("gw")) * share]
        os.environ["PERENNIAL_PORTS"] = f"{first}-{first + share - 1}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest come first on each of the processes that share the tests: one that begins last would run alone.

    Each process begins with an equal share of the list, in order, and takes from others when that is done.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    files = {file: [item for item in items if item.nodeid.startswith(f"{file}::")] for file in LONGEST}
    others = [item for item in items if item.nodeid.split("::")[0] not in files]
    shares: list[pytest.Item] = []
    for no in range(processes):
        mine = [item for file in LONGEST[no::processes] for item in files[file]]
        left = max(len(items) // processes - len(mine), 0)
        shares += mine + others[:left]
        del others[:left]
    items[:] = shares + others


def pytest_collection_finish(session: pytest.Session) -> None:
    """Everything is imported: it stays, and is not looked through for garbage again and again. That can take seconds
    on a busy machine, in the middle of a workflow's step, which may take two.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def pytest_make_parametrize_id(config: pytest.Config, val: object) -> str | None:
    """Functions go by their names, so that every process that runs tests collects the same ones."""
    return val.__name__ if isinstance(val, FunctionType) else None


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """In memory where there is room for several: each test has a database of its own, and that is 640 files."""
    folder = tmp_path_factory.mktemp("postgres") / "server"
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
        folder = MEMORY / f"perennial-{secrets.token_hex(6)}"
    with Postgres(folder, keep=False, settings={"max_wal_size": "256MB"}) as server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    """The name of a database that is migrated and seeded, to be cloned."""
    url = postgres.create_database("template_perennial")
    migrate(url)
    engine = open_engine(url, pool=1)
    with transaction(engine) as session:
        store_seed(session)
    engine.dispose()
    return "template_perennial"


@pytest.fixture
def database_url(postgres: Postgres, template: str) -> Iterator[str]:
    """A database of the test's own."""
    name = f"test_{secrets.token_hex(6)}"
    yield postgres.create_database(name, template=template)
    postgres.drop_database(name)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url, pool=24)
    yield engine
    engine.dispose()


@pytest.fixture
def temporal() -> Iterator[Temporal]:
    """A Temporal server of the test's own, in memory."""
    with Temporal() as server:
        yield server


@dataclass(frozen=True)
class House:
    """The whole product in one process: API, worker, and neighbours that pretend. `key` is an administrator's."""

    engine: Engine
    client: Client
    app: FastAPI
    api: httpx.AsyncClient
    hands: Hands
    gateway: PretendGateway
    crm: PretendCrm
    erp: PretendErp
    key: str

    async def get(self, path: str) -> Any:
        return self._good(await self.api.get(path))

    async def post(self, path: str, body: Any) -> Any:
        return self._good(await self.api.post(path, json=body))

    async def put(self, path: str, body: Any) -> Any:
        return self._good(await self.api.put(path, json=body))

    @staticmethod
    def _good(response: httpx.Response) -> Any:
        assert response.is_success, f"{response.request.url} answered {response.status_code}: {response.text}"
        return response.json()

    async def cast(self, now: str, month: date) -> None:
        """A clock `clk`, the entity `acme` on it, a meter, the plan `team`, and a customer `cus` with a card."""
        await self.post("/v1/test-clocks", {"id": "clk", "now": now})
        await self.post("/v1/entities", {**ENTITY, "clock": "clk", "books_from": month.isoformat()})
        await self.post("/v1/meters", METER)
        await self.put("/v1/plans/team", TEAM)
        await self.post("/v1/customers", CUSTOMER)
        await self.put("/v1/customers/cus/payment-method", {"gateway": "pretend", "token": "pm_card_visa"})

    async def advance(self, clock: str, to: datetime) -> None:
        """Send a test clock somewhere and wait until it is there."""
        import anyio

        await self.post(f"/v1/test-clocks/{clock}/advance", {"to": to.astimezone(UTC).isoformat()})
        with anyio.fail_after(60):
            while (await self.get(f"/v1/test-clocks/{clock}"))["moving"]:
                await anyio.sleep(0.05)


@cache
def application() -> FastAPI:
    """One for all tests of a process: its routes, and the document of them, are worked out once. It holds nothing but
    what a house hangs into its `state`.
    """
    return create()


@asynccontextmanager
async def opened(engine: Engine, temporal: Temporal) -> AsyncIterator[House]:
    """The house on a database and a server; a directory's conftest may keep one for a whole module."""
    client = await connect(temporal.address, "default")
    await register_attributes(client)
    gateway, crm, erp = PretendGateway(), PretendCrm(), PretendErp()
    hands = Hands(engine, client, ("pretend", gateway), ("pretend", crm), ("pretend", erp))
    app = application()
    app.state.doors = Doors.open(engine, client, ANY_TIME)
    app.state.gateways = {"pretend": gateway}
    app.state.figures = prometheus_client.REGISTRY
    with transaction(engine) as session:
        key = create_key(session, "tests", ["admin"])
    async with AsyncExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(ALL_SLOTS))
        for worker in workers(client, hands, pool):
            await stack.enter_async_context(worker)
        api = await stack.enter_async_context(
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app, raise_app_exceptions=False),
                base_url="http://perennial.test",
                headers={"Authorization": f"Bearer {key}"},
                timeout=60,
            )
        )
        stack.callback(app.state.doors.close)
        yield House(engine, client, app, api, hands, gateway, crm, erp, key)


@pytest.fixture
async def house(engine: Engine, temporal: Temporal) -> AsyncIterator[House]:
    async with opened(engine, temporal) as house:
        yield house
