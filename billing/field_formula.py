"""A meter's formula over the fields of an event, such as input + 4 * output: what it gives, and its bounds.

The arithmetic is that of prices (billing/pricing/expression.py). A formula of a meter is shorter, because it is worked
out for each event: with 50 parts and numbers of 60 digits it takes less than a millisecond, whatever it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from billing.errors import Fault
from billing.pricing.expression import Number, Unreadable, read
from billing.quantity import decimal_of, in_steps

MOST_PARTS = 50
"""Numbers, names, signs and brackets of one formula."""
STEP = Decimal("1E-15")
"""What does not end before is rounded to so many decimals, ties away from zero."""
BOUND = 10**30
"""Fields that are counted, and what an event adds, are smaller than this."""


class Unfit(ValueError):
    """The fields are there, and the formula has no result for them; the words say why."""


Formula = Callable[[Mapping[str, object]], "Decimal | None"]


@lru_cache(maxsize=1000)
def formula(expression: str) -> Formula:
    """What the formula gives for the fields of an event; None if one of them is missing, no number or too large.

    It raises Unfit if it divides by zero, or gives too large a number.
    """
    found = read(expression)
    names, work_out = tuple(sorted(found.names)), found.work_out

    def of(data: Mapping[str, object]) -> Decimal | None:
        values: dict[str, Number] = {}
        for name in names:
            value = data.get(name)
            if value.__class__ is int and -BOUND < value < BOUND:
                values[name] = value
            elif isinstance(value, Decimal) and -BOUND < value < BOUND:
                values[name] = Fraction(value)
            else:
                return None
        try:
            exact = work_out(values)
        except ZeroDivisionError:
            raise Unfit(f"{expression} divides by zero") from None
        if not -BOUND < exact < BOUND:
            raise Unfit(f"{expression} must give a number below 10^30")
        return (
            Decimal(exact.numerator)
            if exact.denominator == 1
            else decimal_of(in_steps(Fraction(exact), STEP, "nearest"))
        )

    return of


def fields_of(expression: str) -> frozenset[str]:
    """The fields that it asks for."""
    return read(expression).names


def formula_faults(expression: str) -> Iterator[Fault]:
    """Why a meter cannot count by it."""
    try:
        found = read(expression)
    except Unreadable as error:
        yield Fault("expression", str(error))
        return
    if not found.names:
        yield Fault("expression", "asks for no field of the event")
    for divisor in dict.fromkeys(found.zero_divisors):
        yield Fault("expression", f"divides by {divisor!r}, which is zero whatever an event says")
    if found.parts > MOST_PARTS:
        said = f"has {found.parts} numbers, names, signs and brackets; a meter's formula has at most {MOST_PARTS}"
        yield Fault("expression", said)
