"""What follows when money has come for an invoice, whichever way it came."""

from __future__ import annotations

from datetime import date, datetime

from sqlmodel import Session

from billing.errors import Refused
from billing.journal import Receipt
from billing.money import Money
from models import credit, invoice, ledger, payment, task
from models.invoice import Invoice


def receipt(session: Session, document: Invoice, cause_id: str, amount: Money, day: date) -> Receipt:
    """The money as it is posted: on that day, or on the first of the month that is open by now."""
    posted_on = ledger.posting_day(session, document.entity_id, day)
    return Receipt(
        cause_id, document.entity_id, document.customer_id, document.contract_id, document.id, amount, posted_on
    )


def after_money(session: Session, document: Invoice, what: str, remedy: str, now: datetime) -> bool:
    """What waited for the invoice to be paid goes on, if it is paid by what was posted; says whether it is.

    Of what is too much a person is told: `what` came, and the `remedy`.
    """
    open_minor = invoice.summary(session, document.id).open_minor
    if open_minor > 0:
        return False
    credit.make_usable(session, document.id, now)
    if not any(one.state == "pending" for one in payment.attempts(session, document.id)):
        payment.stop_trying(session, document.id, now)
    task.close_tasks(session, payment.subject_of(document.id), now, "paid")
    if open_minor < 0:
        tell_of_too_much(session, document, f"{what} came when less was owed", -open_minor, remedy, now)
    return True


def tell_of_too_much(session: Session, document: Invoice, what: str, minor: int, remedy: str, now: datetime) -> None:
    """Have a person see to whom the money belongs; who was told already is told how much it is now."""
    over = Money(minor, document.currency)
    refusal = Refused(f"{what}: the invoice is overpaid by {over}.", code="overpaid", remedy=remedy)
    task.open_task(session, "overpayment", payment.subject_of(document.id), document.entity_id, refusal, now)
