"""What usage that nobody is billed for may be worth: at what a unit cost on the mean elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from billing.money import Amount, Money


@dataclass(frozen=True, slots=True)
class MeanPrice:
    """What so many units cost together, net."""

    net: Money
    quantity: Decimal

    def of(self, quantity: Decimal) -> Money:
        """As many units at the mean price, rounded once to the currency's minor unit."""
        share = Fraction(quantity) / Fraction(self.quantity)
        return Amount(self.net.amount.value * share).rounded(self.net.currency)
