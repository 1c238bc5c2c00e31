"""From a stored invoice to what is printed on it."""

from __future__ import annotations

from decimal import Decimal

from sqlmodel import Session

from activities.rendering import DocumentLine, DocumentTax, InvoiceDocument, LineStep, Party
from billing.line import Because
from billing.money import Money, total
from billing.period import Period
from models import invoice
from models.customer import customer
from models.entity import entity
from models.invoice import Invoice, InvoiceLine
from models.subscription import Contract

_TAXES = {"S": "VAT", "AE": "VAT reverse charge", "O": "No VAT"}


def printable(session: Session, invoice_id: str) -> InvoiceDocument:
    """The document as it was issued; nothing is computed but sums of what stands there."""
    seen = invoice.summary(session, invoice_id)
    row = session.get_one(Invoice, invoice_id)
    seller, buyer = entity(session, row.entity_id), customer(session, row.customer_id)
    contract = session.get_one(Contract, row.contract_id)
    lines = invoice.lines(session, invoice_id)

    def money(minor: int) -> Money:
        return Money(minor, row.currency)

    return InvoiceDocument(
        kind="credit_note" if row.kind == "credit_note" else "invoice",
        number=seen.number,
        issued_on=row.issued_on,
        due_on=row.due_on,
        service_period=Period(row.period_start, row.period_end),
        seller=Party(
            seller.name, _lines(seller.address), seller.country, seller.vat_id or "", seller.email, seller.name
        ),
        buyer=Party(buyer.name, _lines(buyer.address), buyer.country, buyer.vat_id or "", buyer.email),
        purchase_order=contract.purchase_order or "",
        currency=row.currency,
        lines=tuple(_line(x) for x in lines),
        subtotal=total([money(x.gross_minor) for x in lines], row.currency),
        discounts=_discounts(lines, row.currency),
        net=money(row.net_minor),
        taxes=tuple(
            DocumentTax(_TAXES[t.category], t.jurisdiction, t.percent, money(t.base_minor), money(t.tax_minor), t.note)
            for t in invoice.taxes(session, invoice_id)
        ),
        total=money(row.total_minor),
        credits_applied=money(row.drawn_minor),
        amount_due=money(row.due_minor),
        payment_terms=f"Payable within {contract.payment_terms_days} days. Cards on file are charged automatically.",
    )


def _lines(address: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in address.replace("\n", ",").split(",") if part.strip())


def _discounts(lines: list[InvoiceLine], currency: str) -> tuple[tuple[str, Money], ...]:
    percents = sorted({x.because.discount_percent for x in lines if x.discount_minor})
    return tuple(
        (
            f"Discount {percent.normalize():f}%",
            total(
                [Money(x.discount_minor, currency) for x in lines if x.because.discount_percent == percent], currency
            ),
        )
        for percent in percents
    )


def _line(row: InvoiceLine) -> DocumentLine:
    why = row.because
    prorated = why.share != "1"
    late = row.kind == "late_usage"
    return DocumentLine(
        description=row.description,
        amount=Money(row.gross_minor, row.currency),
        quantity=None if row.kind == "credit_purchase" else row.quantity,
        unit=why.unit,
        unit_price=why.steps[0].unit_price if len(why.steps) == 1 and not late else None,
        period=Period(row.period_start, row.period_end) if row.period_end > row.period_start else None,
        detail=_detail(why, prorated),
        steps=_steps(why) if len(why.steps) > 1 and not late else (),
    )


def _detail(why: Because, prorated: bool) -> str:
    if not prorated:
        return why.note
    days, _, whole = why.share.lstrip("-").partition("/")
    return f"{days} of {whole} days"


def _steps(why: Because) -> tuple[LineStep, ...]:
    """The tiers a quantity passed; their exact amounts add up to the line before rounding."""
    found: list[LineStep] = []
    floor = Decimal(0)
    for step in why.steps:
        label = f"{floor.normalize():,f} to {(floor + step.quantity).normalize():,f}"
        amount = step.quantity * step.unit_price + step.flat_fee
        found.append(LineStep(label, step.quantity, step.unit_price, amount, step.flat_fee))
        floor += step.quantity
    return tuple(found)
