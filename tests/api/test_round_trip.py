"""Random plans go through JSON, the database and the API, and come back as they were."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import httpx
import pytest
from sqlalchemy import Engine
from sqlmodel import Session
from temporalio.client import Client

from api.access import Doors
from api.app import create
from billing.catalog import Catalog, Offer
from billing.plan import Plan
from models.api_key import create_key
from models.catalog import apply, live
from models.database import transaction
from models.plan import plans as stored
from models.values import read, to_json
from tests.billing.strategies import FEATURES, METERS, PLANS, PRODUCTS, drawn, plans
from tests.conftest import ANY_TIME

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
async def api(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    """The front door on an empty database; nobody here asks a workflow."""
    app = create()
    app.state.doors = Doors.open(engine, cast(Client, None), ANY_TIME)
    with transaction(engine) as session:
        key = create_key(session, "tests", ["admin"])
        apply(session, Catalog(PRODUCTS, FEATURES, METERS), NOON)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://api.test", headers={"Authorization": f"Bearer {key}"}
    ) as client:
        yield client


async def test_random_plans_come_back_as_they_were(engine: Engine, api: httpx.AsyncClient) -> None:
    some = [replace(one, plan_id=f"p{n:04}", version=1) for n, one in enumerate(drawn(plans(), PLANS))]
    assert len(some) == PLANS and len({repr(replace(one, plan_id="")) for one in some}) > PLANS * 0.8
    assert [read(Plan, to_json(one)) for one in some] == some
    with Session(engine) as session:
        offers = tuple(Offer(one, None) for one in some)
        assert len(apply(session, Catalog(offers=offers), NOON)) == PLANS
        assert stored(session) == some
        assert [offer.plan for offer in live(session).offers] == some
        session.rollback()
    assert await in_sets(api, some) == some
    assert await one_by_one(api, some[::10]) == some[::10]


async def in_sets(api: httpx.AsyncClient, wanted: list[Plan]) -> list[Plan]:
    """A hundred at a time, as parts of the catalog; what the whole catalog says of them afterwards."""
    for n in range(0, len(wanted), 100):
        offers = [{"plan": to_json(one), "sold_from": "2026-03-01"} for one in wanted[n : n + 100]]
        answer = await api.put("/v1/catalog", json={"offers": offers})
        assert answer.status_code == 200 and len(answer.json()) == len(offers), answer.text
    whole = (await api.get("/v1/catalog")).json()
    return [read(Plan, offer["plan"]) for offer in whole["offers"]]


async def one_by_one(api: httpx.AsyncClient, wanted: list[Plan]) -> list[Plan]:
    """Each under an id of its own; what it says afterwards."""
    found: list[Plan] = []
    for one in wanted:
        body = {name: value for name, value in to_json(one).items() if name not in ("plan_id", "version")}
        answer = await api.put(f"/v1/plans/single-{one.plan_id}", json=body)
        assert answer.status_code == 200, answer.text
        shown = (await api.get(f"/v1/plans/single-{one.plan_id}")).json()
        assert shown == answer.json() and shown["plan_id"] == f"single-{one.plan_id}"
        found.append(read(Plan, {name: shown[name] for name in to_json(one)} | {"plan_id": one.plan_id}))
    return found
