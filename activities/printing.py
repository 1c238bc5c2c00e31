"""From a stored invoice to what is printed on it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from sqlmodel import Session

from activities.rendering import DocumentLine, DocumentTax, InvoiceDocument, LineStep, Party
from billing.line import Because
from billing.money import Money, total
from billing.period import Period
from billing.proration import MIRROR
from billing.quantity import decimal_of, in_steps
from models import invoice
from models.invoice import Invoice, InvoiceLine
from models.party import PartyVersion
from models.subscription import Contract

MOST_STEPS = 20

_TAXES = {"S": "VAT", "AE": "VAT reverse charge", "O": "No VAT"}


def printable(session: Session, invoice_id: str) -> InvoiceDocument:
    """The document as it was issued; nothing is computed but sums of what stands there."""
    seen = invoice.summary(session, invoice_id)
    row = session.get_one(Invoice, invoice_id)
    seller, buyer = invoice.parties(session, invoice_id)
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
        seller=replace(_party(seller), registration=seller.name),
        buyer=_party(buyer),
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
        payment_terms=_terms(row, contract),
    )


def _party(seen: PartyVersion) -> Party:
    return Party(seen.name, _lines(seen.address), seen.country, seen.vat_id or "", seen.email)


def _terms(row: Invoice, contract: Contract) -> str:
    """Where nothing is due, nothing is to be paid: a credit note, or an invoice that credit has paid."""
    if row.due_minor <= 0:
        return ""
    return f"Payable within {contract.payment_terms_days} days. Cards on file are charged automatically."


def _lines(address: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in address.replace("\n", ",").split(",") if part.strip())


def _discounts(lines: list[InvoiceLine], currency: str) -> tuple[tuple[str, Money], ...]:
    """Percentages first, each with what it takes off all lines, then amounts off by their name."""
    found: dict[str, int] = {}
    for line in sorted(lines, key=lambda line: line.because.discount_percent):
        taken = sum(one.minor for one in line.because.taken)
        label = f"Discount {line.because.discount_percent.normalize():f}%"
        found[label] = found.get(label, 0) + line.discount_minor - taken
    for line in lines:
        for one in line.because.taken:
            found[one.name] = found.get(one.name, 0) + one.minor
    return tuple((label, Money(minor, currency)) for label, minor in found.items() if minor)


def _line(row: InvoiceLine) -> DocumentLine:
    why = row.because
    prorated = why.share != "1"
    late = row.kind == "late_usage"
    return DocumentLine(
        description=row.description,
        amount=Money(row.gross_minor, row.currency),
        quantity=None if row.kind == "credit_purchase" else row.quantity,
        unit=why.unit,
        unit_price=None if late or why.note == MIRROR or not _plain(why) or not why.steps else why.steps[0].unit_price,
        period=Period(row.period_start, row.period_end) if row.period_end > row.period_start else None,
        detail=_detail(why, prorated),
        steps=() if late or _plain(why) else _steps(why),
    )


def _plain(why: Because) -> bool:
    """Whether quantity, unit price and amount on the line say all."""
    if why.note == MIRROR or not why.steps:
        return True
    only = why.steps[0]
    whole = only.share == "1" and not only.flat_fee and only.quantity == why.quantity
    return len(why.steps) == 1 and whole and all(change.kind == "share" for change in why.adjustments)


def _detail(why: Because, prorated: bool) -> str:
    if not prorated:
        return why.note
    days, _, whole = why.share.lstrip("-").partition("/")
    counted = f"; {why.note}" if why.note and why.note != MIRROR else ""
    return f"{days} of {whole} days{counted}"


def _steps(why: Because) -> tuple[LineStep, ...]:
    """What the price was made of; the exact amounts add up to the line before rounding. Of very many, the first."""
    found: list[LineStep] = []
    floor = Decimal(0)
    for step in why.steps[:MOST_STEPS]:
        label = step.label or f"{floor.normalize():,f} to {(floor + step.quantity).normalize():,f}"
        amount = _printed(step.amount.value)
        found.append(LineStep(label, step.quantity, step.unit_price, amount, step.flat_fee, step.share))
        floor += step.quantity
    if rest := why.steps[MOST_STEPS:]:
        amount = _printed(sum((step.amount.value for step in rest), Fraction(0)))
        found.append(LineStep(f"and {len(rest)} more, in the explanation of the invoice", None, Decimal(0), amount))
    for change in why.adjustments:
        found.append(LineStep(change.label, None, Decimal(0), _printed(Fraction(change.amount))))
    return tuple(found)


def _printed(amount: Fraction) -> Decimal:
    """To twelve decimals, which is enough to read: what counts is the line's own amount."""
    return decimal_of(in_steps(amount, Decimal("1e-12"), "nearest"))
