"""Lose every workflow history: the clocks are rebuilt from the tables, and the month ends as if nothing had been."""

from __future__ import annotations

from typing import Any

import pytest

from tests.workflows.stage import Stage, at, changed, tables

pytestmark = pytest.mark.anyio


async def lived(stage: Stage, lose: bool) -> list[tuple[Any, ...]]:
    await stage.january()
    house = stage.house
    house.gateway.expect("cus", "insufficient_funds", "insufficient_funds")
    await stage.sign()
    await house.advance("clk", at(4))
    await house.post(
        "/v1/subscriptions/sub/amendments", {"id": "amd", "discount_percent": 50, "effective_on": "2026-01-17"}
    )
    if lose:
        await lose_everything(stage)
    await house.advance("clk", at(6, 2))
    found = [(d["number"], d["net_minor"], d["open_minor"]) for d in await stage.invoices()]
    return [*found, [order.attempt_id for order in house.gateway.charges], await stage.details("close/acme/2026-01")]


async def lose_everything(stage: Stage) -> None:
    house = stage.house
    lost = [w.id async for w in house.client.list_workflows("ExecutionStatus = 'Running'")]
    assert {name.split("/")[0] for name in lost} >= {"subscription", "collection", "clock"}
    for name in lost:
        await house.client.get_workflow_handle(name).terminate()
    before = tables(house.engine)
    woken = await house.hands.clocks.rebuild()

    async def awake() -> bool:
        running = [w.id async for w in house.client.list_workflows("ExecutionStatus = 'Running'")]
        return len(running) == woken == 3

    await stage.until(awake, "subscription, collection and close to run")
    for name in ("subscription/sub", "close/acme/2026-01"):
        await stage.tick(name)
    assert changed(before, tables(house.engine)) == {}
    assert await house.hands.clocks.rebuild() == woken
    assert changed(before, tables(house.engine)) == {}


@pytest.mark.parametrize("lose", [False, True], ids=["calm", "lost"])
async def test_the_month_ends_the_same(stage: Stage, lose: bool, remembered: dict[str, object]) -> None:
    found = await lived(stage, lose)
    assert remembered.setdefault("month", found) == found
    assert len(found) == 4


@pytest.fixture(scope="module")
def remembered() -> dict[str, object]:
    return {}
