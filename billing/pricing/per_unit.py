"""The same rate for every unit, with any number of decimals: 0.0000025 per token, 20.00 per seat."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from billing.errors import Fault
from billing.pricing.charged import Charged, Step, is_price


@dataclass(frozen=True, slots=True)
class PerUnit:
    """`rate` currency units for each unit."""

    rate: Decimal
    kind: Literal["per_unit"] = "per_unit"

    def charge(self, quantity: Decimal) -> Charged:
        return Charged((Step(quantity, self.rate),))

    def faults(self) -> tuple[Fault, ...]:
        return () if is_price(self.rate) else (Fault("rate", "must be a number, and not negative"),)
