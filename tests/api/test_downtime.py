"""When the database or the workflow server is down: 503 with when to come back, and what was stored is taken up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
import httpx
import pytest
from sqlalchemy import Engine

import api.access
from api.access import Doors
from api.app import create
from models.api_key import create_key
from models.database import cursor, open_engine, transaction
from models.migrations import migrate
from sandbox.postgres import Postgres
from sandbox.temporal import Temporal
from tests.api.conftest import problem
from tests.conftest import ANY_TIME, CUSTOMER, ENTITY, METER, TEAM, House, opened
from workflows.client import connect

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def door(engine: Engine, temporal: Temporal) -> AsyncIterator[httpx.AsyncClient]:
    """The API alone, without any worker."""
    app = create()
    app.state.doors = Doors.open(engine, await connect(temporal.address, "default"), ANY_TIME)
    app.state.gateways = {}
    with transaction(engine) as session:
        key = create_key(session, "tests", ["admin"])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test", headers=headers) as client:
        yield client
    app.state.doors.close()


def later(response: httpx.Response) -> dict[str, Any]:
    found = problem(response, 503, "unavailable")
    assert int(response.headers["retry-after"]) >= 1
    return found


async def test_without_its_database(tmp_path_factory: pytest.TempPathFactory, temporal: Temporal) -> None:
    event = {"source": "s", "id": "1", "subject": "cus", "type": "t", "time": "2026-01-01T00:00:00Z"}
    asked: list[tuple[str, str, Any]] = [
        ("GET", "/v1/plans", None),
        ("GET", "/v1/invoices", None),
        ("POST", "/v1/events", {"events": [event]}),
        ("POST", "/v1/customers", CUSTOMER),
        ("POST", "/v1/subscriptions/s/amendments", {"seats": 1}),
        ("GET", "/readyz", None),
        ("GET", "/metrics", None),
    ]
    with Postgres(tmp_path_factory.mktemp("own") / "server") as own:
        url = own.create_database("perennial")
        migrate(url)
        engine = open_engine(url, pool=4)
        async with door(engine, temporal) as api:
            await api.post("/v1/customers", json=CUSTOMER)
            own.stop()
            for method, path, body in asked:
                said = later(await api.request(method, path, json=body))
                assert str(own.port) not in str(said)
            assert (await api.get("/healthz")).status_code == 200
            own.start()
            answer = await api.post("/v1/events", json={"events": [event]})
            assert answer.json()["accepted"] == 1
            assert (await api.get("/readyz")).status_code == 200
            with transaction(engine) as session:
                cursor(session).execute("update database_home set server = 1")
            assert "perennial migrate" in later(await api.get("/readyz"))["detail"]
        engine.dispose()


async def prepared(api: httpx.AsyncClient) -> dict[str, Any]:
    await api.post("/v1/test-clocks", json={"id": "clk", "now": "2026-01-02T12:00:00Z"})
    await api.post("/v1/entities", json={**ENTITY, "clock": "clk", "books_from": "2026-01-01"})
    await api.post("/v1/meters", json=METER)
    await api.put("/v1/plans/team", json=TEAM)
    await api.post("/v1/customers", json=CUSTOMER)
    return {"id": "sub", "customer": "cus", "entity": "acme", "plan": "team", "starts_on": "2026-01-01"}


async def until(house: House, what: Callable[[Any], Any]) -> Any:
    with anyio.fail_after(20):
        while not what(found := await house.get("/v1/subscriptions/sub")):
            await anyio.sleep(0.05)
        return found


async def test_without_the_workflow_server(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    temporal = Temporal()
    temporal.start()
    async with AsyncExitStack() as stack:
        door_ = await stack.enter_async_context(door(engine, temporal))
        agreed = await prepared(door_)
        assert (await door_.get("/readyz")).status_code == 200
        temporal.kill()
        monkeypatch.setattr(api.access, "PATIENCE_SECONDS", 1.5)
        said = later(await door_.post("/v1/subscriptions", json=agreed))
        assert "'sub'" in said["detail"]
        later(await door_.get("/readyz"))
        later(await door_.post("/v1/test-clocks/clk/advance", json={"to": "2026-01-03T00:00:00Z"}))
        said = later(await door_.post("/v1/subscriptions/sub/upgrade-requests", json={"id": "amd", "seats": 4}))
        assert "'amd'" in said["detail"]
        minted = later(await door_.post("/v1/subscriptions/sub/cancellations", json={"reason": "r"}))
        cancellation = minted["detail"].split("'")[1]
        assert cancellation.startswith("can_")
        assert (await door_.get("/v1/subscriptions/sub")).json()["subscription"]["state"] == "pending"
        event = {"source": "s", "id": "1", "subject": "cus", "type": "llm", "time": "2026-01-02T00:00:00Z"}
        assert (await door_.post("/v1/events", json={"events": [event]})).json()["accepted"] == 1
    monkeypatch.undo()
    temporal.start()
    try:
        async with opened(engine, temporal) as house:
            assert (await house.post("/v1/subscriptions", agreed))["state"] in ("pending", "active")
            await house.advance("clk", datetime(2026, 1, 2, 13, tzinfo=UTC))
            await house.post("/v1/subscriptions/sub/upgrade-requests", {"id": "amd", "seats": 4})
            found = await until(house, lambda stands: stands["seats"] == "4")
            asked = {"id": cancellation, "reason": "r"}
            assert (await house.post("/v1/subscriptions/sub/cancellations", asked))["id"] == cancellation
            await until(house, lambda stands: stands["ends_on"])
            assert len(found["amendments"]) == 1
    finally:
        temporal.kill()


async def test_without_a_worker_the_answer_does_not_hang(
    engine: Engine, temporal: Temporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with door(engine, temporal) as door_:
        agreed = await prepared(door_)
        assert (await door_.post("/v1/subscriptions", json=agreed)).status_code == 201
        monkeypatch.setattr(api.access, "PATIENCE_SECONDS", 0.5)
        for path, body in (
            ("/v1/subscriptions/sub/amendments", {"id": "amd", "seats": 4}),
            ("/v1/subscriptions/sub/cancellations/withdraw", None),
            ("/v1/test-clocks/clk/advance", {"to": "2026-01-03T00:00:00Z"}),
        ):
            later(await door_.post(path, json=body))
    monkeypatch.undo()
    async with opened(engine, temporal) as house:
        answer = await house.post("/v1/subscriptions/sub/amendments", {"id": "amd", "seats": 4})
        assert answer["accepted"]
        await house.advance("clk", datetime(2026, 1, 3, tzinfo=UTC))
        assert (await house.get("/v1/subscriptions/sub"))["seats"] == "4"
