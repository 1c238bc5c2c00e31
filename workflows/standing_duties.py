"""What always runs: couriers that deliver the outbox, the reading of the CRM, the sweep for who overslept,
partitions for coming months, and deletion of old event names.
"""

from __future__ import annotations

from datetime import date

from temporalio import workflow

from activities.clock import Clocks
from activities.delivery import DeliverFor, Deliveries, Door
from activities.metering import ForgetNames, Forgotten, MakeMonths, Metering
from activities.onboarding import Intake, Onboarding
from workflows.policies import AHEAD, NEIGHBOUR, OTHERS


@workflow.defn
class Courier:
    """One a door: delivers in long shifts, and starts afresh when its history has grown."""

    @workflow.run
    async def run(self, door: Door) -> None:
        while not workflow.info().is_continue_as_new_suggested():
            await workflow.execute_activity_method(
                Deliveries.deliver, DeliverFor(door), summary=f"deliver to {door}", **NEIGHBOUR
            )
        workflow.continue_as_new(door)


@workflow.defn
class CrmIntake:
    """Started each minute: reads what was won and hands it to `Onboarding`."""

    @workflow.run
    async def run(self) -> str:
        found: Intake = await workflow.execute_activity_method(
            Onboarding.read_deals, summary="read won deals", **NEIGHBOUR
        )
        started = await workflow.execute_activity_method(Onboarding.hand_over, summary="start onboarding", **OTHERS)
        return f"{found.read} read, {found.unreadable} unreadable, {started} handed to onboarding"


@workflow.defn
class Sweep:
    """Started every ten minutes: wakes everyone on the wall clock who should have woken by now."""

    @workflow.run
    async def run(self) -> int:
        return await workflow.execute_activity_method(Clocks.wake_overdue, summary="wake who is overdue", **OTHERS)


@workflow.defn
class MonthsAhead:
    """Started each day and with each worker: makes the partitions of events for the months around this one."""

    @workflow.run
    async def run(self) -> date:
        return await workflow.execute_activity_method(
            Metering.make_months, MakeMonths(), summary="months of events", **AHEAD
        )


@workflow.defn
class Forgetting:
    """Started each day: forgets the names of events of long ago, if there is an end to how long they are known."""

    @workflow.run
    async def run(self) -> int:
        names, page = 0, 0
        while True:
            step: Forgotten = await workflow.execute_activity_method(
                Metering.forget_names, ForgetNames(page), summary=f"names of events, from page {page}", **AHEAD
            )
            names += step.names
            if step.page is None:
                return names
            page = step.page
