"""A fixed fee per period, whatever the quantity."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from billing.errors import Fault
from billing.pricing.charged import Charged, Model, Step, wrong_prices
from billing.usage import Measured


@dataclass(frozen=True, slots=True)
class Flat(Model):
    """`amount` currency units a period."""

    amount: Decimal
    kind: Literal["flat"] = "flat"

    def charge(self, used: Measured) -> Charged:
        return Charged((Step(Decimal(1), self.amount, counts=False),))

    def faults(self, *, negative: bool = False) -> tuple[Fault, ...]:
        return wrong_prices(self, ["amount"], negative=negative)
