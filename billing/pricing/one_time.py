"""A fee that is charged once, when the item first comes into force, and never again; it is not prorated."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Literal

from billing.errors import Fault
from billing.pricing.charged import Charged, Model, Step, wrong_prices
from billing.usage import Measured


@dataclass(frozen=True, slots=True)
class OneTime(Model):
    """`amount` currency units for each unit (a set-up has one; per seat there are as many as seats)."""

    amount: Decimal
    kind: Literal["one_time"] = "one_time"
    once: ClassVar[bool] = True

    def charge(self, used: Measured) -> Charged:
        return Charged((Step(used.quantity, self.amount),))

    def faults(self, *, negative: bool = False) -> tuple[Fault, ...]:
        return wrong_prices(self, ["amount"], negative=negative)
