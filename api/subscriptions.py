"""Subscriptions: signing, previews, amendments, cancellations and the upcoming invoice."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from sqlmodel import Session
from temporalio.client import WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from api.access import Database, Doors, Open, Reader, Writer, mint, patiently
from api.agreements import (
    AmendmentIn,
    CancellationIn,
    ChangeIn,
    SubscriptionIn,
    agreement,
    amendment,
    refuse_other_amendment,
    refuse_other_cancellation,
    refuse_other_subscription,
)
from api.bodies import ExactRoute
from billing.amending import Preview, preview
from billing.catalog import Extras
from billing.errors import Fault, NotFound, Refused
from billing.period import local_day
from billing.standing import Standing
from models.amendment import Amendment, Cancellation, amendments, open_cancellation
from models.entity import entity, now_on
from models.selling import change_of, extras_of
from models.signing import sign
from models.standing import standing
from models.subscription import Subscription, SubscriptionTransition, subscription, subscriptions, transitions
from workflows.policies import LIFECYCLE
from workflows.subscription import Answer
from workflows.subscription import Subscription as Lifecycle

router = APIRouter(prefix="/v1/subscriptions", tags=["Subscriptions"], route_class=ExactRoute)


class SubscriptionOut(BaseModel):
    """A subscription with its present terms and history."""

    subscription: Subscription
    plan: str
    plan_version: int
    seats: Decimal
    discount_percent: Decimal
    extras: Extras
    billed_through: dict[str, date]
    ends_on: date | None
    history: list[SubscriptionTransition]
    amendments: list[Amendment]


@router.post("", status_code=201)
async def create_subscription(body: SubscriptionIn, open_: Open, key: Writer) -> Subscription:
    """Sign: contract, terms and subscription in one transaction, then its life begins. Repeated, it changes nothing."""

    def store() -> Subscription:
        with open_.transaction() as session:
            sub_id = body.id or mint("sub")
            if stands := session.get(Subscription, sub_id):
                refuse_other_subscription(session, stands, body)
                return stands
            now = now_on(session, entity(session, body.entity).clock_id)
            return sign(session, agreement(session, body, sub_id), now)

    row = await run_in_threadpool(store)
    async with patiently(_kept(row.id)):
        await open_.client.start_workflow(
            Lifecycle.run,
            row.id,
            id=f"subscription/{row.id}",
            task_queue=LIFECYCLE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"{row.customer_id}, {body.plan}",
        )
    return row


@router.get("")
def list_subscriptions(
    session: Database, key: Reader, after: str = "", limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> list[Subscription]:
    """A page of subscriptions, behind the id `after`."""
    return subscriptions(session, after, limit)


@router.get("/{subscription_id}")
def read_subscription(subscription_id: str, session: Database, key: Reader) -> SubscriptionOut:
    """How the subscription stands."""
    row = subscription(session, subscription_id)
    one = _standing(session, subscription_id)
    ending = open_cancellation(session, subscription_id)
    return SubscriptionOut(
        subscription=row,
        plan=one.terms.plan.plan_id,
        plan_version=one.terms.plan.version,
        seats=one.terms.seats,
        discount_percent=one.terms.discount_percent,
        extras=extras_of(session, subscription_id, one.terms.version),
        billed_through={lane.name: lane.billed_through for lane in one.lanes},
        ends_on=ending.effective_on if ending else None,
        history=transitions(session, subscription_id),
        amendments=amendments(session, subscription_id),
    )


@router.post("/{subscription_id}/amendments/preview")
def preview_amendment(subscription_id: str, body: ChangeIn, session: Database, key: Reader) -> Preview:
    """What a change would cost. Nothing is stored; send the amendment with `preview_hash` to get just this."""
    one = _standing(session, subscription_id)
    now = now_on(session, one.clock_id)
    asked = amendment(session, one, body, "preview", key)
    return preview(one, change_of(session, asked, one.terms), now)


@router.post("/{subscription_id}/amendments")
async def amend(subscription_id: str, body: AmendmentIn, open_: Open, key: Writer) -> Answer:
    """Change plan, seats or discount, today or on a day. The same id again gives the first answer."""
    amendment_id = body.id or mint("amd")

    def store() -> None:
        with open_.transaction() as session:
            _store_amendment(session, subscription_id, amendment_id, body, key)

    await run_in_threadpool(store)
    return await _ask(open_, subscription_id, "amend", amendment_id)


@router.post("/{subscription_id}/amendments/{amendment_id}/withdraw")
async def withdraw_amendment(subscription_id: str, amendment_id: str, open_: Open, key: Writer) -> Answer:
    """Undo an amendment that is planned for a later day. Repeated, it changes nothing. Coupons that were redeemed by it
    can be redeemed again; its id stays taken.
    """

    def known() -> None:
        with open_.transaction() as session:
            asked = session.get(Amendment, amendment_id)
            if asked is None or asked.subscription_id != subscription(session, subscription_id).id:
                remedy = "The subscription lists its amendments."
                raise NotFound("amendment of this subscription", amendment_id, remedy=remedy)

    await run_in_threadpool(known)
    return await _ask(open_, subscription_id, "withdraw_amendment", amendment_id, once=False)


@router.post("/{subscription_id}/upgrade-requests", status_code=202)
async def request_upgrade(subscription_id: str, body: AmendmentIn, open_: Open, key: Writer) -> dict[str, str]:
    """Like an amendment, but not waited for: the request is stored, and the subscription gets a signal."""
    amendment_id = body.id or mint("amd")

    def store() -> None:
        with open_.transaction() as session:
            _store_amendment(session, subscription_id, amendment_id, body, key)

    await run_in_threadpool(store)
    await _signal(open_, subscription_id, "upgrade_requested", amendment_id)
    return {"id": amendment_id}


@router.post("/{subscription_id}/cancellations", status_code=202)
async def request_cancellation(subscription_id: str, body: CancellationIn, open_: Open, key: Writer) -> dict[str, str]:
    """Ask for the end. The request is stored, and the subscription gets a signal; read it to see the day."""
    cancellation_id = body.id or mint("can")

    def store() -> date:
        with open_.transaction() as session:
            return _store_cancellation(session, subscription_id, cancellation_id, body, key)

    effective_on = await run_in_threadpool(store)
    await _signal(open_, subscription_id, "cancellation_requested", cancellation_id)
    return {"id": cancellation_id, "effective_on": effective_on.isoformat()}


@router.post("/{subscription_id}/cancellations/withdraw")
async def withdraw_cancellation(subscription_id: str, open_: Open, key: Writer) -> Answer:
    """Undo a cancellation that has not taken effect."""

    def known() -> None:
        with open_.transaction() as session:
            subscription(session, subscription_id)

    await run_in_threadpool(known)
    return await _ask(open_, subscription_id, "withdraw_cancellation")


def _standing(session: Session, subscription_id: str) -> Standing:
    one = standing(session, subscription_id)
    if one is None:
        raise NotFound("subscription", subscription_id)
    return one


def _store_amendment(session: Session, subscription_id: str, amendment_id: str, body: AmendmentIn, by: str) -> None:
    """The request as a row, before anyone is told. The same id for another request is refused."""
    one = _standing(session, subscription_id)
    standing_row = session.get(Amendment, amendment_id)
    if standing_row is not None:
        refuse_other_amendment(standing_row, subscription_id, body)
        return
    session.add(amendment(session, one, body, amendment_id, by))


def _store_cancellation(
    session: Session, subscription_id: str, cancellation_id: str, body: CancellationIn, by: str
) -> date:
    one = _standing(session, subscription_id)
    now = now_on(session, one.clock_id)
    today = local_day(now, one.zone)
    standing_row = session.get(Cancellation, cancellation_id)
    if standing_row is not None:
        refuse_other_cancellation(standing_row, subscription_id, body)
        return standing_row.effective_on
    if open_cancellation(session, subscription_id) is not None:
        raise Refused("A cancellation stands already.", code="already_cancelled", remedy="Withdraw it first.")
    if one.state == "ended":
        remedy = "Nothing is left to cancel; agree on a new subscription to go on."
        raise Refused("The subscription has ended.", code="transition_not_possible", remedy=remedy)
    first_unbilled = max(one.billed_through("advance"), today)
    effective_on = {"period_end": first_unbilled, "now": today}.get(str(body.when)) or date.fromisoformat(
        str(body.when)
    )
    if effective_on < today:
        fault = Fault("when", f"must not be before {today}")
        raise Refused("The end cannot be in the past.", faults=[fault], remedy="Choose that day or a later one.")
    session.add(
        Cancellation(
            id=cancellation_id,
            subscription_id=subscription_id,
            effective_on=effective_on,
            reason=body.reason,
            requested_by=by,
            requested_at=now,
        )
    )
    return effective_on


def _lifecycle(subscription_id: str) -> WithStartWorkflowOperation[Any, Any]:
    return WithStartWorkflowOperation(
        Lifecycle.run,
        subscription_id,
        id=f"subscription/{subscription_id}",
        task_queue=LIFECYCLE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
    )


async def _ask(open_: Doors, subscription_id: str, update: str, *args: str, once: bool = True) -> Answer:
    """An update, with the workflow started if it does not run; a refusal becomes a problem document.

    What is to happen `once` under its id gets the first answer again.
    """
    async with patiently(_kept(*args) if args else "Read the subscription; if nothing has changed, send it again."):
        answer: Answer = await open_.client.execute_update_with_start_workflow(
            update,
            args=args,
            start_workflow_operation=_lifecycle(subscription_id),
            id=args[0] if args and once else None,
            result_type=Answer,
        )
    if not answer.accepted:
        faults = [Fault(field, reason) for field, reason in answer.faults]
        raise Refused(answer.reason, code=answer.code, faults=faults, remedy=answer.remedy)
    return answer


async def _signal(open_: Doors, subscription_id: str, signal: str, request_id: str) -> None:
    async with patiently(_kept(request_id)):
        await open_.client.start_workflow(
            Lifecycle.run,
            subscription_id,
            id=f"subscription/{subscription_id}",
            task_queue=LIFECYCLE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_signal=signal,
            start_signal_args=[request_id],
        )


def _kept(request_id: str) -> str:
    return f"The request is stored as {request_id!r}. Send it again with this id to carry it out."
