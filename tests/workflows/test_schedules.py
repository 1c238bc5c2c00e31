"""What Temporal Schedules start: the daily billing of an entity on the wall clock, and the standing duties."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import anyio
import pytest
from temporalio.client import ScheduleOverlapPolicy, WorkflowExecutionStatus

from models.crm import BEGINNING
from models.database import cursor, transaction
from tests.conftest import CUSTOMER, ENTITY, METER, TEAM
from workflows.client import start_duties

pytestmark = pytest.mark.anyio


async def test_an_entity_on_the_wall_clock_is_billed_each_night_by_its_schedule(house: Any) -> None:
    await house.post("/v1/entities", {**ENTITY, "id": "wall"})
    await house.post("/v1/entities", {**ENTITY, "id": "wall"})
    schedule = house.client.get_schedule_handle("billing-run/wall")
    seen = (await schedule.describe()).schedule
    assert seen.spec.time_zone_name == "Europe/Berlin"
    assert seen.policy.overlap is ScheduleOverlapPolicy.BUFFER_ONE
    assert seen.policy.catchup_window.days == 7
    await house.post("/v1/meters", METER)
    await house.put("/v1/plans/team", TEAM)
    await house.post("/v1/customers", CUSTOMER)
    await schedule.trigger()
    with anyio.fail_after(30):
        while not [run async for run in house.client.list_workflows("WorkflowType = 'BillingRun'") if finished(run)]:
            await anyio.sleep(0.2)


async def test_duties_are_started_once_and_entities_get_their_schedules_back(house: Any) -> None:
    await start_duties(house.client, [("wall", "Europe/Berlin")])
    await start_duties(house.client, [("wall", "Europe/Berlin")])
    with anyio.fail_after(30):
        found: set[str] = set()
        while not {"billing-run/wall", "crm-intake", "sweep", "months-ahead", "forgetting"} <= found:
            found = {schedule.id async for schedule in await house.client.list_schedules()}
            await anyio.sleep(0.2)
    assert house.hands.onboarding.since == BEGINNING


async def test_there_is_room_for_events_with_the_start_of_a_worker_and_each_day(house: Any) -> None:
    now = datetime.now(UTC)
    await start_duties(house.client)
    made = await house.client.get_workflow_handle("months-ahead/start", result_type=date).result()
    assert timedelta(days=60) < made - now.date() < timedelta(days=95)
    with transaction(house.engine) as session:
        rows = cursor(session).execute("select to_regclass('usage_event_' || to_char(%s, 'YYYY_MM'))::text", (now,))
        assert rows.fetchall() == [(f"usage_event_{now:%Y_%m}",)]
    schedule = (await house.client.get_schedule_handle("months-ahead").describe()).schedule
    assert [one.every for one in schedule.spec.intervals] == [timedelta(days=1)]


def finished(run: Any) -> bool:
    return bool(run.status is WorkflowExecutionStatus.COMPLETED and run.id.startswith("billing-run/wall"))
