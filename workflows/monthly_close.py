"""The close of one month of one legal entity: cut off, prove, approve, post, lock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from activities.billing import OpenRun
from activities.closing import Approval as Approval
from activities.closing import Begun, Closing, Proof
from activities.closing import Month as Month
from workflows import attributes
from workflows.billing_run import BillingRun
from workflows.policies import DATABASE, NEIGHBOUR, WHOLE_ENTITY
from workflows.waiting import Waiting, until

T = TypeVar("T")

APPROVED = ("approved", "posted to the ERP")
STEPS = ("cut off", "billed", "recognised", "tied out", "approved", "posted to the ERP", "locked")


@workflow.defn
class MonthlyClose(Waiting):
    """A checklist that does itself, and stops where a person has to look."""

    @workflow.init
    def __init__(self, month: Month) -> None:
        super().__init__()
        self._month = month
        self._done: list[str] = []
        self._waiting_for_approval = False
        self._approved_by = ""

    @workflow.run
    async def run(self, month: Month) -> str:
        stage = await self._cut_off()
        if stage == "locked":
            await self.finish()
            return "was locked before"
        if stage not in APPROVED:  # What was approved is not touched again, whatever became of the workflow.
            await self._bill()
            await self._prove()
        await self._approval()
        reference = await self._step(
            lambda: workflow.execute_activity_method(
                Closing.post_to_erp, month, summary="post the journal", **NEIGHBOUR
            )
        )
        self._tick_off("posted to the ERP", reference)
        await self._step(lambda: workflow.execute_activity_method(Closing.lock, month, summary="lock", **DATABASE))
        self._tick_off("locked")
        await self.finish()
        return f"locked; posted as {reference}"

    @workflow.update(description="Approve the close after looking at its tie-outs.")
    async def approve(self, approval: Approval) -> str:
        by = await workflow.execute_activity_method(
            Closing.approve, approval, summary=f"approved by {approval.by}", **DATABASE
        )
        self._approved_by = by
        return by

    @approve.validator
    def _may_approve(self, approval: Approval) -> None:
        if not self._waiting_for_approval and not self._approved_by:
            raise ApplicationError("The close does not wait for an approval yet.", type="Refused", non_retryable=True)

    @workflow.query(description="The steps done so far.")
    def checklist(self) -> list[str]:
        return self._done

    async def _cut_off(self) -> str:
        """Wait for the day; the stage that the close has reached."""
        begun = await self._begin()
        while not begun.stage:
            attributes.tell("waiting for the day", entity=self._month.entity_id, period=f"{self._month.month:%Y-%m}")
            await self.rest(until(begun.due_at, begun.now, begun.on_clock))
            begun = await self._begin()
        attributes.tell("cut off", entity=self._month.entity_id, period=f"{self._month.month:%Y-%m}")
        self._tick_off("cut off", "only recognition posts into the month now")
        return begun.stage

    async def _begin(self) -> Begun:
        return await workflow.execute_activity_method(Closing.begin, self._month, summary="cut off", **DATABASE)

    async def _bill(self) -> None:
        """Whatever the daily run has not billed is billed now; what still is behind needs a person, then again."""
        await self._step(self._bill_what_is_behind)
        self._tick_off("billed")

    async def _bill_what_is_behind(self) -> None:
        await workflow.execute_child_workflow(
            BillingRun.run,
            OpenRun(self._month.entity_id),
            id=f"billing-run/{self._month.entity_id}/close-{self._month.month:%Y-%m}",
            static_summary=f"before the close of {self._month.month:%Y-%m}",
        )
        await workflow.execute_activity_method(
            Closing.check_billed, self._month, summary="is everything billed", **DATABASE
        )

    async def _recognise(self) -> None:
        recognised = await self._step(
            lambda: workflow.execute_activity_method(
                Closing.recognise, self._month, summary="post what was earned", **WHOLE_ENTITY
            )
        )
        self._tick_off("recognised", f"{recognised.amount_minor} minor units in {recognised.entries} entries")

    async def _prove(self) -> None:
        """Recognise and tie out; after a person has mended a difference, both again."""
        while True:
            await self._recognise()
            proof: Proof = await self._step(
                lambda: workflow.execute_activity_method(Closing.prove, self._month, summary="tie-outs", **WHOLE_ENTITY)
            )
            if not proof.differences:
                self._tick_off("tied out", f"{proof.holding} tie-outs hold")
                return
            self._tick_off("tied out", "differences: " + "; ".join(proof.differences))
            await self._park(
                self._month.subject,
                self._month.entity_id,
                ApplicationError(
                    f"Tie-outs do not hold: {'; '.join(proof.differences)}",
                    "Open the tie-outs, follow the items to their cause, correct it, then resume.",
                    type="Refused",
                ),
            )
            del self._done[-2:]

    async def _approval(self) -> None:
        self._waiting_for_approval = True
        approved_before = await workflow.execute_activity_method(
            Closing.await_approval, self._month, summary="ask for approval", **DATABASE
        )
        self._approved_by = self._approved_by or approved_before
        attributes.tell("awaiting approval")
        while not self._approved_by:
            self._show("Waits for `approve`: look at the tie-outs first.")
            await self.rest(awake=lambda: bool(self._approved_by))
        self._waiting_for_approval = False
        self._tick_off("approved", f"by {self._approved_by}")

    async def _step(self, step: Callable[[], Awaitable[T]]) -> T:
        return await self.until_accepted(self._month.subject, self._month.entity_id, step)

    def _tick_off(self, step: str, note: str = "") -> None:
        self._done.append(f"{step}{f': {note}' if note else ''}")
        attributes.tell(step)
        self._show("")

    def _show(self, waits_for: str) -> None:
        done = {text.partition(":")[0]: text for text in self._done}
        lines = [f"- [{'x' if step in done else ' '}] {done.get(step, step)}" for step in STEPS]
        workflow.set_current_details("\n".join([*lines, "", waits_for]))
