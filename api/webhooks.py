"""What neighbours tell us: webhooks of payment gateways, and the hint to read the CRM now.

A webhook is verified and written down; what it says is looked up at the gateway by the invoice's `Collection`, so that
a late, repeated or lost one does no harm.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from api.access import Administrator, Doors, Open, patiently
from billing.errors import NotFound, Refused
from integrations.payments import COMPARE_SECRETS, GatewayEvent, Paid, PaymentGateway, Pending
from models import payment
from workflows.client import INTAKE
from workflows.collection import Collection
from workflows.policies import LIFECYCLE

router = APIRouter(tags=["Webhooks"])


@router.post("/webhooks/{gateway}", status_code=202)
async def receive_webhook(gateway: str, request: Request, open_: Open) -> dict[str, str]:
    """A payment gateway's event. No key: the gateway signs it."""
    known: dict[str, PaymentGateway] = request.app.state.gateways
    if gateway not in known:
        raise NotFound("payment gateway", gateway)
    if not all(value.isascii() for value in request.headers.values()):  # Comparing such a signature fails.
        raise Refused("This webhook is not signed.", code="bad_signature", remedy=COMPARE_SECRETS)
    event = known[gateway].read_event(await request.body(), request.headers)
    if event is None:
        return {"outcome": "not used"}
    waiting = await run_in_threadpool(_write_down, open_, gateway, event)
    if waiting:
        await _tell(open_.client, waiting, event.attempt_id)
    return {"outcome": "taken in"}


def _write_down(open_: Doors, gateway: str, event: GatewayEvent) -> str | None:
    """Keep the event; the invoice whose collection has to look at this payment, if one does.

    What was declined and is said to be paid after all goes on its agenda, since nobody waits for that. Of an attempt
    whose answer may have been lost, the gateway's name of the payment is kept.
    """
    with open_.transaction() as session:
        outcome = type(event.outcome).__name__.lower()
        payment.keep_webhook(session, gateway, event.event_id, event.attempt_id, outcome)
        attempt = payment.lock_attempt(session, event.attempt_id)
        if attempt is None or isinstance(event.outcome, Pending):
            return None
        if isinstance(event.outcome, Paid) and attempt.reference is None:
            attempt.reference = event.outcome.reference
        if attempt.state == "declined" and isinstance(event.outcome, Paid):
            payment.ask_after(session, attempt.id)
        elif attempt.state != "pending":
            return None
        return attempt.invoice_id


async def _tell(client: Client, invoice_id: str, attempt_id: str) -> None:
    await client.start_workflow(
        Collection.run,
        invoice_id,
        id=f"collection/{invoice_id}",
        task_queue=LIFECYCLE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        start_signal="payment_settled",
        start_signal_args=[attempt_id],
    )


@router.post("/v1/crm/intake", status_code=202)
async def read_crm(open_: Open, key: Administrator) -> dict[str, str]:
    """Read the CRM now instead of at the next full minute."""
    try:
        async with patiently("It is read at the next full minute."):
            await open_.client.get_schedule_handle(INTAKE).trigger()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        raise Refused(
            "No reading of a CRM is scheduled.", code="not_scheduled", remedy="Start a worker with a CRM configured."
        ) from error
    return {"schedule": INTAKE}
