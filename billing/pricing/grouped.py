"""Grouped: a price with tiers or packages applied to each value of a property by itself, such as each workspace."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from billing.errors import Fault
from billing.pricing.charged import Charged, Model
from billing.pricing.graduated import Graduated
from billing.pricing.package import Package
from billing.pricing.stairstep import Stairstep
from billing.pricing.volume import Volume
from billing.quantity import added_up
from billing.usage import Measured, units

MOST_TIERS = 100


@dataclass(frozen=True, slots=True)
class Grouped(Model):
    """`price` for each value of the property `by`; units without the property are a group of their own."""

    by: str
    price: Graduated | Volume | Stairstep | Package
    kind: Literal["grouped"] = "grouped"

    def dimensions(self) -> tuple[str, ...]:
        return (self.by,)

    def most_steps(self, portions: int) -> int:
        return portions * (1 if isinstance(self.price, Package) else len(self.price.tiers))

    def charge(self, used: Measured) -> Charged:
        groups: dict[str, list[Measured]] = {}
        for portion in used.own:
            groups.setdefault(portion.value(self.by), []).append(units(portion.quantity, portion.events))
        steps = []
        for value, parts in sorted(groups.items()):
            quantity = added_up(part.quantity for part in parts)
            for step in self.price.charge(units(quantity, sum(part.events for part in parts))).steps:
                label = f"{self.by} {value or '(none)'}" + (f", {step.label}" if step.label else "")
                steps.append(replace(step, label=label))
        return Charged(tuple(steps))

    def faults(self, *, negative: bool = False) -> tuple[Fault, ...]:
        found = [Fault(f"price.{fault.field}", fault.reason) for fault in self.price.faults(negative=negative)]
        if not self.by:
            found.append(Fault("by", "must name a property"))
        if self.most_steps(1) > MOST_TIERS:
            found.append(Fault("price.tiers", f"are more than {MOST_TIERS}; each group passes all of them"))
        return tuple(found)
