"""Collecting an invoice that was not settled when it was issued: dunning dates, and the gateway's webhooks."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

from temporalio import workflow

from activities.payments import Collected, Payments
from billing.money import Money
from workflows import attributes
from workflows.policies import NEIGHBOUR, WEBHOOK_PATIENCE
from workflows.waiting import Waiting, until


@workflow.defn
class Collection(Waiting):
    """Tries again on the days of the dunning calendar until the money is there or a person has to act."""

    @workflow.init
    def __init__(self, invoice_id: str) -> None:
        super().__init__()
        self._id = invoice_id
        self._told = False

    @workflow.run
    async def run(self, invoice_id: str) -> str:
        while True:
            seen = await self.until_accepted(f"collection/{self._id}", None, self._collect)
            if seen.pending:
                seen = await self.until_accepted(f"collection/{self._id}", None, self._await_webhook)
            self._show(seen)
            if seen.settled:
                await self.finish()
                return f"settled after {seen.attempts} attempts"
            await self.rest(until(seen.next_due, seen.now, seen.on_clock), awake=lambda: self._told)
            self._told = False
            if workflow.info().is_continue_as_new_suggested():
                await self.finish()
                workflow.continue_as_new(invoice_id)

    @workflow.signal(description="The gateway said how a payment ended; the row is written, look at it.")
    def payment_settled(self, attempt_id: str) -> None:
        self._told = True

    async def mended(self) -> None:
        """A new payment method, or what the gateway says, may be what was missing: the step is tried again then too."""
        if not workflow.patched("news ends the parking of a collection"):
            await super().mended()
            return
        await self.rest(awake=lambda: self._resumed or self._told)
        self._told = False

    async def _collect(self) -> Collected:
        return await workflow.execute_activity_method(Payments.collect, self._id, summary="do what is due", **NEIGHBOUR)

    async def _await_webhook(self) -> Collected:
        """A payment under way: give the webhook a moment, then ask the gateway itself.

        A webhook may be an old one, so only the gateway's own answer ends the wait before its time.
        """
        workflow.set_current_details("The payment is under way; waiting for the gateway's word.")
        patience_ends = workflow.now() + WEBHOOK_PATIENCE
        while True:
            with suppress(asyncio.TimeoutError):
                await workflow.wait_condition(
                    lambda: self._told,
                    timeout=max(patience_ends - workflow.now(), timedelta(0)),
                    timeout_summary="until the webhook, or ask",
                )
            self._told = False
            seen = await workflow.execute_activity_method(
                Payments.ask_gateway, self._id, summary="how does the payment stand", **NEIGHBOUR
            )
            if not seen.pending or workflow.now() >= patience_ends:
                return seen

    def _show(self, seen: Collected) -> None:
        stage = "settled" if seen.settled else "needs a person" if seen.waiting_for_person else "dunning"
        attributes.tell(stage, customer=seen.customer, entity=seen.entity, invoice=seen.number)
        due = seen.next_due.isoformat() if seen.next_due else "when a person has acted"
        workflow.set_current_details(
            f"**{stage}**: invoice {seen.number}, open {Money(seen.open_minor, seen.currency)}\n\n"
            f"{seen.attempts} attempts so far."
            + ("" if seen.settled else f"\n\nNext: {due}{' (test clock)' if seen.on_clock else ''}.")
        )
