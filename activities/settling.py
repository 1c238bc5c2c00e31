"""Settling: what the agenda says has become due on subscriptions takes effect, oldest first, under the root's lock.

Effect goes by date, never by who woke up: a wake, an amendment and a billing batch all settle first. Nothing here
issues an invoice; that is the biller's, and only the biller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlmodel import Session

from billing.accrual import obligation_of
from billing.amending import Preview, ending_lines, preview, terms_after
from billing.errors import Broken, Refused
from billing.ids import derive
from billing.line import Line
from billing.standing import Lane, Standing
from models import agenda, outbox, revenue, rollout, task
from models.amendment import Amendment, open_cancellation
from models.database import cursor
from models.invoice import PendingItem
from models.movable import words_of
from models.selling import change_of, meterings
from models.signing import refuse_metered_anew
from models.standing import standing
from models.subscription import Contract, Subscription, SubscriptionTerms, move, set_lanes, subscription


def subject_of(subscription_id: str) -> str:
    return f"subscription/{subscription_id}"


def settle(session: Session, root_ids: Sequence[str], now: datetime, clock_id: str | None) -> int:
    """Apply everything due by `now` on the subscriptions of these roots; returns how much there was.

    `now` is the time on the clock `clock_id`; subscriptions of the same customer on other clocks wait for theirs. The
    caller holds the roots' lock.
    """
    rows = cursor(session).execute(
        "select id from subscription where root_id = any(%s) and clock_id is not distinct from %s",
        (list(root_ids), clock_id),
    )
    due = agenda.due_for(session, [subject_of(key) for (key,) in rows], now)
    for item in due:
        subscription_id = item.subject.removeprefix("subscription/")
        if subscription(session, subscription_id).state == "ended":
            agenda.done(session, item.subject, item.cause, now, "dropped")
            continue
        match item.kind:
            case "activate":
                _activate(session, subscription_id, item.due_at)
            case "amendment":
                row = session.get(Amendment, item.cause)
                if row is None:
                    raise Broken(f"the agenda names an amendment that is not there: {item.cause}")
                if why := _overtaken(session, row, now):
                    rollout.skipped(session, subscription_id, why, now, row.id)
                    agenda.done(session, item.subject, item.cause, now, "dropped")
                    continue
                apply_amendment(session, row, item.due_at)
            case "end":
                _end(session, subscription_id, item.due_at)
            case _:
                raise Broken(f"{item.subject} does not know {item.kind}")
        agenda.done(session, item.subject, item.cause, now)
    return len(due)


def _overtaken(session: Session, row: Amendment, now: datetime) -> str:
    """Why an amendment does not happen: what came after it was planned. Empty if nothing did.

    The subscription is to end by its day; or it is a roll-out's, and somebody has changed the plan; or usage would be
    billed twice, which a person gets to know.
    """
    cancellation = open_cancellation(session, row.subscription_id)
    if cancellation is not None and cancellation.effective_on <= row.effective_on:
        return f"the subscription ends on {cancellation.effective_on}"
    if rollout.overtaken(session, row.id):
        return "the subscription has been moved to another plan since"
    if row.plan_id is None and row.extras is None:
        return ""  # Other seats or another discount price no other meter.
    one = standing_of(session, row.subscription_id)
    change = change_of(session, row, one.terms)
    try:
        refuse_metered_anew(one, change, meterings(session, [one.customer_id], row.effective_on)[one.customer_id])
    except Refused as refusal:
        subject = f"{subject_of(row.subscription_id)}/{row.id}"
        words = words_of(refusal)
        task.open_task(session, "request", subject, one.entity_id, Refused(words, remedy=refusal.remedy), now)
        return words
    return ""


def standing_of(session: Session, subscription_id: str) -> Standing:
    found = standing(session, subscription_id)
    if found is None:
        raise Broken(f"subscription {subscription_id} is gone")
    return found


def _activate(session: Session, subscription_id: str, at: datetime) -> None:
    row = subscription(session, subscription_id)
    move(session, row, "activate", "first day", at)
    one = standing_of(session, subscription_id)
    set_lanes(session, [(one, Lane("advance", one.anchor)), (one, Lane("arrears", one.anchor))])
    tell_crm(session, subscription_id)


def apply_amendment(session: Session, row: Amendment, now: datetime) -> Preview:
    """New terms from the amendment's day, and what they change in what was already billed."""
    one = standing_of(session, row.subscription_id)
    change = change_of(session, row, one.terms)
    seen = preview(one, change, now)
    after = terms_after(one, change)
    sub = subscription(session, row.subscription_id)
    session.add(
        SubscriptionTerms(
            subscription_id=sub.id,
            version=after.version,
            effective_on=after.effective_on,
            plan_id=after.plan.plan_id,
            plan_version=after.plan.version,
            seats=after.seats,
            discount_percent=after.discount_percent,
            extras=change.extras,
            cause=row.id,
        )
    )
    sub.terms_version = after.version
    move(session, sub, "amend", row.id, now)
    row.applied_at = now
    rollout.moved(session, row.id, now)
    _remember(session, one, seen.lines, row.id, now)
    tell_crm(session, sub.id)
    return seen


def _end(session: Session, subscription_id: str, at: datetime) -> None:
    row = subscription(session, subscription_id)
    cancellation = open_cancellation(session, subscription_id)
    if cancellation is None:
        raise Broken(f"{subscription_id} ends without a cancellation")
    one = standing_of(session, subscription_id)
    _remember(session, one, ending_lines(one, cancellation.effective_on, cancellation.id), cancellation.id, at)
    move(session, row, "end", cancellation.id, at)
    cancellation.applied_at = at
    agenda.drop(session, subject_of(subscription_id), "activate", at)
    agenda.drop(session, subject_of(subscription_id), "amendment", at)
    rollout.skipped(session, subscription_id, "the subscription has ended", at)
    realign_lanes(session, subscription_id)
    tell_crm(session, subscription_id)


def realign_lanes(session: Session, subscription_id: str) -> None:
    """Bring the lanes' due moments in line with an end that has been set or withdrawn."""
    one = standing_of(session, subscription_id)
    set_lanes(session, [(one, lane) for lane in one.lanes])


def _remember(session: Session, one: Standing, lines: Sequence[Line], cause: str, at: datetime) -> None:
    """Lines that wait for the next invoice, and the promises behind them, which are earned from now on."""
    for no, line in enumerate(lines, 1):
        pending_id = derive("pnd", one.subscription_id, line.key)
        session.add(
            PendingItem(
                id=pending_id, subscription_id=one.subscription_id, cause=cause, no=no, line=line, created_at=at
            )
        )
    revenue.promise(session, [(one, obligation_of(one.subscription_id, line)) for line in lines], cause)


def tell_crm(session: Session, subscription_id: str) -> None:
    """Write the subscription's state back to the deal it came from, if it came from one."""
    row = subscription(session, subscription_id)
    contract = session.get(Contract, row.contract_id)
    if contract is None or contract.crm is None or contract.deal_id is None:
        return
    status = status_of(row)
    payload = {"deal_id": contract.deal_id, "subscription_id": row.id, "status": status}
    outbox.post(session, "crm", {f"{row.id}/{status}": payload}, row.entity_id, row.clock_id)


def status_of(row: Subscription) -> str:
    """What a CRM shows of a subscription."""
    return f"{row.state}, terms {row.terms_version}"
