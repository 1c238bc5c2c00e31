"""One subscription, for its whole life. It sleeps; it wakes when its lifecycle changes, not when a period ends."""

from __future__ import annotations

from temporalio import workflow

from activities.billing import Billing, BillOne
from activities.clock import Clocks
from activities.lifecycle import Answer as Answer
from activities.lifecycle import Lifecycle, Standstill
from activities.payments import ChargeRun, Payments
from workflows import attributes
from workflows.policies import DATABASE, NEIGHBOUR, OTHERS, SET_WORK
from workflows.waiting import Waiting, until


@workflow.defn
class Subscription(Waiting):
    """Effective-dated rows say what the subscription is; this only sees to it that they take effect in time."""

    @workflow.init
    def __init__(self, subscription_id: str) -> None:
        super().__init__()
        self._id = subscription_id
        self._seen: Standstill | None = None

    @workflow.run
    async def run(self, subscription_id: str) -> str:
        while True:
            seen = await self.until_accepted(self._subject, None, self._look_and_bill)
            if seen.state == "ended":
                await self.finish()
                return f"ended on {seen.ends_on}"
            await self.rest(until(seen.next_due, seen.now, seen.on_clock))
            if workflow.info().is_continue_as_new_suggested():
                await self.finish()
                workflow.continue_as_new(subscription_id)

    @workflow.update(description="Carry out a stored amendment, now or on its day; repeated, the first answer.")
    async def amend(self, amendment_id: str) -> Answer:
        return await self._amend(amendment_id)

    @workflow.update(description="Schedule a stored cancellation. Asking again changes nothing.")
    async def cancel(self, cancellation_id: str) -> Answer:
        return await self._cancel(cancellation_id)

    @workflow.update(description="Undo an amendment that is planned. Asking again changes nothing.")
    async def withdraw_amendment(self, amendment_id: str) -> Answer:
        answer = await workflow.execute_activity_method(
            Lifecycle.withdraw_amendment, amendment_id, summary=f"withdraw {amendment_id}", **DATABASE
        )
        self._changed = True
        return answer

    @workflow.update(description="Undo a cancellation that has not taken effect.")
    async def withdraw_cancellation(self) -> Answer:
        answer = await workflow.execute_activity_method(
            Lifecycle.withdraw_cancellation, self._id, summary="withdraw the cancellation", **DATABASE
        )
        self._changed = True
        return answer

    @workflow.signal(description="An upgrade was stored under this id: carry it out like `amend`.")
    async def upgrade_requested(self, amendment_id: str) -> None:
        await self.or_ask(f"{self._subject}/{amendment_id}", lambda: self._amend(amendment_id))

    @workflow.signal(description="A cancellation was stored under this id: schedule it like `cancel`.")
    async def cancellation_requested(self, cancellation_id: str) -> None:
        await self.or_ask(f"{self._subject}/{cancellation_id}", lambda: self._cancel(cancellation_id))

    @workflow.query(description="How the subscription stood when it was last looked at.")
    def standing(self) -> Standstill | None:
        return self._seen

    async def _amend(self, amendment_id: str) -> Answer:
        answer = await workflow.execute_activity_method(
            Lifecycle.amend, amendment_id, summary=f"amend {amendment_id}", **DATABASE
        )
        self._changed = True
        return answer

    async def _cancel(self, cancellation_id: str) -> Answer:
        answer = await workflow.execute_activity_method(
            Lifecycle.cancel, cancellation_id, summary=f"cancel {cancellation_id}", **DATABASE
        )
        self._changed = True
        return answer

    @property
    def _subject(self) -> str:
        return f"subscription/{self._id}"

    async def _look(self) -> Standstill:
        return await workflow.execute_activity_method(
            Lifecycle.look, self._id, summary="let take effect what is due", **DATABASE
        )

    async def _look_and_bill(self) -> Standstill:
        seen = await self._look()
        self._show(seen)
        if not seen.bill_now:
            return seen
        await self._bill(seen)
        seen = await self._look()
        self._show(seen)
        return seen

    async def _bill(self, seen: Standstill) -> None:
        """The first or last invoice, at once; a card is charged for it, and what stays open is collected."""
        cause = "last" if seen.state == "ended" else "first"
        billed = await workflow.execute_activity_method(
            Billing.bill_one, BillOne(self._id, cause), summary=f"the {cause} invoice", **SET_WORK
        )
        charged = await workflow.execute_activity_method(
            Payments.charge_run, ChargeRun(billed.run_id), summary="charge it", **NEIGHBOUR
        )
        if charged.collections and not seen.on_clock:
            await workflow.execute_activity_method(
                Clocks.rouse, charged.collections, summary="start collecting", **OTHERS
            )

    def _show(self, seen: Standstill) -> None:
        self._seen = seen
        attributes.tell(seen.state, customer=seen.customer, entity=seen.entity, period=seen.billed_through)
        ending = f"ends on {seen.ends_on}" if seen.ends_on else "runs until cancelled"
        due = seen.next_due.isoformat() if seen.next_due else "nothing planned"
        workflow.set_current_details(
            f"**{seen.state}**, {seen.plan}, {seen.seats} seats\n\n"
            f"Billed in advance up to {seen.billed_through}; {ending}.\n\n"
            f"Wakes next: {due}{' (test clock)' if seen.on_clock else ''}.\n\n"
            "Change it with `amend` or `cancel`; a preview is at the API."
        )
