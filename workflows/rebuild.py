"""A rebuild of a meter's days: counted beside what holds, and compared with it; then a person applies or drops it."""

from __future__ import annotations

from temporalio import workflow

from activities.rebuilding import RebuildOutlook, Rebuilds
from workflows import attributes
from workflows.policies import AHEAD, DATABASE, SET_WORK
from workflows.waiting import Waiting


@workflow.defn
class Rebuild(Waiting):
    """Does what the rebuild's row says is next, piece by piece; open until the meter has no rebuild that is open."""

    @workflow.init
    def __init__(self, meter_id: str) -> None:
        super().__init__()
        self._meter = meter_id
        self._seen: RebuildOutlook | None = None

    @workflow.run
    async def run(self, meter_id: str) -> str:
        while True:
            self._changed = False
            seen = await self.until_accepted(f"rebuild/{meter_id}", None, self._go_on)
            last, self._seen = self._seen, seen
            self._show(seen)
            if workflow.info().is_continue_as_new_suggested():
                await self.finish()
                workflow.continue_as_new(meter_id)
            if seen.to_do or self._changed:
                continue
            if not seen.rebuild_id:
                await self.finish()
                return "settled" if last and last.rebuild_id else "nothing to do"
            await self.rest()
            self._seen = None

    @workflow.query(description="How the rebuild stood when it was last looked at.")
    def outlook(self) -> RebuildOutlook | None:
        return self._seen

    async def _go_on(self) -> RebuildOutlook:
        """The next piece of what is to be done; where nothing is known of, a look."""
        match self._seen.to_do if self._seen else "":
            case "open":
                step, policy, summary = Rebuilds.open_rebuild, SET_WORK, "also count incoming events"
            case "count":
                step, policy, summary = Rebuilds.count_rebuild, AHEAD, "count what is stored"
            case "compare":
                step, policy, summary = Rebuilds.compare_rebuild, AHEAD, "compare with what holds"
            case "apply":
                step, policy, summary = Rebuilds.apply_rebuild, SET_WORK, "apply"
            case "drop":
                step, policy, summary = Rebuilds.drop_rebuild, SET_WORK, "stop counting"
            case "clear":
                step, policy, summary = Rebuilds.clear_rebuild, AHEAD, "delete superseded totals"
            case _:
                step, policy, summary = Rebuilds.look_at_rebuild, DATABASE, "what is to be done"
        return await workflow.execute_activity_method(step, self._meter, summary=summary, **policy)

    def _show(self, seen: RebuildOutlook) -> None:
        waits = seen.rebuild_id and not seen.to_do
        attributes.tell(seen.to_do or ("compared" if waits else "settled"))
        workflow.set_current_details(
            f"**{seen.to_do or ('waits for a person' if waits else 'settled')}**, rebuild {seen.rebuild_id}\n\n"
            f"{seen.counted:,} of {seen.events:,} stored events counted, "
            f"{seen.compared:,} of {seen.customers:,} customers compared, {seen.differing:,} differ.\n\n"
            + ("Differences are at the API: apply the rebuild there, or drop it.\n\n" if waits else "")
        )
