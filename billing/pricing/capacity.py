"""Capacity with overage: a fee for what is reserved, and a rate for each unit above it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from billing.errors import Fault
from billing.pricing.charged import Charged, Model, Step, wrong_prices, wrong_sizes
from billing.quantity import less
from billing.usage import Measured


@dataclass(frozen=True, slots=True)
class Capacity(Model):
    """`amount` currency units for up to `included` units, used or not, and `overage_rate` for each unit above."""

    included: Decimal
    amount: Decimal
    overage_rate: Decimal
    kind: Literal["capacity"] = "capacity"

    def charge(self, used: Measured) -> Charged:
        reserved = Step(Decimal(1), self.amount, label=f"capacity of {self.included:,f}", counts=False)
        over = less(used.quantity, self.included)
        if over <= 0:
            return Charged((reserved,))
        return Charged((reserved, Step(over, self.overage_rate, label="above the capacity")))

    def faults(self, *, negative: bool = False) -> tuple[Fault, ...]:
        found = wrong_prices(self, ["amount", "overage_rate"], negative=negative)
        return (*wrong_sizes(self, ["included"]), *found)
