"""Bank transfers: money that came for an invoice without a gateway."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

from sqlmodel import Field, Session, SQLModel, col, select

from billing.errors import Fault, Refused
from billing.journal import transfer_received
from billing.money import Money
from models import agenda, ledger, payment, settlement
from models.customer import customer, lock_roots
from models.database import cursor
from models.entity import LegalEntity, entity, now_on, today
from models.invoice import Invoice
from models.values import large, moment

REMEDY = "Give it back by bank, or agree with the customer; then answer this task."


class BankTransfer(SQLModel, table=True):
    """Money that came to a bank account for an invoice. `received_on` is the value date, `reference` what the bank says
    of it.
    """

    __tablename__ = "bank_transfer"
    id: str = Field(primary_key=True)
    invoice_id: str = Field(foreign_key="invoice.id")
    amount_minor: int = large()
    currency: str
    received_on: date
    reference: str = ""
    recorded_at: datetime = moment(default_factory=lambda: datetime.now(UTC))
    by_key: str

    @property
    def amount(self) -> Money:
        return Money(self.amount_minor, self.currency)


def transfers(session: Session, invoice_id: str) -> list[BankTransfer]:
    query = select(BankTransfer).where(BankTransfer.invoice_id == invoice_id)
    return list(session.exec(query.order_by(col(BankTransfer.received_on), col(BankTransfer.id))))


def receive_transfer(session: Session, came: BankTransfer) -> BankTransfer:
    """Write down a transfer with its entry, and what follows from it. One whose id is known is given as it stands.

    What is still open is collected as before. Refused if the invoice can have received no such money.
    """
    document = session.get_one(Invoice, came.invoice_id)
    lock_roots(session, [customer(session, document.customer_id).root_id])
    if not _enter(session, came):
        return session.get_one(BankTransfer, came.id)
    seller = entity(session, document.entity_id)
    faults = [*_wrong(came, document, today(session, seller))]
    if faults:
        raise Refused(
            "The invoice cannot have received this transfer.", code="invalid_transfer", faults=faults, remedy=_CORRECT
        )
    _settle(session, came, document, seller)
    return came


_CORRECT = "Correct it by what the bank says, or look up whether another invoice is meant."


def _enter(session: Session, came: BankTransfer) -> bool:
    """Whether it is new; who comes with the same id at the same time waits for this transaction."""
    done = cursor(session).execute(
        "insert into bank_transfer (id, invoice_id, amount_minor, currency, received_on, reference, recorded_at,"
        " by_key) values (%(id)s, %(invoice_id)s, %(amount_minor)s, %(currency)s, %(received_on)s, %(reference)s,"
        " %(recorded_at)s, %(by_key)s) on conflict do nothing",
        came.model_dump(),
    )
    return done.rowcount == 1


def _wrong(came: BankTransfer, document: Invoice, today: date) -> Iterator[Fault]:
    if document.kind == "credit_note":
        yield Fault("invoice_id", "is a credit note, for which nothing is to be paid")
    if came.currency != document.currency:
        yield Fault("currency", f"must be {document.currency}, as on the invoice")
    if came.received_on > today:
        yield Fault("received_on", f"must not be after {today}, which is today in the books of the legal entity")
    elif came.received_on < document.issued_on:
        yield Fault("received_on", f"must not be before {document.issued_on}, when the invoice was issued")


def _settle(session: Session, came: BankTransfer, document: Invoice, seller: LegalEntity) -> None:
    now = now_on(session, seller.clock_id)
    receipt = settlement.receipt(session, document, came.id, came.amount, came.received_on)
    collected = payment.is_collected(session, document.id, now)
    ledger.post(session, [transfer_received(receipt)])
    what = f"The transfer {came.id} of {came.amount}"
    if settlement.after_money(session, document, what, REMEDY, now) and collected:
        cause = f"settled by {came.id}"
        agenda.plan_ahead(session, payment.subject_of(document.id), "collect", cause, now, seller.id, seller.clock_id)
