"""Payments: charging invoices, and writing down what became of each attempt.

A charge is three steps: the attempt is a committed row, the gateway is called with the attempt's id as its
idempotency key, the outcome is recorded. Dying anywhere in between and starting again moves the money once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine
from sqlmodel import Session
from temporalio import activity

from activities.pulse import heartbeating
from billing.dunning import DunningPolicy
from billing.errors import Broken, Refused, Unavailable
from billing.ids import derive
from billing.journal import payment_captured
from billing.period import local_day, zone
from integrations.payments import ChargeOrder, Declined, Outcome, Paid, PaymentGateway, Pending
from models import agenda, invoice, ledger, payment, settlement, task
from models.customer import PaymentMethod, customer, lock_roots
from models.database import transaction
from models.entity import entity, now_on
from models.invoice import Invoice
from models.payment import PaymentAttempt, subject_of

DUNNING = DunningPolicy()
LOOK_AGAIN = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ChargeRun:
    """Charge up to `limit` invoices of a billing run."""

    run_id: str
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Charged:
    """What became of them; `more` if there are further ones, `collections` are the subjects that now wait."""

    paid: int
    declined: int
    pending: int
    more: bool
    collections: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Collected:
    """How an invoice's collection stands."""

    settled: bool
    waiting_for_person: bool
    pending: bool
    next_due: datetime | None
    now: datetime
    on_clock: bool
    open_minor: int
    currency: str
    number: str
    attempts: int
    customer: str
    entity: str


class Payments:
    """Charges through one gateway."""

    def __init__(self, engine: Engine, name: str, gateway: PaymentGateway) -> None:
        self.engine = engine
        self.name = name
        self.gateway = gateway

    @activity.defn
    def charge_run(self, command: ChargeRun) -> Charged:
        """First attempts for a run's invoices, in order of number."""
        with transaction(self.engine) as session:
            ids = payment.to_charge(session, command.run_id, command.limit + 1)
        with heartbeating():
            outcomes = [self._charge_of_run(invoice_id) for invoice_id in ids[: command.limit]]
        unsettled = ("declined", "pending", "refused", "unavailable")
        waiting = [subject_of(i) for i, state in zip(ids, outcomes, strict=False) if state in unsettled]
        return Charged(
            outcomes.count("paid"),
            outcomes.count("declined"),
            outcomes.count("pending"),
            len(ids) > command.limit,
            tuple(waiting),
        )

    @activity.defn
    def collect(self, invoice_id: str) -> Collected:
        """Do what is due for an invoice: ask after a payment, or try the method again."""
        with transaction(self.engine) as session:
            document = _document(session, invoice_id)
            now = now_on(session, entity(session, document.entity_id).clock_id)
            due = agenda.due_for(session, [subject_of(invoice_id)], now)
            tried = payment.attempts(session, invoice_id)
        if due:
            last = tried[-1] if tried else None
            doubted = [item.cause for item in due if item.cause.startswith(payment.PAID_AFTER_ALL)]
            with heartbeating():
                for attempt in tried:
                    if f"{payment.PAID_AFTER_ALL}{attempt.id}" in doubted:
                        self._ask_after(attempt)
                if last and last.state == "pending":
                    self._ask_after(last)
                elif len(due) > len(doubted):
                    self._charge(invoice_id, again=True)
            with transaction(self.engine) as session:
                for item in due:
                    agenda.done(session, item.subject, item.cause, now)
                _accepted(session, invoice_id, now)
        return self.collection(invoice_id)

    @activity.defn
    def ask_gateway(self, invoice_id: str) -> Collected:
        """How a payment under way stands at the gateway now."""
        with transaction(self.engine) as session:
            document = _document(session, invoice_id)
            now = now_on(session, entity(session, document.entity_id).clock_id)
            tried = payment.attempts(session, invoice_id)
        if tried and tried[-1].state == "pending":
            with heartbeating():
                self._ask_after(tried[-1])
            with transaction(self.engine) as session:
                _accepted(session, invoice_id, now)
        return self.collection(invoice_id)

    def collection(self, invoice_id: str) -> Collected:
        with transaction(self.engine) as session:
            seen = invoice.summary(session, invoice_id)
            seller = entity(session, seen.entity_id)
            tried = payment.attempts(session, invoice_id)
            next_due = agenda.next_due(session, subject_of(invoice_id))
            return Collected(
                settled=seen.open_minor <= 0,
                waiting_for_person=seen.open_minor > 0 and next_due is None,
                pending=bool(tried) and tried[-1].state == "pending",
                next_due=next_due,
                now=now_on(session, seller.clock_id),
                on_clock=seller.clock_id is not None,
                open_minor=seen.open_minor,
                currency=seen.currency,
                number=seen.number,
                attempts=len(tried),
                customer=seen.customer_id,
                entity=seen.entity_id,
            )

    def _charge_of_run(self, invoice_id: str) -> str:
        """What became of it. One that the gateway refuses or has no time for is left to its `Collection`."""
        try:
            return self._charge(invoice_id) or ""
        except (Refused, Unavailable) as error:
            word = "refused" if isinstance(error, Refused) else "unavailable"
            with transaction(self.engine) as session:
                document = _document(session, invoice_id)
                _plan(session, document, word, now_on(session, entity(session, document.entity_id).clock_id))
            return word

    def _charge(self, invoice_id: str, again: bool = False) -> str | None:
        """One attempt; an attempt that was started and never decided is taken up under its own key."""
        with transaction(self.engine) as session:
            order = _begin(session, self.name, invoice_id, again)
        if order is None:
            return None
        try:
            outcome = self.gateway.charge(order)
        except Refused:
            # Nothing was charged: the same key may try another method.
            with transaction(self.engine) as session:
                session.get_one(PaymentAttempt, order.attempt_id).method_token = None
            raise
        return self._record(order.attempt_id, outcome)

    def _ask_after(self, attempt: PaymentAttempt) -> None:
        """Write down how it stands at the gateway, where it has come so far."""
        if attempt.reference:
            if attempt.gateway != self.name:
                raise _elsewhere(attempt.gateway, self.name, under_way=True)
            self._record(attempt.id, self.gateway.look_up(attempt.reference))

    def _record(self, attempt_id: str, outcome: Outcome) -> str:
        with transaction(self.engine) as session:
            return record(session, attempt_id, outcome)


