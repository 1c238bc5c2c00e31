"""What Temporal Schedules start: the daily billing of an entity on the wall clock, and the standing duties."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import anyio
import pytest
from temporalio.client import (
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    ScheduleUpdate,
    ScheduleUpdateInput,
    WorkflowExecutionStatus,
)

from activities.billing import OpenRun
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


async def test_schedules_are_brought_up_to_date_and_what_people_said_of_them_stays(house: Any) -> None:
    client = house.client
    sweep, billing = (client.get_schedule_handle(name) for name in ("sweep", "billing-run/wall"))
    await start_duties(client, [("wall", "Europe/Berlin")])
    policy = (await billing.describe()).schedule.policy
    await start_duties(client, [("wall", "Europe/Berlin")])
    for schedule in (sweep, billing):
        assert (await schedule.describe()).info.last_updated_at is None

    await sweep.pause(note="until the audit is over")
    await sweep.update(lambda there: other(there, every=timedelta(hours=3)))
    await billing.update(lambda there: other(there, argument="somebody else"))
    assert (await sweep.describe()).schedule.spec.intervals[0].every == timedelta(hours=3)
    await start_duties(client, [("wall", "Asia/Tokyo")])
    found = (await sweep.describe()).schedule
    assert [one.every for one in found.spec.intervals] == [timedelta(minutes=10)]
    assert found.state.paused and found.state.note == "until the audit is over"
    found = (await billing.describe()).schedule
    assert found.spec.time_zone_name == "Asia/Tokyo"
    assert [json.loads(arg.data)["entity_id"] for arg in found.action.args] == ["wall"]
    assert not found.state.paused and found.policy == policy


def other(there: ScheduleUpdateInput, every: timedelta | None = None, argument: str = "") -> ScheduleUpdate:
    """As if it had been made by another release."""
    schedule = there.description.schedule
    assert isinstance(schedule.action, ScheduleActionStartWorkflow)
    if every:
        schedule.spec.intervals = [ScheduleIntervalSpec(every)]
    if argument:
        schedule.action.args = [OpenRun(argument)]
    return ScheduleUpdate(schedule)


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
