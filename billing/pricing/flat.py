"""A fixed fee per period, whatever the quantity."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from billing.errors import Fault
from billing.pricing.charged import Charged, Step, is_price


@dataclass(frozen=True, slots=True)
class Flat:
    """`amount` currency units a period."""

    amount: Decimal
    kind: Literal["flat"] = "flat"

    def charge(self, quantity: Decimal) -> Charged:
        return Charged((Step(Decimal(1), self.amount),))

    def faults(self) -> tuple[Fault, ...]:
        return () if is_price(self.amount) else (Fault("amount", "must be a number, and not negative"),)
