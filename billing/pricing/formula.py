"""A formula over named quantities: for prices that no other model can say."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from billing.errors import Fault, Refused
from billing.pricing.charged import Charged, Model, Step
from billing.pricing.expression import Unreadable, read, worked_out
from billing.quantity import decimal_of
from billing.usage import Measured

OWN = ("quantity", "events")
TRIED = (0, 1, 1_000_000)
MOST = 10**300


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a further meter counted, under a name that the formula uses."""

    name: str
    meter: str


@dataclass(frozen=True, slots=True)
class Formula(Model):
    """`expression` gives currency units, from `quantity` and `events` of the own meter and the named `quantities`.

    It knows + - * /, comparisons, min, max, abs, ceil, floor, round(x, places) and if(condition, then, otherwise).
    """

    expression: str
    quantities: tuple[Quantity, ...] = ()
    kind: Literal["formula"] = "formula"

    def meters(self) -> tuple[str, ...]:
        return tuple(named.meter for named in self.quantities)

    def counts_events(self) -> bool:
        return "events" in _asked(self.expression)

    def charge(self, used: Measured) -> Charged:
        values = {"quantity": Fraction(used.quantity), "events": Fraction(used.events)}
        values |= {named.name: Fraction(used.of(named.meter)) for named in self.quantities}
        result = worked_out(self.expression, values)
        if max(abs(result.numerator), result.denominator) >= MOST:
            raise Refused(
                f"The formula {self.expression!r} gives a number that is too long to be an amount.",
                code="formula_failed",
                remedy="Publish a version of the plan whose formula holds for these quantities.",
            )
        share = "1" if result.denominator == 1 else f"1/{result.denominator}"
        said = ", ".join(f"{name} {_plain(value)}" for name, value in values.items() if name in _asked(self.expression))
        label = f"{self.expression}, with {said}" if said else self.expression
        return Charged((Step(Decimal(result.numerator), Decimal(1), label=label, share=share, counts=False),))

    def faults(self, *, negative: bool = False) -> tuple[Fault, ...]:
        found: list[Fault] = []
        names = [*OWN, *(named.name for named in self.quantities)]
        for i, named in enumerate(self.quantities):
            if names.count(named.name) > 1:
                found.append(Fault(f"quantities.{i}.name", f"{named.name!r} is taken"))
            if self.meters().count(named.meter) > 1:
                found.append(Fault(f"quantities.{i}.meter", f"{named.meter!r} has more than one name"))
        try:
            strange = sorted(read(self.expression).names - set(names))
        except Unreadable as error:
            return (*found, Fault("expression", str(error)))
        if strange:
            found.append(Fault("expression", f"asks for {', '.join(strange)}; there are {', '.join(names)}"))
            return tuple(found)
        return (*found, *self._tried(names, negative))

    def _tried(self, names: list[str], negative: bool) -> tuple[Fault, ...]:
        """What it says of no usage, of little and of much: a formula cannot be proved, but it can be tried."""
        for quantity in TRIED:
            try:
                amount = worked_out(self.expression, dict.fromkeys(names, Fraction(quantity)))
            except Refused as refusal:
                return (Fault("expression", f"cannot price a usage of {quantity:,}: {refusal.reason}"),)
            if amount < 0 and not negative:
                said = f"is negative at a usage of {quantity:,} (`allow_negative` of the item permits it)"
                return (Fault("expression", said),)
        return ()


def _asked(expression: str) -> frozenset[str]:
    return read(expression).names


def _plain(value: Fraction) -> str:
    return f"{value.numerator:,}" if value.denominator == 1 else f"{decimal_of(value):,f}"