def _document(session: Session, invoice_id: str) -> Invoice:
    document = session.get(Invoice, invoice_id)
    if document is None:
        raise Broken(f"invoice {invoice_id} is gone")
    return document


def _accepted(session: Session, invoice_id: str, now: datetime) -> None:
    """What was refused before, and a person was asked about, has gone through this time."""
    task.close_tasks(session, subject_of(invoice_id), now, "accepted when it was tried again", "step")


def _begin(session: Session, gateway: str, invoice_id: str, again: bool) -> ChargeOrder | None:
    """Write the attempt down before anything is asked of the gateway; None if there is nothing to charge."""
    document = _document(session, invoice_id)
    payer = customer(session, document.customer_id)
    lock_roots(session, [payer.root_id])
    method = session.get(PaymentMethod, payer.id)
    tried = payment.attempts(session, invoice_id)
    owed = invoice.summary(session, invoice_id).open_minor
    last = tried[-1] if tried else None
    if owed <= 0 or (last and last.state in ("paid", "pending")):
        return None
    begun = last if last and last.state == "started" else None
    means = (begun.gateway, begun.method_token) if begun and begun.method_token else None
    if means is None and method is not None:
        means = (method.gateway, method.token)
    if means is None:
        _ask_for_method(session, document)
        return None
    if last and last.state == "declined" and not again:
        return None
    if means[0] != gateway:
        raise _elsewhere(means[0], gateway, under_way=begun is not None and begun.method_token is not None)
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
    elif begun.method_token is None:
        begun.amount_minor = owed  # The gateway refused it, and a part may have come by bank since.
    begun.gateway, begun.method_token = means
    session.add(begun)
    begun_at = None if clock_id else begun.started_at
    return ChargeOrder(begun.id, invoice_id, begun.amount, payer.id, payer.name, payer.email, means[1], begun_at)


def _elsewhere(theirs: str, ours: str, under_way: bool) -> Refused:
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
    document = _document(session, known.invoice_id)
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
    settlement.after_money(session, document, what, remedy, now)


def _look_again(session: Session, document: Invoice, attempt: PaymentAttempt, now: datetime) -> None:
    """Plan to ask after a payment under way, unless that is planned; day after day, as webhooks get lost."""
    planned = agenda.next_due(session, subject_of(document.id))
    if planned is None or planned <= now:
        due_at = now + LOOK_AGAIN
        _plan(session, document, f"look after {attempt.no} on {due_at:%Y-%m-%d}", due_at)


def _dun(session: Session, document: Invoice, attempt: PaymentAttempt, now: datetime) -> None:
    """Plan the next attempt by the dunning calendar; when it is used up, or pointless, ask a person."""
    declines = [a for a in payment.attempts(session, document.id) if a.state == "declined" and a.decided_at]
    first = min((a.decided_at for a in declines if a.decided_at), default=now)
    again = None if attempt.decline_final else _next_attempt(attempt.no, first, now)
    agenda.drop(session, subject_of(document.id), "collect", now)
    if invoice.summary(session, document.id).open_minor <= 0:
        return
    if again is not None:
        _plan(session, document, f"attempt {attempt.no + 1}", again)
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


def _plan(session: Session, document: Invoice, cause: str, due_at: datetime) -> None:
    clock_id = entity(session, document.entity_id).clock_id
    agenda.plan_ahead(session, subject_of(document.id), "collect", cause, due_at, document.entity_id, clock_id)
