"""Measured usage: what a meter counted, in portions that share the properties a price may ask for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache, partial

from billing.aggregation import ADDITIVE, WHOLE, brought_together
from billing.level import Carried, Changes, brought_forward, carried, in_words, stood_for_days
from billing.period import Period
from billing.portion import Aggregation, Course, Portion, Properties
from billing.quantity import added_up


@dataclass(frozen=True, slots=True)
class Measured:
    """What one priced item is charged for. Portions of single events stand in order of day, then of amount.

    `note` says in words what was there before, of a meter that carries over.
    """

    portions: tuple[Portion, ...]
    note: str = ""

    @property
    def own(self) -> tuple[Portion, ...]:
        """The portions of the item's own meter."""
        return tuple(p for p in self.portions if not p.meter)

    @property
    def quantity(self) -> Decimal:
        if len(self.portions) == 1 and not self.portions[0].meter:
            return self.portions[0].quantity
        return added_up(p.quantity for p in self.portions if not p.meter)

    @property
    def events(self) -> int:
        return sum(p.events for p in self.portions if not p.meter)

    @property
    def plain(self) -> bool:
        """Whether the quantity (and the number of events) say all there is to say."""
        return len(self.portions) == 1 and self.portions[0].each is None and not self.portions[0].properties

    def of(self, meter: str) -> Decimal:
        """The quantity of a further meter."""
        return added_up(p.quantity for p in self.portions if p.meter == meter)


def units(quantity: Decimal, events: int = 1) -> Measured:
    """A quantity that did not come from a meter, or of which nothing but the sum counts."""
    return Measured((Portion(quantity, events),))


# Folded usage of one customer: (meter, local day) to portions.
Totals = Mapping[tuple[str, date], tuple[Portion, ...]]

BEFORE = date.min
"""The day under which totals have, of a meter that carries over, what was before their first day; be it nothing."""


def quantity_of(portions: Iterable[Portion]) -> Decimal:
    """What portions of one meter, in order of day, make together, whatever their properties."""
    return added_up(brought_together(group) for group in _groups(portions).values())


_Group = tuple[Properties, Aggregation, Decimal]


def _groups(portions: Iterable[Portion], by: Collection[str] = ()) -> dict[_Group, list[Portion]]:
    """Those that are brought together: with the same values of `by`, or, where each combination of properties is a
    quantity of its own, with the same properties. Where a meter counts otherwise from some day on, days before and
    after it are brought together each by their own aggregation.
    """
    found: dict[_Group, list[Portion]] = {}
    for p in portions:
        properties = p.properties
        if properties and p.aggregation in WHOLE and p.course is None:
            properties = tuple((name, value) for name, value in properties if name in by and value)
        found.setdefault((properties, p.aggregation, p.percent or _NO_PERCENT), []).append(p)
    return found


_NO_PERCENT = Decimal(0)


def provable(portions: Iterable[Portion]) -> Decimal:
    """What can be added up over days: the quantity, or, of a meter whose days do not add up, the number of events."""
    return added_up(p.quantity if _adds_up(p) else Decimal(p.events) for p in portions)


def _adds_up(portion: Portion) -> bool:
    return portion.aggregation in ADDITIVE and not (portion.course and portion.course.carries_over)


def carries_over(totals: Totals, meter: str) -> bool:
    """Whether the meter has a level that goes on from period to period; known once there was an event of it."""
    return (meter, BEFORE) in totals


def stands(totals: Totals, meter: str) -> bool:
    """Whether the meter's quantity is a level itself, which stands all the time, and not the level times its time."""
    if not carries_over(totals, meter):
        return False
    courses = (portion.course for (name, _), some in totals.items() if name == meter for portion in some)
    return all(course is None or course.time_unit is None for course in courses)


def measure(
    totals: Totals, meter: str, period: Period, further: Iterable[str] = (), by: Collection[str] = ()
) -> Measured:
    """What `meter` counted over the days of `period`, and what `further` meters did, marked with their names.

    `by` are the properties that a price tells apart; events that differ in others only make one mean, one largest
    quantity, and so on.
    """
    levels = levels_of(totals, meter, period) if (meter, BEFORE) in totals else ()
    found = list(_of_levels(levels) if levels else _merged(totals, meter, period, by))
    for other in further:
        found += [replace(portion, meter=other) for portion in _own(totals, other, period)]
    return Measured(tuple(found), in_words(levels))


