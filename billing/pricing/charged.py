"""What a pricing model answers: the exact amount and the steps that led to it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from billing.money import NOTHING, Amount, Rate


def is_price(value: Decimal) -> bool:
    """A number from zero up; infinity and NaN are none."""
    return value.is_finite() and value >= 0


@dataclass(frozen=True, slots=True)
class Step:
    """`quantity` units at `unit_price` each, plus `flat_fee`; all in currency units, exact."""

    quantity: Decimal
    unit_price: Decimal
    flat_fee: Decimal = Decimal(0)

    @property
    def amount(self) -> Amount:
        return Rate(self.unit_price) * self.quantity + Amount(Fraction(self.flat_fee))


@dataclass(frozen=True, slots=True)
class Charged:
    """The unrounded price of a quantity, as the sum of its steps."""

    steps: tuple[Step, ...]

    @property
    def amount(self) -> Amount:
        return sum((step.amount for step in self.steps), NOTHING)
