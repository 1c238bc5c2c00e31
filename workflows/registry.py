"""All workflows and the sandbox they run in: what worker, replayer and tests share."""

from __future__ import annotations

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from workflows.billing_run import BillingRun
from workflows.collection import Collection
from workflows.monthly_close import MonthlyClose
from workflows.onboarding import Onboarding
from workflows.rebuild import Rebuild
from workflows.rollout import Rollout
from workflows.standing_duties import Courier, CrmIntake, Forgetting, MonthsAhead, Sweep
from workflows.subscription import Subscription
from workflows.test_clock import TestClock

WORKFLOWS = (
    BillingRun,
    Collection,
    Courier,
    CrmIntake,
    MonthlyClose,
    Forgetting,
    MonthsAhead,
    Onboarding,
    Rebuild,
    Rollout,
    Subscription,
    Sweep,
    TestClock,
)


def runner() -> SandboxedWorkflowRunner:
    """The sandbox, with our own packages passed through once: they are deterministic where workflows use them."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules(
        "billing", "models", "integrations", "activities"
    )
    return SandboxedWorkflowRunner(restrictions=restrictions)
