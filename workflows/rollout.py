"""A roll-out of a plan's version: members are made, those who are held wait for a person, and all can be taken back.

Those who were planned are moved on their day by their own subscription; nothing here waits for that.
"""

from __future__ import annotations

from temporalio import workflow

from activities.rolling_out import NextBatch, Outlook, Rollouts
from workflows import attributes
from workflows.policies import DATABASE, SET_WORK
from workflows.waiting import Waiting


@workflow.defn
class Rollout(Waiting):
    """Does what the agenda says, batch by batch; open while somebody is held, and started again for a take-back."""

    @workflow.init
    def __init__(self, rollout_id: str) -> None:
        super().__init__()
        self._id = rollout_id
        self._seen: Outlook | None = None

    @workflow.run
    async def run(self, rollout_id: str) -> str:
        while True:
            self._changed = False
            seen = await self.until_accepted(f"rollout/{self._id}", self._entity, self._go_on)
            self._show(seen)
            if workflow.info().is_continue_as_new_suggested():
                await self.finish()
                workflow.continue_as_new(rollout_id)
            if seen.to_do or self._changed:
                continue
            if not seen.held:
                await self.finish()
                return _said(seen)
            await self.rest()

    @workflow.query(description="How the roll-out stood when it was last looked at.")
    def outlook(self) -> Outlook | None:
        return self._seen

    @property
    def _entity(self) -> str | None:
        return self._seen.entity if self._seen else None

    async def _go_on(self) -> Outlook:
        """The next batch of what is to be done; where nothing is known of, a look."""
        seen = self._seen
        if seen is None or not seen.to_do:
            return await workflow.execute_activity_method(
                Rollouts.look_at_rollout, self._id, summary="what is to be done", **DATABASE
            )
        step = {"stage": Rollouts.stage, "decide": Rollouts.decide, "take back": Rollouts.take_back}[seen.to_do]
        return await workflow.execute_activity_method(
            step, NextBatch(self._id, seen.after), summary=seen.to_do, **SET_WORK
        )

    def _show(self, seen: Outlook) -> None:
        self._seen = seen
        stage = seen.to_do or ("held" if seen.held else "settled")
        attributes.tell(stage, entity=seen.entity)
        workflow.set_current_details(
            f"**{stage}**, to {seen.target}\n\n{_said(seen)}.\n\n"
            + ("Answer the tasks of those who are held, `move` or `leave`.\n\n" if seen.held else "")
            + "Members and figures are at the API, and the take-back too."
        )


def _said(seen: Outlook) -> str:
    return (
        f"{seen.planned} planned, {seen.held} held, {seen.refused} refused, {seen.skipped} skipped, "
        f"{seen.moved} moved, {seen.taken_back} taken back"
    )
