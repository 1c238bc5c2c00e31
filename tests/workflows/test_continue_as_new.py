"""Histories that grow too long start afresh: on a server that suggests it after a few events."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from temporalio.client import WorkflowExecutionStatus

from sandbox.temporal import Temporal
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
        runs = [run.status async for run in house.client.list_workflows(f"WorkflowId = '{name}'")]
        assert runs.count(WorkflowExecutionStatus.CONTINUED_AS_NEW) >= 2, name
        assert runs.count(WorkflowExecutionStatus.RUNNING) == 1, name
    await house.advance("clk", at(2, 2))
    assert len(await stage.invoices()) == 2
