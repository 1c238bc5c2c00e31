"""Stairstep: one fee for the tier in which the quantity ends, however many units lie in it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from billing.errors import Fault
from billing.pricing.charged import Charged, Model, Step
from billing.pricing.tiers import named, reached, wrong_tiers
from billing.usage import Measured


@dataclass(frozen=True, slots=True)
class Stair:
    """`amount` currency units for any quantity above the stair before, up to and including `up_to`."""

    up_to: Decimal | None
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Stairstep(Model):
    """Stairs in rising order; the last one is without end."""

    tiers: tuple[Stair, ...]
    kind: Literal["stairstep"] = "stairstep"

    def charge(self, used: Measured) -> Charged:
        stair = reached(self.tiers, used.quantity)
        return Charged((Step(Decimal(1), stair.amount, label=f"the tier {named(self.tiers, stair)}", counts=False),))

    def faults(self, *, negative: bool = False) -> tuple[Fault, ...]:
        return wrong_tiers(self.tiers, ["amount"], negative=negative)
