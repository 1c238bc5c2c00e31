"""On the wall clock, with time skipped: real timers, and activities that only note when they were called."""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from temporalio import activity
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.lifecycle import ParkedStep, Standstill
from activities.payments import Collected
from workflows.attributes import ALL
from workflows.policies import BILLING, DOORS, LIFECYCLE
from workflows.registry import WORKFLOWS, runner

pytestmark = pytest.mark.anyio
SERVER = shutil.which("temporal-test-server", path=sysconfig.get_path("scripts"))


@pytest.fixture
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    assert SERVER and Path(SERVER).exists()
    environment = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=SERVER, data_converter=pydantic_data_converter
    )
    async with environment:
        kind = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD  # This server can add them, but not list them.
        wanted = AddSearchAttributesRequest(search_attributes={key.name: kind for key in ALL})
        await environment.client.operator_service.add_search_attributes(wanted)
        yield environment


@dataclass
class Diary:
    """Stands in for the hands. Time in a database cannot be skipped, so it asks the server for the time."""

    environment: WorkflowEnvironment
    due: list[datetime]
    seen: list[datetime] = field(default_factory=list)

    async def step(self) -> tuple[datetime, datetime | None]:
        now = await self.environment.get_current_time()
        self.seen.append(now)
        self.due = [moment for moment in self.due if moment > now]
        return now, min(self.due, default=None)

    @activity.defn
    async def look(self, subscription_id: str) -> Standstill:
        now, due = await self.step()
        state = "active" if due else "ended"
        return Standstill(state, due, now, False, False, "cus", "acme", "Team", "1", "2026-01-01", "")

    @activity.defn
    async def collect(self, invoice_id: str) -> Collected:
        now, due = await self.step()
        return Collected(due is None, False, False, due, now, False, 100, "EUR", "A-1", len(self.seen), "cus", "acme")

    @activity.defn
    async def park(self, question: ParkedStep) -> None: ...


@pytest.mark.parametrize(("kind", "days"), [("Subscription", (30, 400)), ("Collection", (3, 5, 7, 14))])
async def test_one_on_the_wall_clock_wakes_on_its_days_and_not_before(
    skipping: WorkflowEnvironment, kind: str, days: tuple[int, ...]
) -> None:
    start = await skipping.get_current_time()
    diary = Diary(skipping, [start + timedelta(days=n) for n in days])
    common = {"client": skipping.client, "workflow_runner": runner()}
    hands = [diary.look, diary.collect, diary.park]
    async with (
        Worker(task_queue=LIFECYCLE, workflows=WORKFLOWS, **common),
        Worker(task_queue=BILLING, activities=hands, **common),
        Worker(task_queue=DOORS, activities=hands, **common),
    ):
        await skipping.client.execute_workflow(kind, "me", id=f"{kind}/me", task_queue=LIFECYCLE)
    wakes = [round((moment - start) / timedelta(days=1), 2) for moment in diary.seen]
    assert wakes == [0, *days]
