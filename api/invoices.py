"""Invoices: lists, documents, explanations and the upcoming one."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from api.access import Database, Reader
from api.bodies import ExactRoute
from api.pages import lost
from billing.biller import Occasion
from billing.errors import NotFound
from billing.explain import explain
from billing.invoice import Invoice as Document
from billing.money import Money
from billing.period import instant, local_day
from billing.replay import Difference, replay, replay_discounts
from models import invoice
from models.billable import rated
from models.customer import customer as known_customer
from models.entity import now_on
from models.invoice import Invoice, InvoiceLine, InvoiceSummary, InvoiceTax
from models.party import Party
from models.payment import PaymentAttempt, attempts
from models.standing import standing
from models.subscription import subscription as known_subscription
from models.transfer import BankTransfer, transfers

router = APIRouter(prefix="/v1", tags=["Invoices"], route_class=ExactRoute)


class InvoiceOut(BaseModel):
    """An invoice with seller and buyer as it prints them, lines, taxes and payments. Amounts ending in `_minor` are in
    minor units of the currency.
    """

    invoice: InvoiceSummary
    seller: Party
    buyer: Party
    status: str
    lines: list[InvoiceLine]
    taxes: list[InvoiceTax]
    payments: list[PaymentAttempt]
    transfers: list[BankTransfer]


class Explained(BaseModel):
    """A line and the words that explain it."""

    no: int
    description: str
    net: str
    because: list[str]


class Explanation(BaseModel):
    """Where every figure of an invoice comes from. `usage_snapshot` marks which events it has seen."""

    number: str
    total: str
    lines: list[Explained]
    usage_snapshot: str


@router.get("/invoices")
def list_invoices(
    session: Database,
    key: Reader,
    customer: str | None = None,
    subscription: str | None = None,
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[InvoiceSummary]:
    """A page of invoices by legal entity, kind and number, behind the one with the number `after`."""
    if customer is not None:
        known_customer(session, customer)
    if subscription is not None:
        known_subscription(session, subscription)
    behind = invoice.place_of(session, after) if after else None
    if after and behind is None:
        raise lost("must be the number of an invoice or credit note")
    return invoice.summaries(session, customer, subscription, behind, limit)


@router.get("/invoices/{invoice_id}")
def read_invoice(invoice_id: str, session: Database, key: Reader) -> InvoiceOut:
    """One invoice, by id or number."""
    seen = invoice.summary(session, invoice_id)
    seller, buyer = invoice.parties(session, seen.id)
    return InvoiceOut(
        invoice=seen,
        seller=Party(**seller.model_dump()),
        buyer=Party(**buyer.model_dump()),
        status=seen.status,
        lines=invoice.lines(session, seen.id),
        taxes=invoice.taxes(session, seen.id),
        payments=attempts(session, seen.id),
        transfers=transfers(session, seen.id),
    )


@router.get("/invoices/{invoice_id}/pdf", response_class=Response)
def read_pdf(invoice_id: str, session: Database, key: Reader) -> Response:
    """The printed invoice, as it was stored when it was issued."""
    number, document = invoice.printed(session, invoice_id)
    headers = {"Content-Disposition": f'inline; filename="{number}.pdf"', "ETag": f'"{document.sha256}"'}
    return Response(document.content, media_type=document.media_type, headers=headers)


@router.get("/invoices/{invoice_id}/explain")
def explain_invoice(invoice_id: str, session: Database, key: Reader) -> Explanation:
    """Every line in words: quantity, price, share of the period, discount, rounding, terms version."""
    seen = invoice.summary(session, invoice_id)
    lines = [
        Explained(
            no=row.no,
            description=row.description,
            net=str(Money(row.net_minor, row.currency)),
            because=explain(row.because, Money(row.gross_minor, row.currency), Money(row.discount_minor, row.currency)),
        )
        for row in invoice.lines(session, seen.id)
    ]
    snapshot = session.get_one(Invoice, seen.id).usage_snapshot
    return Explanation(
        number=seen.number, total=str(Money(seen.total_minor, seen.currency)), lines=lines, usage_snapshot=str(snapshot)
    )


class ReplayedLine(BaseModel):
    """A line worked out again; `difference` is the first one found, null if there is none."""

    no: int
    description: str
    difference: Difference | None


class Replayed(BaseModel):
    """An invoice worked out again from what is stored. `same` says that every line came to the same minor units."""

    number: str
    same: bool
    lines: list[ReplayedLine]


@router.get("/invoices/{invoice_id}/replay")
def replay_invoice(invoice_id: str, session: Database, key: Reader) -> Replayed:
    """Work every line out again, from what was measured and the version that was sold, and compare."""
    seen = invoice.summary(session, invoice_id)
    one = standing(session, seen.subscription_id)
    if one is None:
        raise NotFound("subscription", seen.subscription_id)
    rows = invoice.lines(session, seen.id)
    lines = [row.value for row in rows]
    of_groups = replay_discounts(lines, one)
    found = [
        ReplayedLine(no=row.no, description=row.description, difference=replay(line, one) or of_groups.get(line.key))
        for row, line in zip(rows, lines, strict=True)
    ]
    return Replayed(number=seen.number, same=all(line.difference is None for line in found), lines=found)


class UpcomingInvoice(BaseModel):
    """What would be billed at the end of the running period as things stand now; nothing is stored."""

    as_of: date
    net: Decimal
    tax: Decimal
    total: Decimal
    due: Decimal
    currency: str
    lines: list[str]


@router.get("/subscriptions/{subscription_id}/upcoming-invoice")
def upcoming_invoice(subscription_id: str, session: Database, key: Reader) -> UpcomingInvoice | None:
    """The next invoice, by the same engine that will issue it; None when nothing more will be billed."""
    one = standing(session, subscription_id)
    if one is None:
        raise NotFound("subscription", subscription_id)
    now = now_on(session, one.clock_id)
    through = one.billed_through("arrears")
    day = one.period_at(through).end
    if one.ends_on is not None:
        day = min(day, one.ends_on)
    cutoff = max(now, instant(day, one.zone))
    found = rated(session, [one], Occasion(cutoff, local_day(cutoff, one.zone)))
    if found.parked:
        raise found.parked[0].refusal
    document = found.bills[0].invoice if found.bills else None
    return _upcoming(document, day) if document else None


def _upcoming(document: Document, day: date) -> UpcomingInvoice:
    return UpcomingInvoice(
        as_of=day,
        net=document.net.major,
        tax=document.tax.major,
        total=document.total.major,
        due=document.due.major,
        currency=document.heading.currency,
        lines=[f"{line.description}, {line.period}: {line.net}" for line in document.lines],
    )
