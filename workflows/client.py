"""The way to Temporal for every process: the client, the search attributes, and what has to be running."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import (
    Client,
    Interceptor,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import Runtime

from activities.billing import OpenRun
from workflows.attributes import ALL
from workflows.billing_run import BillingRun
from workflows.policies import LIFECYCLE
from workflows.standing_duties import Courier, CrmIntake, Forgetting, MonthsAhead, Sweep

INTAKE = "crm-intake"
MONTHS = "months-ahead"
FORGETTING = "forgetting"
CATCH_UP = timedelta(days=7)


async def connect(
    address: str,
    namespace: str,
    api_key: str | None = None,
    interceptors: Sequence[Interceptor] = (),
    runtime: Runtime | None = None,
) -> Client:
    """A client of the Temporal server at `address` (host:port); with an API key, over TLS."""
    return await Client.connect(
        address,
        namespace=namespace,
        api_key=api_key,
        tls=api_key is not None,
        data_converter=pydantic_data_converter,
        interceptors=list(interceptors),
        runtime=runtime,
    )


async def register_attributes(client: Client) -> list[str]:
    """Make the search attributes known to the namespace; those that exist stay. Returns the new ones."""
    service = client.operator_service
    known = await service.list_search_attributes(ListSearchAttributesRequest(namespace=client.namespace))
    missing = [key.name for key in ALL if key.name not in known.custom_attributes]
    if missing:
        kind = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
        await service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=dict.fromkeys(missing, kind))
        )
    return missing


async def start_duties(client: Client, entities: Sequence[tuple[str, str]] = ()) -> None:
    """See that the couriers run, that there is room for events, and that the CRM's reading, the sweep, the months
    ahead, the end of old names and the billing of entities are scheduled.

    `entities` are those on the wall clock, with their time zones. What runs already stays; a schedule that was made
    otherwise becomes what is said here.
    """
    for door in ("crm", "documents"):
        await client.start_workflow(
            Courier.run,
            door,
            id=f"courier/{door}",
            task_queue=LIFECYCLE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"delivers to {door}",
        )
    intake = ScheduleActionStartWorkflow(CrmIntake.run, id=INTAKE, task_queue=LIFECYCLE)
    await _schedule(client, INTAKE, intake, every=timedelta(seconds=60))
    sweep = ScheduleActionStartWorkflow(Sweep.run, id="sweep", task_queue=LIFECYCLE)
    await _schedule(client, "sweep", sweep, every=timedelta(minutes=10))
    months = ScheduleActionStartWorkflow(MonthsAhead.run, id=MONTHS, task_queue=LIFECYCLE)
    await _schedule(client, MONTHS, months, every=timedelta(days=1))
    forgetting = ScheduleActionStartWorkflow(Forgetting.run, id=FORGETTING, task_queue=LIFECYCLE)
    await _schedule(client, FORGETTING, forgetting, every=timedelta(days=1))
    await client.start_workflow(
        MonthsAhead.run,
        id=f"{MONTHS}/start",
        task_queue=LIFECYCLE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
    )
    for entity_id, time_zone in entities:
        await schedule_billing(client, entity_id, time_zone)


async def _schedule(client: Client, name: str, action: ScheduleActionStartWorkflow, every: timedelta) -> None:
    await _see_to(
        client,
        name,
        Schedule(
            action=action,
            spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every)]),
            policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=CATCH_UP),
        ),
    )


async def schedule_billing(client: Client, entity_id: str, time_zone: str) -> None:
    """Bill an entity on the wall clock each day at one in the morning, its own time; missed days are caught up."""
    await _see_to(
        client,
        f"billing-run/{entity_id}",
        Schedule(
            action=ScheduleActionStartWorkflow(
                BillingRun.run, OpenRun(entity_id), id=f"billing-run/{entity_id}", task_queue=LIFECYCLE
            ),
            spec=ScheduleSpec(calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(1)])], time_zone_name=time_zone),
            policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.BUFFER_ONE, catchup_window=CATCH_UP),
        ),
    )


async def _see_to(client: Client, name: str, wanted: Schedule) -> None:
    try:
        await client.create_schedule(name, wanted)
    except ScheduleAlreadyRunningError:
        said = await _said(client, wanted)

        async def brought_up_to_date(there: ScheduleUpdateInput) -> ScheduleUpdate | None:
            """Whether it is paused, and the note why, is what people said and stays."""
            standing = there.description.schedule
            same = await _said(client, standing) == said
            return None if same else ScheduleUpdate(replace(wanted, state=standing.state))

        await client.get_schedule_handle(name).update(brought_up_to_date)


async def _said(client: Client, schedule: Schedule) -> tuple[object, ...]:
    """When it starts what, and how: the same of what was asked for and of what the server makes of it.

    Whatever the server fills in by itself has to be asked for in words, else the two are never the same.
    """
    action = schedule.action
    assert isinstance(action, ScheduleActionStartWorkflow)
    given = [arg if isinstance(arg, Payload) else (await client.data_converter.encode([arg]))[0] for arg in action.args]
    calendars = [
        [[(r.start, max(r.start, r.end), max(r.step, 1)) for r in part] for part in _parts(calendar)]
        for calendar in schedule.spec.calendars
    ]
    spec = replace(schedule.spec, calendars=())
    return spec, calendars, schedule.policy, action.workflow, action.id, action.task_queue, given


def _parts(calendar: ScheduleCalendarSpec) -> Sequence[Sequence[ScheduleRange]]:
    days = (calendar.year, calendar.month, calendar.day_of_month, calendar.day_of_week)
    return (*days, calendar.hour, calendar.minute, calendar.second)
