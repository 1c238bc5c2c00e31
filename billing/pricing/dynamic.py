"""The event carries the amount: what the product has priced itself is added up and charged."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from billing.errors import Fault
from billing.pricing.charged import Charged, Model, Step
from billing.usage import Measured


@dataclass(frozen=True, slots=True)
class Dynamic(Model):
    """The meter's sum, in the currency of the plan."""

    kind: Literal["dynamic"] = "dynamic"

    def charge(self, used: Measured) -> Charged:
        return Charged((Step(used.quantity, Decimal(1), label="as the events say"),))

    def faults(self, *, negative: bool = False) -> tuple[Fault, ...]:
        return ()