def _own(totals: Totals, meter: str, period: Period) -> tuple[Portion, ...]:
    if (meter, BEFORE) in totals:
        return _of_levels(levels_of(totals, meter, period))
    return _merged(totals, meter, period)


def _of_levels(levels: Iterable[Carried]) -> tuple[Portion, ...]:
    return tuple(Portion(one.quantity, one.events, one.properties) for one in levels)


def levels_by_day(totals: Totals, meter: str, period: Period) -> dict[date, Decimal]:
    """Of a meter that carries over: the quantity of each day of the period that has events."""
    mine = sorted((day, portions) for (name, day), portions in totals.items() if name == meter and day < period.end)
    level = brought_forward(portion for day, portions in mine if day < period.start for portion in portions)
    found: dict[date, Decimal] = {}
    for day, portions in mine:
        if day >= period.start:
            only = Period(day, day + timedelta(days=1))
            made = carried(level, [(day, portion) for portion in portions], partial(_stood, only))
            found[day] = added_up(one.quantity for one in made)
            level = brought_forward([*level, *portions])
    return found


def _stood(period: Period, level: Decimal, changes: Changes[date], course: Course) -> Decimal:
    return stood_for_days(level, changes, period, course)


def levels_of(totals: Totals, meter: str, period: Period) -> tuple[Carried, ...]:
    """Of a meter that carries over: what it makes of the period, each combination of properties by itself."""
    mine = sorted((day, portions) for (name, day), portions in totals.items() if name == meter and day < period.end)
    before = [portion for day, portions in mine if day < period.start for portion in portions]
    during = [(day, portion) for day, portions in mine if day >= period.start for portion in portions]
    return carried(before, during, partial(_stood, period))


def _merged(totals: Totals, meter: str, period: Period, by: Collection[str] = ()) -> tuple[Portion, ...]:
    """One portion for equal properties; single events stay in order of day, then of amount."""
    days = _portions(totals, meter, period)
    quantities: list[Decimal] = []
    events = 0
    for portions in days:
        for portion in portions:
            if portion.aggregation not in ADDITIVE:
                return _aggregated(days, by)
            if portion.properties or portion.each is not None:
                mixed = any(p.aggregation not in ADDITIVE for some in days for p in some)
                return _aggregated(days, by) if mixed else _kept_apart(days)
            quantities.append(portion.quantity)
            events += portion.events
    return (Portion(added_up(quantities), events),)


def _aggregated(days: Sequence[tuple[Portion, ...]], by: Collection[str]) -> tuple[Portion, ...]:
    return tuple(
        Portion(brought_together(group), sum(p.events for p in group), properties)
        for (properties, *_), group in sorted(_groups((p for portions in days for p in portions), by).items())
    )


def _kept_apart(days: Sequence[tuple[Portion, ...]]) -> tuple[Portion, ...]:
    found: dict[Properties, list[Portion]] = {}
    for portions in days:
        for portion in portions:
            if portion.each is not None:
                return tuple(p for day in days for p in sorted(day, key=_event_order))
            found.setdefault(portion.properties, []).append(portion)
    return tuple(
        Portion(added_up([p.quantity for p in group]), sum(p.events for p in group), properties)
        for properties, group in sorted(found.items())
    )


def _portions(totals: Totals, meter: str, period: Period) -> list[tuple[Portion, ...]]:
    """Day by day; by whichever way is shorter, the days of the period or the days that have usage."""
    if period.days <= len(totals):
        return [portions for day in _days(period) if (portions := totals.get((meter, day)))]
    return [portions for (name, day), portions in sorted(totals.items()) if name == meter and day in period]


@lru_cache(maxsize=256)
def _days(period: Period) -> tuple[date, ...]:
    """The same days for every meter and customer that are measured over the period."""
    first = period.start.toordinal()
    return tuple(date.fromordinal(first + n) for n in range(period.days))


def _event_order(portion: Portion) -> tuple[Decimal, Properties]:
    return portion.each if portion.each is not None else portion.quantity, portion.properties
