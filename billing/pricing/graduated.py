"""Graduated tiers: each unit is priced by the tier it falls into.

Bounds are cumulative and inclusive, and may be fractional: a sliver above a bound opens the next tier. A tier's
flat fee is due as soon as the tier is opened; the first tier is always open, so its flat fee is due at zero usage.
A total below zero (usage reversed beyond what was used) is priced in the first tier, without its flat fee's mirror.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from billing.errors import Fault
from billing.pricing.charged import Charged, Step, is_price
from billing.quantity import less


@dataclass(frozen=True, slots=True)
class Tier:
    """Units above the tier before, up to and including `up_to`; None is without end."""

    up_to: Decimal | None
    rate: Decimal
    flat_fee: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Graduated:
    """Tiers in rising order; the last one is without end."""

    tiers: tuple[Tier, ...]
    kind: Literal["graduated"] = "graduated"

    def charge(self, quantity: Decimal) -> Charged:
        steps: list[Step] = []
        floor = Decimal(0)
        for tier in self.tiers:
            inside = less(quantity if tier.up_to is None else min(quantity, tier.up_to), floor)
            if inside <= 0 and steps:
                break
            steps.append(Step(inside, tier.rate, tier.flat_fee))
            if tier.up_to is None or quantity <= tier.up_to:
                break
            floor = tier.up_to
        return Charged(tuple(steps))

    def faults(self) -> tuple[Fault, ...]:
        if not self.tiers:
            return (Fault("tiers", "at least one tier is needed"),)
        found: list[Fault] = []
        floor = Decimal(0)
        for i, tier in enumerate(self.tiers):
            last = i == len(self.tiers) - 1
            if not is_price(tier.rate) or not is_price(tier.flat_fee):
                found.append(Fault(f"tiers.{i}", "rate and flat fee must be numbers, and not negative"))
            if last and tier.up_to is not None:
                found.append(Fault(f"tiers.{i}.up_to", "the last tier must be without end (null)"))
            elif not last and tier.up_to is None:
                found.append(Fault(f"tiers.{i}.up_to", "only the last tier may be without end"))
            elif not last and tier.up_to is not None:
                if not tier.up_to.is_finite() or tier.up_to <= floor:
                    found.append(Fault(f"tiers.{i}.up_to", f"must be above {floor}, where the tier before ends"))
                else:
                    floor = tier.up_to
        return tuple(found)
