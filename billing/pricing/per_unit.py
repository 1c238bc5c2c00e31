"""The same rate for every unit, with any number of decimals: 0.0000025 per token, 20.00 per seat."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from billing.errors import Fault
from billing.pricing.charged import Charged, Model, Step, wrong_prices
from billing.usage import Measured


@dataclass(frozen=True, slots=True)
class PerUnit(Model):
    """`rate` currency units for each unit."""

    rate: Decimal
    kind: Literal["per_unit"] = "per_unit"

    def charge(self, used: Measured) -> Charged:
        return Charged((Step(used.quantity, self.rate),))

    def faults(self, *, negative: bool = False) -> tuple[Fault, ...]:
        return wrong_prices(self, ["rate"], negative=negative)
