"""The billing of one legal entity up to a moment: whatever is behind its watermark, however many days were missed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from itertools import pairwise

from temporalio import workflow

from activities.billing import BillBatch, Billed, Billing, OpenRun, Run
from activities.clock import Clocks
from activities.payments import Charged, ChargeRun, Payments
from workflows import attributes
from workflows.policies import DATABASE, NEIGHBOUR, OTHERS, SET_WORK

WIDTH = 2  # Batches at a time on the wall clock; one on a test clock, so that numbers come in the same order again.


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did. Amounts in minor units of the entity's currency."""

    run_id: str
    invoices: int
    total_minor: int
    parked: int
    paid: int
    declined: int
    pending: int


@workflow.defn
class BillingRun:
    """A sliding window of batches, then the cards; running it again finds nothing to do."""

    def __init__(self) -> None:
        self._done: list[Billed] = []

    @workflow.run
    async def run(self, order: OpenRun) -> RunReport:
        attributes.tell("billing", entity=order.entity_id)
        order = replace(order, cause=workflow.info().run_id)
        run = await workflow.execute_activity_method(Billing.open_run, order, summary="what is due", **DATABASE)
        await self._bill(run)
        attributes.tell("charging")
        charged = await self._charge(run)
        await workflow.execute_activity_method(Billing.finish_run, run.run_id, summary="finished", **DATABASE)
        attributes.tell("finished")
        return RunReport(
            run.run_id,
            sum(b.invoices for b in self._done),
            sum(b.total_minor for b in self._done),
            sum(b.parked for b in self._done),
            sum(c.paid for c in charged),
            sum(c.declined for c in charged),
            sum(c.pending for c in charged),
        )

    async def _bill(self, run: Run) -> None:
        gate = asyncio.Semaphore(1 if run.on_clock else WIDTH)

        async def one(no: int, first: str, until: str) -> None:
            async with gate:
                billed = await workflow.execute_activity_method(
                    Billing.bill_batch, BillBatch(run.run_id, no, first, until), summary=f"batch {no}", **SET_WORK
                )
            self._done.append(billed)
            invoices = sum(b.invoices for b in self._done)
            workflow.set_current_details(
                f"{len(self._done)} of {len(run.batches)} batches, {invoices} invoices, "
                f"{sum(b.parked for b in self._done)} parked."
            )

        bounds = pairwise([*run.batches, ""])
        await asyncio.gather(*(one(no, first, until) for no, (first, until) in enumerate(bounds, run.first_no)))

    async def _charge(self, run: Run) -> list[Charged]:
        """First attempts in sets; what stays open gets its `Collection`, which on a test clock starts when due."""
        charged: list[Charged] = []
        more = True
        while more:
            some = await workflow.execute_activity_method(
                Payments.charge_run, ChargeRun(run.run_id), summary="charge cards", **NEIGHBOUR
            )
            charged.append(some)
            more = some.more
            if some.collections and not run.on_clock:
                await workflow.execute_activity_method(
                    Clocks.rouse, some.collections, summary="start collecting", **OTHERS
                )
        return charged
