"""Volume tiers: the tier in which the total ends prices every unit, from the first one on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from billing.errors import Fault
from billing.pricing.charged import Charged, Model, Step
from billing.pricing.tiers import Tier, named, reached, wrong_tiers
from billing.usage import Measured


@dataclass(frozen=True, slots=True)
class Volume(Model):
    """Tiers in rising order; the last one is without end. The flat fee is that of the tier reached, once."""

    tiers: tuple[Tier, ...]
    kind: Literal["volume"] = "volume"

    def charge(self, used: Measured) -> Charged:
        quantity = used.quantity
        tier = reached(self.tiers, quantity)
        return Charged((Step(quantity, tier.rate, tier.flat_fee, label=f"all in the tier {named(self.tiers, tier)}"),))

    def faults(self, *, negative: bool = False) -> tuple[Fault, ...]:
        return wrong_tiers(self.tiers, ["rate", "flat_fee"], negative=negative)
