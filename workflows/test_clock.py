"""A clock that moves when told to: everyone on it lives through each due moment, in order, before the next."""

from __future__ import annotations

from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from activities.billing import OpenRun
from activities.clock import Advance, Clocks, Step
from activities.delivery import Deliveries, Drain
from workflows import attributes
from workflows.billing_run import BillingRun
from workflows.policies import DATABASE, NEIGHBOUR, OTHERS

ROUNDS = 50


@workflow.defn
class TestClock:
    """Lifecycle, then billing, then collection, then the close; the outbox before time moves on."""

    __test__ = False

    @workflow.init
    def __init__(self, clock_id: str) -> None:
        self._id = clock_id
        self._moving = True

    @workflow.run
    async def run(self, clock_id: str) -> None:
        while True:
            await workflow.wait_condition(lambda: self._moving)
            self._moving = False
            await self._go()
            if workflow.info().is_continue_as_new_suggested() and not self._moving:
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(clock_id)

    @workflow.update(description="Move the clock to a moment; answered at once, ask the API where it stands.")
    async def advance(self, to: datetime) -> datetime:
        target = await workflow.execute_activity_method(
            Clocks.aim, Advance(self._id, to), summary=f"towards {to:%Y-%m-%d %H:%M}", **DATABASE
        )
        self._moving = True
        return target

    async def _go(self) -> None:
        rounds = 0
        here = await workflow.execute_activity_method(Clocks.due_now, self._id, summary="due now", **DATABASE)
        while not here.arrived:
            attributes.tell(here.at.strftime("%Y-%m-%d %H:%M"))
            workflow.set_current_details(f"It is {here.at.isoformat()}.")
            await self._live(here)
            after = await workflow.execute_activity_method(Clocks.due_now, self._id, summary="due now", **DATABASE)
            if not after.subjects and not after.entities:
                await self._drain()
                after = await workflow.execute_activity_method(
                    Clocks.move_on, self._id, summary="the next due moment", **DATABASE
                )
            rounds = rounds + 1 if after.at == here.at else 0
            if rounds > ROUNDS:
                raise ApplicationError(f"Something stays due at {here.at.isoformat()}: {here}", type="Broken")
            here = after
        await self._drain()
        workflow.set_current_details(f"It is {here.at.isoformat()}. Waits for `advance`.")

    async def _live(self, here: Step) -> None:
        """Do what is due at this moment and first in rank."""
        if here.subjects:
            await workflow.execute_activity_method(
                Clocks.tick, here.subjects, summary=f"wake {len(here.subjects)}", **OTHERS
            )
        for entity_id in here.entities:
            await workflow.execute_child_workflow(
                BillingRun.run,
                OpenRun(entity_id, here.at),
                id=f"billing-run/{entity_id}/{here.at:%Y-%m-%dT%H:%M}",
                static_summary=f"{entity_id} up to {here.at:%Y-%m-%d %H:%M}",
            )

    async def _drain(self) -> None:
        await workflow.execute_activity_method(
            Deliveries.drain, Drain(self._id), summary="deliver the outbox", **NEIGHBOUR
        )
