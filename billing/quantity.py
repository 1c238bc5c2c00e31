"""Quantities add up exactly, whatever the surrounding decimal context is.

Python rounds decimal sums to 28 digits by default; a total of tokens with a fraction may have more. Here nothing is
rounded: a sum that does not fit into a thousand digits raises `decimal.Inexact`.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow

_EXACT = Context(prec=1000, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[Inexact, InvalidOperation, Overflow, DivisionByZero])


def added_up(quantities: Iterable[Decimal]) -> Decimal:
    found = Decimal(0)
    for quantity in quantities:
        found = _EXACT.add(found, quantity)
    return found


def less(quantity: Decimal, other: Decimal) -> Decimal:
    """`quantity` - `other`."""
    return _EXACT.subtract(quantity, other)
