"""Bank transfers: money that came for an invoice without a gateway."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

from sqlmodel import Field, Session, SQLModel, col, select

from billing.errors import Fault, Refused
from billing.journal import transfer_received
from billing.money import Money
from billing.period import instant, zone
from models import agenda, ledger, payment, settlement, task
from models.customer import customer, lock_roots
from models.database import cursor
from models.entity import LegalEntity, entity, now_on, today
from models.invoice import Invoice, summary
from models.values import large, moment

REMEDY = "Give it back by bank and record that as a transfer of less than 0: this task is closed once nothing is left."
REMEDY += " Or agree with the customer, and answer it."


class BankTransfer(SQLModel, table=True):
    """Money that came to a bank account for an invoice, or, if it is less than 0, went back. `received_on` is the value
    date, `reference` what the bank says of it.
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

    What is still open is collected as before; what went back and is open again is collected anew. Refused if the
    invoice can have received no such money.
    """
    document = session.get_one(Invoice, came.invoice_id)
    lock_roots(session, [customer(session, document.customer_id).root_id])
    before = sum(one.amount_minor for one in transfers(session, document.id))
    if not _enter(session, came):
        return session.get_one(BankTransfer, came.id)
    seller = entity(session, document.entity_id)
    faults = [*_wrong(came, document, before, today(session, seller))]
    if faults:
        raise Refused(
            "The invoice cannot have received this transfer.", code="invalid_transfer", faults=faults, remedy=_CORRECT
        )
    now = now_on(session, seller.clock_id)
    if came.amount_minor > 0:
        _settle(session, came, document, seller, now)
    else:
        _take_back(session, came, document, seller, now)
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


def _wrong(came: BankTransfer, document: Invoice, before: int, today: date) -> Iterator[Fault]:
    """What cannot be, given what came `before`."""
    if document.kind == "credit_note":
        yield Fault("invoice_id", "is a credit note, for which nothing is to be paid")
    if came.currency != document.currency:
        yield Fault("currency", f"must be {document.currency}, as on the invoice")
    elif before + came.amount_minor < 0:
        yield Fault("amount_minor", f"takes back more than came by bank, which is {Money(before, document.currency)}")
    if came.received_on > today:
        yield Fault("received_on", f"must not be after {today}, which is today in the books of the legal entity")
    elif came.received_on < document.issued_on:
        yield Fault("received_on", f"must not be before {document.issued_on}, when the invoice was issued")


def _settle(session: Session, came: BankTransfer, document: Invoice, seller: LegalEntity, now: datetime) -> None:
    collected = payment.is_collected(session, document.id, now)
    _post(session, came, document)
    what = f"The transfer {came.id} of {came.amount}"
    if settlement.after_money(session, document, what, REMEDY, now) and collected:
        _plan(session, document, f"{agenda.SETTLED_BY}{came.id}", now, seller)


def _take_back(session: Session, came: BankTransfer, document: Invoice, seller: LegalEntity, now: datetime) -> None:
    """What was open before is collected already."""
    before = summary(session, document.id).open_minor
    _post(session, came, document)
    open_minor = before - came.amount_minor
    if open_minor < 0:
        what = f"After {-came.amount} went back by {came.id}"
        settlement.tell_of_too_much(session, document, what, -open_minor, REMEDY, now)
        return
    task.close_tasks(session, payment.subject_of(document.id), now, "given back", "overpayment")
    if before <= 0 < open_minor:
        due_at = instant(document.due_on, zone(seller.time_zone))
        _plan(session, document, f"{payment.OPEN_AGAIN}{came.id}", max(due_at, now), seller)


def _post(session: Session, came: BankTransfer, document: Invoice) -> None:
    receipt = settlement.receipt(session, document, came.id, came.amount, came.received_on)
    ledger.post(session, [transfer_received(receipt)])


def _plan(session: Session, document: Invoice, cause: str, due_at: datetime, seller: LegalEntity) -> None:
    subject = payment.subject_of(document.id)
    agenda.plan_ahead(session, subject, "collect", cause, due_at, seller.id, seller.clock_id)
