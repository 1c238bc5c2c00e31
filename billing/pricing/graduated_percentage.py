"""A percentage that changes with the volume: each part of the amount is priced by the tier it falls into."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from billing.errors import Fault
from billing.pricing.charged import Charged, Model, Step
from billing.pricing.tiers import passed, wrong_tiers
from billing.quantity import percent_of
from billing.usage import Measured


@dataclass(frozen=True, slots=True)
class PercentTier:
    """`percent` of the amount above the tier before, up to and including `up_to`, and a fee once it is opened."""

    up_to: Decimal | None
    percent: Decimal
    flat_fee: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class GraduatedPercentage(Model):
    """Tiers in rising order; the last one is without end. The quantity is money in the currency of the plan."""

    tiers: tuple[PercentTier, ...]
    kind: Literal["graduated_percentage"] = "graduated_percentage"

    def charge(self, used: Measured) -> Charged:
        tiers = passed(self.tiers, used.quantity)
        return Charged(tuple(Step(inside, percent_of(t.percent, Decimal(1)), t.flat_fee) for t, inside in tiers))

    def faults(self, *, negative: bool = False) -> tuple[Fault, ...]:
        return wrong_tiers(self.tiers, ["percent", "flat_fee"], negative=negative)
