"""Value added tax on what was sold: who may tax it, at which rate on which day, rounded once per rate.

European rules for services (Directive 2006/112/EC): supplies at home at the home rate; to a business in another
member state with a verified id by reverse charge (Art. 44, 196); to others there at their country's rate
(Art. 58, One Stop Shop); outside the Union out of scope. An unverified id is taxed as if there were none.
Categories are those of EN 16931 (UNTDID 5305): S standard, AE reverse charge, O outside the scope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from billing.errors import Refused
from billing.line import Line
from billing.money import Money, total

EU = frozenset("AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split())
WITHOUT_VAT = frozenset("BM BN FK GI GL HK KW KY MO QA TC US VG".split())
"""Countries and territories that levy no value added tax, nor one on goods and services like it."""
Category = Literal["S", "AE", "O"]


@dataclass(frozen=True, slots=True)
class TaxRate:
    """A country's standard rate in percent, from `valid_from` up to but not including `valid_until`."""

    country: str
    percent: Decimal
    valid_from: date
    valid_until: date | None = None

    def on(self, day: date) -> bool:
        return self.valid_from <= day and (self.valid_until is None or day < self.valid_until)


@dataclass(frozen=True, slots=True)
class Parties:
    """Who sells and who buys, as far as tax asks."""

    seller_country: str
    buyer_country: str
    buyer_id_verified: bool


@dataclass(frozen=True, slots=True)
class TaxDecision:
    """How a supply is taxed, and what the document has to say about it."""

    category: Category
    jurisdiction: str
    percent: Decimal
    note: str = ""


@dataclass(frozen=True, slots=True)
class TaxLine:
    """The tax of one rate group: on `base`, rounded once."""

    category: Category
    jurisdiction: str
    percent: Decimal
    base: Money
    tax: Money
    note: str = ""


def decide(parties: Parties, rates: Sequence[TaxRate], tax_point: date) -> TaxDecision:
    """The treatment of a supply of services on `tax_point`. Refused when the rate is not known: never guessed."""
    seller, buyer = parties.seller_country, parties.buyer_country
    if seller != buyer and not (seller in EU and buyer in EU):
        return TaxDecision("O", buyer, Decimal(0), "Outside the scope of value added tax")
    if seller != buyer and parties.buyer_id_verified:
        return TaxDecision("AE", buyer, Decimal(0), "Reverse charge: the recipient accounts for the tax (Art. 196)")
    standing = [rate for rate in rates if rate.country == buyer and rate.on(tax_point)]
    if standing:
        return TaxDecision("S", buyer, max(standing, key=lambda rate: rate.valid_from).percent)
    if seller == buyer and seller in WITHOUT_VAT:
        return TaxDecision("O", buyer, Decimal(0), "No value added tax in this country")
    raise Refused(
        f"No tax rate is known for {buyer} on {tax_point}.",
        code="no_tax_rate",
        remedy="Add the rate with its first day to the table of tax rates (POST /v1/tax-rates), 0 percent if nothing is"
        " levied, then answer the task.",
    )


def tax(lines: Sequence[Line], decision: TaxDecision, currency: str) -> tuple[TaxLine, ...]:
    """The tax lines of a document: EN 16931 rounds per rate group, not per line."""
    taxable = [line.net for line in lines if line.taxable]
    free = [line.net for line in lines if not line.taxable]
    found: list[TaxLine] = []
    if taxable:
        base = total(taxable, currency)
        amount = base.amount.times(Fraction(decision.percent) / 100).rounded(currency)
        found.append(TaxLine(decision.category, decision.jurisdiction, decision.percent, base, amount, decision.note))
    if free:
        note = "Prepaid credit: taxed when it is used"
        found.append(TaxLine("O", decision.jurisdiction, Decimal(0), total(free, currency), Money.zero(currency), note))
    return tuple(found)
