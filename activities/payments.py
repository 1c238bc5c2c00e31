"""Payments: charging invoices, and writing down what became of each attempt.

A charge is three steps: the attempt is a committed row, the gateway is called with the attempt's id as its
idempotency key, the outcome is recorded. Dying anywhere in between and starting again moves the money once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine
from sqlmodel import Session
from temporalio import activity

from activities.attempts import begin, document_of, elsewhere, give_up, in_doubt, order_of, plan, record
from activities.pulse import heartbeating
from billing.errors import Refused, Unavailable
from integrations.payments import Outcome, PaymentGateway
from models import agenda, invoice, payment, task
from models.database import transaction
from models.entity import entity, now_on
from models.payment import PaymentAttempt, subject_of


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
            document = document_of(session, invoice_id)
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
                elif len(due) > len(doubted) or (last and last.state == "started"):
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
            document = document_of(session, invoice_id)
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
                document = document_of(session, invoice_id)
                plan(session, document, word, now_on(session, entity(session, document.entity_id).clock_id))
            return word

    def _charge(self, invoice_id: str, again: bool = False) -> str | None:
        """One attempt; an attempt that was started and never decided is taken up under its own key.

        If the gateway has told of it, or another amount is owed by now, nothing more is charged by it: the gateway says
        what became of it.
        """
        if (known := self._of_doubted(invoice_id)) is not None:
            return known
        with transaction(self.engine) as session:
            order = begin(session, self.name, invoice_id, again)
        if order is None:
            return None
        try:
            outcome = self.gateway.charge(order)
        except Refused as error:
            # Nothing was charged: the same key may try another method. Who is not let in at all is told nothing of it.
            if error.code != "bad_credentials":
                with transaction(self.engine) as session:
                    session.get_one(PaymentAttempt, order.attempt_id).method_token = None
            raise
        return self._record(order.attempt_id, outcome)

    def _of_doubted(self, invoice_id: str) -> str | None:
        """How an attempt in doubt ended; None if there is none, or it is given up: the gateway knows nothing of it."""
        with transaction(self.engine) as session:
            attempt = in_doubt(session, invoice_id)
        if attempt is None:
            return None
        if (state := self._ask_after(attempt)) is None:
            with transaction(self.engine) as session:
                give_up(session, attempt.id)
        return state

    def _ask_after(self, attempt: PaymentAttempt) -> str | None:
        """Write down how it stands at the gateway; None if that knows nothing of it."""
        if not attempt.reference and not attempt.method_token:
            return None
        if attempt.gateway != self.name:
            raise elsewhere(attempt.gateway, self.name, under_way=True)
        if attempt.reference:
            outcome: Outcome | None = self.gateway.look_up(attempt.reference)
        else:
            with transaction(self.engine) as session:
                order = order_of(session, attempt, document_of(session, attempt.invoice_id))
            outcome = self.gateway.find(order)
        return self._record(attempt.id, outcome) if outcome is not None else None

    def _record(self, attempt_id: str, outcome: Outcome) -> str:
        with transaction(self.engine) as session:
            return record(session, attempt_id, outcome)


def _accepted(session: Session, invoice_id: str, now: datetime) -> None:
    """What was refused before, and a person was asked about, has gone through this time."""
    task.close_tasks(session, subject_of(invoice_id), now, "accepted when it was tried again", "step")
