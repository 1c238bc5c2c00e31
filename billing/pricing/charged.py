"""What a pricing model answers: the exact amount and the steps that led to it; and what every model can be asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import ClassVar

from billing.errors import Fault
from billing.money import NOTHING, Amount
from billing.quantity import added_up, product
from billing.usage import Measured


@dataclass(frozen=True, slots=True)
class Step:
    """`quantity` units at `unit_price` each, plus `flat_fee`, and of that the `share`; in currency units, exact.

    `share` is a fraction such as '16/31'. `label` says what is counted, where that is not plain; `counts` is false
    where the quantity is how often a fee is due, and no quantity of what was used.
    """

    quantity: Decimal
    unit_price: Decimal
    flat_fee: Decimal = Decimal(0)
    label: str = ""
    share: str = "1"
    counts: bool = True

    @property
    def amount(self) -> Amount:
        whole = Fraction(self._whole)
        return Amount(whole if self.share == "1" else whole * Fraction(self.share))

    @property
    def _whole(self) -> Decimal:
        priced = product(self.quantity, self.unit_price)
        return added_up((priced, self.flat_fee)) if self.flat_fee else priced


@dataclass(frozen=True, slots=True)
class Charged:
    """The unrounded price of a quantity, as the sum of its steps."""

    steps: tuple[Step, ...]

    @property
    def amount(self) -> Amount:
        if len(self.steps) == 1:
            return self.steps[0].amount
        if all(step.share == "1" for step in self.steps):
            return Amount(Fraction(added_up(step._whole for step in self.steps)))
        return sum((step.amount for step in self.steps), NOTHING)


class Model(ABC):
    """What a pricing model is asked. The first two differ in every model; the others have these answers unless said.

    A model is a frozen dataclass with a literal `kind`. Its `charge` takes totals, which a correction may bring below
    zero; what an event that takes something back costs is the model's to say.
    """

    __slots__ = ()

    once: ClassVar[bool] = False
    """Whether it is charged once and not again each period."""

    @abstractmethod
    def charge(self, used: Measured) -> Charged:
        """The exact price of what was used."""

    @abstractmethod
    def faults(self, *, negative: bool = False) -> tuple[Fault, ...]:
        """What is wrong with the figures, field by field. `negative`: rates below zero are permitted."""

    def dimensions(self) -> tuple[str, ...]:
        """Properties of events that it tells apart; the meter must keep them."""
        return ()

    def per_event(self) -> bool:
        """Whether it looks at each event's quantity; the meter must keep events apart."""
        return False

    def counts_events(self) -> bool:
        """Whether it asks how many events there were, whatever they add up to."""
        return False

    def most_steps(self, portions: int) -> int:
        """How many steps it may take for usage in so many portions; what is only tried has a limit of them."""
        return portions

    def meters(self) -> tuple[str, ...]:
        """Further meters whose quantities it asks for."""
        return ()


def is_price(value: Decimal, *, negative: bool = False) -> bool:
    """A number from zero up, or any number where negative ones are permitted; infinity and NaN are none."""
    return value.is_finite() and (negative or value >= 0)


def wrong_prices(model: object, names: Iterable[str], *, negative: bool = False) -> tuple[Fault, ...]:
    """A fault for each of the named fields that is set and no price."""
    return tuple(
        Fault(name, NEGATIVE)
        for name in names
        if (value := getattr(model, name)) is not None and not is_price(value, negative=negative)
    )


def wrong_sizes(model: object, names: Iterable[str]) -> tuple[Fault, ...]:
    """A fault for each of the named fields that is no number above zero."""
    return tuple(
        Fault(name, "must be a number above zero")
        for name in names
        if not (value := getattr(model, name)).is_finite() or value <= 0
    )


NEGATIVE = "must be a number, and not negative (`allow_negative` of the item permits it)"
