"""Quantities are exact, whatever the surrounding decimal context is.

Python rounds decimal sums to 28 digits by default; a total of tokens with a fraction may have more. Here nothing is
rounded unless asked: a result that does not fit into a thousand digits raises `decimal.Inexact`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from fractions import Fraction
from typing import Literal

from billing.errors import Broken, Fault

_EXACT = Context(prec=1000, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[Inexact, InvalidOperation, Overflow, DivisionByZero])

Rounding = Literal["none", "up", "down", "nearest"]
_TO: dict[Rounding, str] = {"up": "up to a", "down": "down to a", "nearest": "to the nearest"}


def added_up(quantities: Iterable[Decimal]) -> Decimal:
    found, add = Decimal(0), _EXACT.add
    for quantity in quantities:
        found = add(found, quantity)
    return found


def less(quantity: Decimal, other: Decimal) -> Decimal:
    """`quantity` - `other`."""
    return _EXACT.subtract(quantity, other)


def product(quantity: Decimal, other: Decimal) -> Decimal:
    """`quantity` * `other`."""
    return _EXACT.multiply(quantity, other)


def begun(quantity: Decimal, size: Decimal) -> Decimal:
    """How many times `size` is begun in `quantity`: 0 in nothing, 1 in a sliver; the mirror below zero."""
    times = _EXACT.divide_int(quantity.copy_abs(), size)
    if _EXACT.multiply(times, size) != quantity.copy_abs():
        times = _EXACT.add(times, Decimal(1))
    return times.copy_negate() if quantity < 0 else times


def percent_of(percent: Decimal, quantity: Decimal) -> Decimal:
    return _EXACT.multiply(percent, quantity).scaleb(-2, _EXACT)


def decimal_places(value: Fraction) -> int | None:
    """How many decimals the number needs; None if they have no end."""
    rest, places = value.denominator, 0
    for prime in (2, 5):
        times = 0
        while rest % prime == 0:
            rest, times = rest // prime, times + 1
        places = max(places, times)
    return places if rest == 1 else None


def decimal_of(value: Fraction) -> Decimal:
    """The same number in decimals, which must end."""
    if decimal_places(value) is None:
        raise Broken(f"{value} has no end in decimals")
    return _EXACT.divide(Decimal(value.numerator), Decimal(value.denominator))


def in_steps(value: Fraction, step: Decimal, rounding: Rounding) -> Fraction:
    """`value` as a multiple of `step`. Up is away from zero and ties are too, so that a reversal is the mirror."""
    whole, rest = divmod(abs(value), Fraction(step))
    if rest and (rounding == "up" or (rounding == "nearest" and 2 * rest >= Fraction(step))):
        whole += 1
    found = whole * Fraction(step)
    return -found if value < 0 else found


@dataclass(frozen=True, slots=True)
class Conversion:
    """From what a meter counts to what is priced: times `multiply`, divided by `divide`, then rounded to `step`.

    Bytes in gibibytes, rounded up: `Conversion(divide=Decimal(1073741824), rounding="up")`.
    """

    multiply: Decimal = Decimal(1)
    divide: Decimal = Decimal(1)
    rounding: Rounding = "none"
    step: Decimal = Decimal(1)

    @property
    def words(self) -> str:
        """Such as 'divided by 3,600, rounded up to multiples of 0.5'."""
        said = [
            f"times {self.multiply:,f}" if self.multiply != 1 else "",
            f"divided by {self.divide:,f}" if self.divide != 1 else "",
            f"rounded {_TO[self.rounding]} multiple of {self.step:,f}" if self.rounding != "none" else "",
        ]
        return ", ".join(part for part in said if part) or "as it is"

    def of(self, quantity: Decimal) -> Decimal:
        value = Fraction(quantity) * Fraction(self.multiply) / Fraction(self.divide)
        if self.rounding != "none":
            value = in_steps(value, self.step, self.rounding)
        return decimal_of(value)

    def faults(self) -> tuple[Fault, ...]:
        found = [
            Fault(name, "must be a number above zero")
            for name in ("multiply", "divide", "step")
            if not (value := getattr(self, name)).is_finite() or value <= 0
        ]
        if not found and self.rounding == "none":
            if decimal_places(Fraction(self.multiply) / Fraction(self.divide)) is None:
                found.append(Fault("rounding", f"dividing by {self.divide} has no end in decimals; say how to round"))
            if self.step != 1:
                found.append(Fault("step", "goes with a rounding"))
        return tuple(found)
