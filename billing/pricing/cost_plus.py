"""Cost-plus: the event carries what the unit cost us; a margin goes on top."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from billing.errors import Fault
from billing.pricing.charged import Charged, Model, Step, wrong_prices
from billing.quantity import percent_of, product
from billing.usage import Measured


@dataclass(frozen=True, slots=True)
class CostPlus(Model):
    """The meter's sum of costs, in the currency of the plan, plus `margin_percent` of it, plus `fee_per_event`."""

    margin_percent: Decimal
    fee_per_event: Decimal = Decimal(0)
    kind: Literal["cost_plus"] = "cost_plus"

    def counts_events(self) -> bool:
        return bool(self.fee_per_event)

    def charge(self, used: Measured) -> Charged:
        fees = product(self.fee_per_event, Decimal(used.events))
        return Charged(
            (
                Step(used.quantity, Decimal(1), label="cost"),
                Step(used.quantity, percent_of(self.margin_percent, Decimal(1)), fees, label="margin"),
            )
        )

    def faults(self, *, negative: bool = False) -> tuple[Fault, ...]:
        return wrong_prices(self, ["margin_percent", "fee_per_event"], negative=negative)
