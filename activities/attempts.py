"""An invoice's attempts, written down: begun, taken up, given up, decided; and what follows from each.

All of it is one transaction at a time; who asks the gateway in between is activities/payments.py.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlmodel import Session

from billing.dunning import DunningPolicy
from billing.errors import Broken, Refused, Unavailable
from billing.ids import derive
from billing.journal import payment_captured
from billing.period import local_day, zone
from integrations.payments import ChargeOrder, Declined, Outcome, Paid, Pending
from models import agenda, invoice, ledger, payment, settlement, task
from models.customer import PaymentMethod, customer, lock_roots
from models.entity import entity, now_on
from models.invoice import Invoice
from models.payment import PaymentAttempt, subject_of

DUNNING = DunningPolicy()
LOOK_AGAIN = timedelta(days=1)


def document_of(session: Session, invoice_id: str) -> Invoice:
    document = session.get(Invoice, invoice_id)
    if document is None:
        raise Broken(f"invoice {invoice_id} is gone")
    return document


def begin(session: Session, gateway: str, invoice_id: str, again: bool) -> ChargeOrder | None:
    """Write the attempt down before anything is asked of the gateway; None if there is nothing to charge."""
    document = document_of(session, invoice_id)
    payer = customer(session, document.customer_id)
    lock_roots(session, [payer.root_id])
    method = session.get(PaymentMethod, payer.id)
    tried = payment.attempts(session, invoice_id)
    owed = invoice.summary(session, invoice_id).open_minor
    last = tried[-1] if tried else None
    if owed <= 0 or (last and last.state == "pending"):
        return None
    begun = last if last and last.state == "started" else None
    means = (begun.gateway, begun.method_token) if begun and begun.method_token else None
    if means is None and method is not None:
        means = (method.gateway, method.token)
    if means is None:
        _ask_for_method(session, document)
        return None
    if last and last.state == "declined" and not last.superseded and not again:
        return None
    if means[0] != gateway:
        raise elsewhere(means[0], gateway, under_way=begun is not None and begun.method_token is not None)
    clock_id = entity(session, document.entity_id).clock_id
    if begun is None:
        no = len(tried) + 1
        begun = PaymentAttempt(
            id=derive("pay", invoice_id, no),
            invoice_id=invoice_id,
            no=no,
            gateway=gateway,
            amount_minor=owed,
            currency=document.currency,
            state="started",
            started_at=now_on(session, clock_id),
        )
    begun.gateway, begun.method_token = means
    session.add(begun)
    return order_of(session, begun, document)


def order_of(session: Session, attempt: PaymentAttempt, document: Invoice) -> ChargeOrder:
    """The attempt as the gateway is asked for it; without a method, it was refused."""
    payer = customer(session, document.customer_id)
    on_clock = entity(session, document.entity_id).clock_id is not None
    return ChargeOrder(
        attempt.id,
        attempt.invoice_id,
        attempt.amount,
        payer.id,
        payer.name,
        payer.email,
        attempt.method_token or "",
        None if on_clock else attempt.started_at,
    )


def in_doubt(session: Session, invoice_id: str) -> PaymentAttempt | None:
    """The last attempt, if it was started, nobody knows how it ended, and it is not to be taken up: the gateway has
    told of it, or another amount is owed by now, as some or all was paid otherwise.
    """
    tried = payment.attempts(session, invoice_id)
    last = tried[-1] if tried else None
    if last is None or last.state != "started":
        return None
    owed = invoice.summary(session, invoice_id).open_minor
    return last if last.reference is not None or last.amount_minor != owed else None


def give_up(session: Session, attempt_id: str) -> None:
    """The gateway has nothing of an attempt whose amount is not owed any more."""
    attempt = payment.lock_attempt(session, attempt_id)
    assert attempt is not None
    if attempt.reference is not None:
        raise Unavailable("The gateway has told of the payment just now.")
    if attempt.state == "started":
        document = document_of(session, attempt.invoice_id)
        attempt.state, attempt.decline_code = "declined", payment.SUPERSEDED
        attempt.decline_message = "Another amount was owed before the gateway had charged it."
        attempt.decided_at = now_on(session, entity(session, document.entity_id).clock_id)


def elsewhere(theirs: str, ours: str, under_way: bool) -> Refused:
    """A token means something at its own gateway only, and so does the name of a payment."""
    if under_way:
        return Refused(
            f"The payment was begun at the gateway {theirs!r}, and payments go through {ours!r}.",
            code="other_gateway",
            remedy=f"Set PAYMENT_GATEWAY to {theirs!r} until it is decided, and answer this task.",
        )
    return Refused(
        f"The customer's payment method is at the gateway {theirs!r}, and payments go through {ours!r}.",
        code="other_gateway",
        remedy=f"Store a payment method at {ours!r} for the customer; the invoice is then charged.",
    )


def _ask_for_method(session: Session, document: Invoice) -> None:
    """An invoice is due and there is nothing to charge: a person has to see to it."""
    refusal = Refused(
        "The invoice is due, and the customer has no payment method.",
        code="no_payment_method",
        remedy="Store a payment method for the customer; the invoice is then charged.",
    )
    now = now_on(session, entity(session, document.entity_id).clock_id)
    task.open_task(session, "collection", subject_of(document.id), document.entity_id, refusal, now)


def record(session: Session, attempt_id: str, outcome: Outcome) -> str:
    """Write down what became of an attempt, with its entry and what follows.

    The first decision stands, but for money that has come: an attempt that was declined and is found paid becomes paid.
    Returns the attempt's state.
    """
    known = session.get(PaymentAttempt, attempt_id)
    if known is None:
        raise Refused(f"There is no payment attempt {attempt_id!r}.", code="not_found")
    document = document_of(session, known.invoice_id)
    lock_roots(session, [customer(session, document.customer_id).root_id])
    attempt = payment.lock_attempt(session, attempt_id)
    assert attempt is not None
    if attempt.state == "paid" or (attempt.state == "declined" and not isinstance(outcome, Paid)):
        return attempt.state
    now = now_on(session, entity(session, document.entity_id).clock_id)
    attempt.reference = outcome.reference
    match outcome:
        case Pending():
            attempt.state = "pending"
            _look_again(session, document, attempt, now)
        case Paid():
            attempt.state, attempt.decided_at = "paid", now
            _settle(session, document, attempt, now)
        case Declined():
            attempt.state, attempt.decided_at = "declined", now
            attempt.decline_code, attempt.decline_message = outcome.code, outcome.message
            attempt.decline_final = outcome.final
            _dun(session, document, attempt, now)
    return attempt.state


def _settle(session: Session, document: Invoice, attempt: PaymentAttempt, now: datetime) -> None:
    """If the invoice was paid otherwise before, what came is in the ledger, and a person sees to whom it belongs."""
    day = local_day(now, zone(entity(session, document.entity_id).time_zone))
    receipt = settlement.receipt(session, document, attempt.id, attempt.amount, day)
    ledger.post(session, [payment_captured(receipt)])
    what = f"The payment {attempt.reference} of {attempt.amount}"
    remedy = f"Give it back at the gateway {attempt.gateway!r}, or agree with the customer; then answer this task."
    if not settlement.after_money(session, document, what, remedy, now):
        plan(session, document, f"rest after {attempt.no}", now)


def _look_again(session: Session, document: Invoice, attempt: PaymentAttempt, now: datetime) -> None:
    """Plan to ask after a payment under way, unless that is planned; day after day, as webhooks get lost."""
    planned = agenda.next_due(session, subject_of(document.id))
    if planned is None or planned <= now:
        due_at = now + LOOK_AGAIN
        plan(session, document, f"look after {attempt.no} on {due_at:%Y-%m-%d}", due_at)


def _dun(session: Session, document: Invoice, attempt: PaymentAttempt, now: datetime) -> None:
    """Plan the next attempt by the dunning calendar; when it is used up, or pointless, ask a person."""
    declines = payment.declines(session, document.id)
    again = None if attempt.decline_final else _next_attempt(len(declines), min(declines, default=now), now)
    payment.stop_trying(session, document.id, now)
    if invoice.summary(session, document.id).open_minor <= 0:
        return
    if again is not None:
        plan(session, document, f"attempt {attempt.no + 1}", again)
        return
    refusal = Refused(
        f"The payment was declined for good: {attempt.decline_message}",
        code=attempt.decline_code or "declined",
        remedy="Ask the customer for another payment method, store it, and answer this task.",
    )
    task.open_task(session, "collection", subject_of(document.id), document.entity_id, refusal, now)


def _next_attempt(no: int, first: datetime, now: datetime) -> datetime | None:
    """The calendar's next day that is still to come; days that passed are not made up for by a row of charges."""
    again = DUNNING.next_attempt(no, first)
    while again is not None and again <= now:
        no += 1
        again = DUNNING.next_attempt(no, first)
    return again


def plan(session: Session, document: Invoice, cause: str, due_at: datetime) -> None:
    clock_id = entity(session, document.entity_id).clock_id
    agenda.plan_ahead(session, subject_of(document.id), "collect", cause, due_at, document.entity_id, clock_id)
