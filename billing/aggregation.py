"""How a meter makes one quantity of many events: what is kept of each day, and how days are brought together.

Of a day is kept, for each combination of properties: the sum of the quantities (sum, average), the number of events
(count), the largest, smallest or latest quantity, or each value that occurred (unique).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, get_args

from billing.quantity import added_up, decimal_of, in_steps

if TYPE_CHECKING:
    from billing.usage import Portion

Aggregation = Literal["sum", "count", "average", "max", "min", "latest", "unique"]
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)

ADDITIVE = frozenset({"sum", "count"})
"""Those whose quantity of a period is the sum of its days'."""

MEAN_STEP = Decimal("1E-9")

Kept = Literal["added", "max", "min", "latest"]
KEPT: dict[Aggregation, Kept] = {
    "sum": "added",
    "count": "added",
    "average": "added",
    "unique": "added",
    "max": "max",
    "min": "min",
    "latest": "latest",
}
"""How a further event changes what is kept."""


def brought_together(portions: Iterable[Portion]) -> Decimal:
    """One quantity of portions of one meter, in order of day; 0 of none."""
    some = tuple(portions)
    return _WAYS[some[0].aggregation](some) if some else Decimal(0)


def _sum(portions: Sequence[Portion]) -> Decimal:
    return added_up(p.quantity for p in portions)


def _mean(portions: Sequence[Portion]) -> Decimal:
    """To nine decimals, ties away from zero."""
    mean = Fraction(_sum(portions)) / sum(p.events for p in portions)
    return decimal_of(in_steps(mean, MEAN_STEP, "nearest"))


_WAYS: dict[Aggregation, Callable[[Sequence[Portion]], Decimal]] = {
    "sum": _sum,
    "count": _sum,
    "average": _mean,
    "max": lambda portions: max(p.quantity for p in portions),
    "min": lambda portions: min(p.quantity for p in portions),
    "latest": lambda portions: portions[-1].quantity,
    "unique": lambda portions: Decimal(len({p.each for p in portions})),
}
