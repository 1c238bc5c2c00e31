"""A portion of usage: what one meter counted of one day or window, of events that share their properties."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, get_args

Aggregation = Literal[
    "sum", "count", "average", "max", "min", "latest", "unique", "percentile", "peak_rate", "weighted_sum"
]
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)

TimeUnit = Literal["second", "hour", "day"]
SECONDS: dict[TimeUnit, int] = {"second": 1, "hour": 3_600, "day": 86_400}

Properties = tuple[tuple[str, str], ...]
"""Names and values of dimensions, in order of name."""
NO_PROPERTIES: Properties = ()


@dataclass(frozen=True, slots=True)
class Course:
    """How a meter's quantity goes on in time.

    `carries_over`: a period begins with the level of before. `operations`: each event says whether a value is added or
    removed. With a `time_unit` the quantity is the level times the time that it stood, by days of the time zone `zone`.
    """

    carries_over: bool = False
    operations: bool = False
    time_unit: TimeUnit | None = None
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Portion:
    """`quantity` units that came in `events` events with the same `properties` (name and value, in order of name).

    `each` is the quantity of every one of these events, if the meter keeps events apart; a price can then set a
    fee or a bound for each transaction. `meter` is empty for the item's own meter. `aggregation` says how it is brought
    together with others: `each` is then by which of them are kept apart, and `percent` which percentile is asked for.
    `course` says how it goes on in time, where it does. `weighted` is, of changes of a level, the sum of each change
    times the seconds from the start of the portion's day or window to it.
    """

    quantity: Decimal
    events: int = 1
    properties: Properties = NO_PROPERTIES
    each: Decimal | None = None
    meter: str = ""
    aggregation: Aggregation = "sum"
    percent: Decimal | None = None
    weighted: Decimal = Decimal(0)
    course: Course | None = None

    def value(self, name: str) -> str:
        """The property's value; empty where the events did not have it."""
        return next((value for key, value in self.properties if key == name), "")
