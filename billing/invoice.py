"""The invoice as a value: lines, tax, credits and what is left to pay. Putting it together is all that happens here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Literal

from billing.credits import Draw, Grant, draw
from billing.line import Line
from billing.money import Money, refuse_beyond, total
from billing.period import Period
from billing.taxes import TaxDecision, TaxLine, tax

DocumentKind = Literal["invoice", "credit_note"]


@dataclass(frozen=True, slots=True)
class Heading:
    """Who owes whom under which agreement, and when; the versions are what is printed of both."""

    invoice_id: str
    entity_id: str
    customer_id: str
    contract_id: str
    subscription_id: str
    currency: str
    issued_on: date
    issued_at: datetime
    payment_terms_days: int
    entity_version: int = 1
    customer_version: int = 1

    @property
    def due_on(self) -> date:
        return self.issued_on + timedelta(days=self.payment_terms_days)


@dataclass(frozen=True, slots=True)
class Invoice:
    """A finished document. `due` is what the customer has to pay after the credits drawn."""

    heading: Heading
    lines: tuple[Line, ...]
    taxes: tuple[TaxLine, ...]
    draws: tuple[Draw, ...]

    @property
    def kind(self) -> DocumentKind:
        return "credit_note" if self.total.minor < 0 else "invoice"

    @property
    def gross(self) -> Money:
        return total([line.gross for line in self.lines], self.heading.currency)

    @property
    def net(self) -> Money:
        return total([line.net for line in self.lines], self.heading.currency)

    @property
    def tax(self) -> Money:
        return total([line.tax for line in self.taxes], self.heading.currency)

    @property
    def total(self) -> Money:
        return self.net + self.tax

    @property
    def drawn(self) -> Money:
        return total([d.amount for d in self.draws], self.heading.currency)

    @property
    def due(self) -> Money:
        return self.total - self.drawn

    @property
    def period(self) -> Period:
        return Period(min(line.period.start for line in self.lines), max(line.period.end for line in self.lines))


def assemble(heading: Heading, lines: Sequence[Line], decision: TaxDecision, grants: Sequence[Grant]) -> Invoice:
    """Lines, then tax, then credits drawn.

    Credits pay for what is sold, never for further credits: those would outlive their expiry.
    """
    document = Invoice(heading, tuple(lines), tax(lines, decision, heading.currency), ())
    if lines:
        _refuse_beyond(document)
    bought = total([line.net for line in lines if not line.taxable], heading.currency)
    payable = min(document.total, document.total - bought)
    return replace(document, draws=draw(grants, payable, heading.issued_at))


def _refuse_beyond(document: Invoice) -> None:
    """If its lines together come to more than an amount may be."""
    largest = max(document.lines, key=lambda line: abs(line.net.minor))
    what = f"{len(document.lines)} lines, of which that of {largest.item!r} is the largest with {largest.net}"
    refuse_beyond(document.net, f"{what}, before tax")
    refuse_beyond(document.total, f"{what}, with tax")
