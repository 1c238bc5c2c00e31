"""A signed deal becomes a running subscription."""

from __future__ import annotations

from contextlib import suppress

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

from activities.onboarding import DealRef, Opened
from activities.onboarding import Onboarding as Hands
from workflows import attributes
from workflows.policies import DATABASE
from workflows.subscription import Subscription
from workflows.waiting import Waiting


@workflow.defn
class Onboarding(Waiting):
    """Opens the account, then lets the subscription live by itself. A deal seen again changes nothing."""

    @workflow.init
    def __init__(self, ref: DealRef) -> None:
        super().__init__()
        self._ref = ref

    @workflow.run
    async def run(self, ref: DealRef) -> str:
        attributes.tell("opening the account")
        workflow.set_current_details(f"Deal {ref.deal_id} of {ref.crm}: opening the account.")
        opened = await self.until_accepted(f"onboarding/{ref.crm}/{ref.deal_id}", None, self._open)
        attributes.tell("running", customer=opened.customer_id, entity=opened.entity_id)
        workflow.set_current_details(f"Deal {ref.deal_id} runs as subscription `{opened.subscription_id}`.")
        with suppress(WorkflowAlreadyStartedError):
            await workflow.start_child_workflow(
                Subscription.run,
                opened.subscription_id,
                id=f"subscription/{opened.subscription_id}",
                parent_close_policy=ParentClosePolicy.ABANDON,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                static_summary=f"Deal {ref.deal_id}",
            )
        await self.finish()
        return opened.subscription_id

    @workflow.update(description="The CRM names this deal as won; answered at once, whatever becomes of it.")
    async def accept(self) -> str:
        return workflow.info().workflow_id

    async def _open(self) -> Opened:
        return await workflow.execute_activity_method(
            Hands.open_account, self._ref, summary="customer, contract, subscription", **DATABASE
        )
