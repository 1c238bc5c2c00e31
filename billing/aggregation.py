"""How a meter makes one quantity of many events: what is kept of each day, and how days are brought together.

Of a day is kept, for each combination of properties: the sum of the quantities (sum, average), the number of events
(count), the largest, smallest or latest quantity, each value that occurred (unique), the number of events in each
bucket of quantities (percentile), the sum of each minute or hour (peak_rate), or the sum of the changes of a level and
that of each change times its time (weighted_sum). What a level leaves to later days is in billing/level.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from billing.portion import Aggregation, Portion
from billing.quantity import added_up, decimal_of, in_steps

ADDITIVE = frozenset({"sum", "count"})
"""Those whose quantity of a period is the sum of its days'."""

WHOLE = frozenset({"average", "max", "min", "unique", "percentile", "peak_rate"})
"""Those that say something of all events together, such as how many different users there were: what they make of some
and of others does not add up. Of a `latest`, or of a level, each combination of properties is one of its own, such as
what each machine reports, and they do.
"""

MEAN_STEP = Decimal("1E-9")

Kept = Literal["added", "max", "min", "latest"]
KEPT: dict[Aggregation, Kept] = {
    "sum": "added",
    "count": "added",
    "average": "added",
    "unique": "added",
    "percentile": "added",
    "peak_rate": "added",
    "weighted_sum": "added",
    "max": "max",
    "min": "min",
    "latest": "latest",
}
"""How a further event changes what is kept."""


def kept_by(aggregation: Aggregation, *, operations: bool) -> Kept:
    """How a further event changes what is kept of a day; of what is added and removed, the latest counts."""
    return "latest" if operations else KEPT[aggregation]


APART = frozenset({"unique", "percentile", "peak_rate"})
"""Those that keep several totals of a day: by value, by bucket, by minute or hour."""

RateWindow = Literal["minute", "hour"]
RATE_MINUTES: dict[RateWindow, int] = {"minute": 1, "hour": 60}

MAY_CARRY_OVER = frozenset({"sum", "latest", "unique"})
"""Those of whose meters may be said that they carry over; unique only with operations. weighted_sum always does."""


def brought_together(portions: Iterable[Portion]) -> Decimal:
    """One quantity of portions of one meter, in order of day; 0 of none. Of a weighted_sum: by how much its level
    changed.
    """
    some = tuple(portions)
    return _WAYS[some[0].aggregation](some) if some else Decimal(0)


def _sum(portions: Sequence[Portion]) -> Decimal:
    return added_up(p.quantity for p in portions)


def _mean(portions: Sequence[Portion]) -> Decimal:
    """To nine decimals, ties away from zero."""
    mean = Fraction(_sum(portions)) / sum(p.events for p in portions)
    return decimal_of(in_steps(mean, MEAN_STEP, "nearest"))


def bucket(quantity: Decimal) -> Decimal:
    """The middle of the quantity's bucket, which lies within one percent of it; 0 of 0, and of -x what x has, negated.

    Buckets grow with their quantities. By the first three digits: from 100 to 200 a bucket holds two of these numbers,
    to 500 four, above ten; so a decade has 175 buckets, and half of one is at most a hundredth of its lower end.
    """
    if not quantity:
        return Decimal(0)
    sign, digits, _ = quantity.as_tuple()
    first, second, third = (*digits[:3], 0, 0)[:3]
    leading = 100 * first + 10 * second + third
    width = 2 if leading < 200 else 4 if leading < 500 else 10
    middle = leading - leading % width + width // 2
    return Decimal((sign, tuple(int(digit) for digit in str(middle)), quantity.adjusted() - 2))


def _percentile(portions: Sequence[Portion]) -> Decimal:
    """The bucket of the smallest quantity that at least so many percent of all events do not exceed."""
    percent = portions[0].percent or Decimal(100)
    rank = Fraction(percent) * sum(p.events for p in portions) / 100
    passed, found = 0, Decimal(0)
    for portion in sorted(portions, key=_each):
        passed, found = passed + portion.events, _each(portion)
        if passed >= rank:
            break
    return found


def _peak(portions: Sequence[Portion]) -> Decimal:
    """The largest sum of a minute or hour, of those that have events."""
    sums: dict[Decimal, list[Decimal]] = {}
    for portion in portions:
        sums.setdefault(_each(portion), []).append(portion.quantity)
    return max(added_up(quantities) for quantities in sums.values())


def _different(portions: Sequence[Portion]) -> Decimal:
    """How many values there were; with operations, how many are in after the latest operation of each."""
    course = portions[0].course
    if course is None or not course.operations:
        return Decimal(len({p.each for p in portions}))
    latest = {p.each: p.quantity for p in portions}
    return Decimal(sum(1 for quantity in latest.values() if quantity))


def _each(portion: Portion) -> Decimal:
    return portion.each or Decimal(0)


_WAYS: dict[Aggregation, Callable[[Sequence[Portion]], Decimal]] = {
    "sum": _sum,
    "count": _sum,
    "average": _mean,
    "max": lambda portions: max(p.quantity for p in portions),
    "min": lambda portions: min(p.quantity for p in portions),
    "latest": lambda portions: portions[-1].quantity,
    "unique": _different,
    "percentile": _percentile,
    "peak_rate": _peak,
    "weighted_sum": _sum,
}
