"""Revenue: how much of a promise is earned by a day (ASC 606-10-25-31, IFRS 15.39-41).

Posting is always "should be by now" minus "posted so far", so that repeating, correcting and re-closing post only
differences, and a schedule adds up to its total by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Literal

from billing.money import Money
from billing.period import Period
from billing.plan import RevenueKind

Pattern = Literal["ratable", "delivered"]


@dataclass(frozen=True, slots=True)
class Obligation:
    """One promise: `total` earned over `period`, by the day or as delivered.

    For `delivered`, `total` is the price of what has been delivered so far.
    """

    obligation_id: str
    pattern: Pattern
    revenue: RevenueKind
    total: Money
    period: Period


def earned(obligation: Obligation, through: date) -> Money:
    """What should be recognised up to and including `through`, as a rounded running total."""
    if obligation.pattern == "delivered":
        return obligation.total
    days = (through - obligation.period.start).days + 1
    share = min(Fraction(1), max(Fraction(0), Fraction(days, obligation.period.days)))
    return obligation.total.amount.times(share).rounded(obligation.total.currency)
