"""Packages: a price for so many units at a time, a package begun counting whole or by its part."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from billing.errors import Fault
from billing.pricing.charged import Charged, Model, Step, wrong_prices, wrong_sizes
from billing.quantity import begun
from billing.usage import Measured


@dataclass(frozen=True, slots=True)
class Package(Model):
    """`amount` currency units for each package of `size` units. `begun`: the last one is `whole`, or `proportional`."""

    size: Decimal
    amount: Decimal
    begun: Literal["whole", "proportional"] = "whole"
    kind: Literal["package"] = "package"

    def charge(self, used: Measured) -> Charged:
        if self.begun == "whole":
            packages = begun(used.quantity, self.size)
            return Charged((Step(packages, self.amount, label=f"packages of {self.size:,f}", counts=False),))
        share = str(1 / Fraction(self.size))
        return Charged((Step(used.quantity, self.amount, label=f"in packages of {self.size:,f}", share=share),))

    def faults(self, *, negative: bool = False) -> tuple[Fault, ...]:
        return (*wrong_sizes(self, ["size"]), *wrong_prices(self, ["amount"], negative=negative))
