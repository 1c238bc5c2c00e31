"""Histories that grow too long start afresh: on a server that suggests it after a few events."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from temporalio.client import WorkflowExecutionStatus

from activities import rolling_out
from sandbox.temporal import Temporal
from tests.conftest import TEAM
from tests.workflows.stage import Stage, at, one

pytestmark = pytest.mark.anyio


@pytest.fixture
def temporal() -> Iterator[Temporal]:
    with Temporal(dynamic_config={"limit.historyCount.suggestContinueAsNew": 20}) as server:
        yield server


async def test_amendments_ticks_and_the_clock_go_on_over_many_runs(stage: Stage) -> None:
    await stage.january()
    await stage.sign()
    await stage.house.advance("clk", at(2))
    house = stage.house
    for n in range(6):
        await asyncio.gather(
            house.post("/v1/subscriptions/sub/amendments", {"id": f"amd-{n}", "discount_percent": n}),
            stage.tick("subscription/sub"),
            stage.tick("subscription/sub"),
        )
        await house.advance("clk", at(3 + n))
    assert one(house.engine, "select terms_version from subscription") == 7
    for name in ("subscription/sub", "clock/clk"):

        async def one_goes_on(name: str = name) -> bool:
            """The list lags behind, and tells between two runs of neither."""
            runs = [run.status async for run in house.client.list_workflows(f"WorkflowId = '{name}'")]
            ended = runs.count(WorkflowExecutionStatus.CONTINUED_AS_NEW)
            return ended >= 2 and runs.count(WorkflowExecutionStatus.RUNNING) == 1

        await stage.until(one_goes_on, f"{name} to go on in its third run or later")
    await house.advance("clk", at(2, 2))
    assert len(await stage.invoices()) == 2


async def test_a_roll_out_of_many_batches_goes_on_where_it_was(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling_out, "BATCH", 1)
    await stage.january()
    house = stage.house
    for n in range(8):
        customer = {
            "id": f"cus-{n}",
            "name": "C",
            "email": "c@c.example",
            "country": "DE",
            "time_zone": "Europe/Berlin",
        }
        await house.post("/v1/customers", customer)
        await stage.sign(f"sub-{n}", f"cus-{n}")
    await house.put("/v1/plans/team", {**TEAM, "name": "Team, once more"})
    asked = {"id": "many", "entity": "acme", "plan": "team", "version": 2, "audience": "all", "on": "2026-01-20"}
    await house.post("/v1/rollouts", asked)

    async def staged() -> bool:
        return (await house.get("/v1/rollouts/many"))["counts"] == {"planned": 8}

    await stage.until(staged, "everybody to be a member")
    await house.post("/v1/rollouts/many/take-back", {})

    async def back() -> bool:
        return (await house.get("/v1/rollouts/many"))["rollout"]["taken_back_at"] is not None

    await stage.until(back, "everybody to be back")
    assert (await house.get("/v1/rollouts/many"))["counts"] == {"taken_back": 8}
    runs = [run.status async for run in house.client.list_workflows("WorkflowId = 'rollout/many'")]
    assert runs.count(WorkflowExecutionStatus.CONTINUED_AS_NEW) >= 2
