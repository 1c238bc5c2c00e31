"""Graduated tiers: each unit is priced by the tier it falls into.

A tier's flat fee is due as soon as the tier is opened; the first tier is always open, so its flat fee is due at zero
usage, and is not given back when the total falls below zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from billing.errors import Fault
from billing.pricing.charged import Charged, Model, Step
from billing.pricing.tiers import Tier, passed, wrong_tiers
from billing.usage import Measured


@dataclass(frozen=True, slots=True)
class Graduated(Model):
    """Tiers in rising order; the last one is without end."""

    tiers: tuple[Tier, ...]
    kind: Literal["graduated"] = "graduated"

    def charge(self, used: Measured) -> Charged:
        steps = (Step(inside, t.rate, t.flat_fee) for t, inside in passed(self.tiers, used.quantity))
        return Charged(tuple(steps))

    def faults(self, *, negative: bool = False) -> tuple[Fault, ...]:
        return wrong_tiers(self.tiers, ["rate", "flat_fee"], negative=negative)
