"""Levels: what a meter's events leave to the time after them, and what a level makes of the time that it stood.

A level is a running sum, the latest quantity, or how many values are in. It goes on from period to period, so a period
without events has a quantity too. How portions are found by day is in billing/usage.py, by shorter windows in
billing/windows.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

from billing.aggregation import brought_together
from billing.period import Period, instant, zone
from billing.portion import SECONDS, Course, Portion, Properties
from billing.quantity import added_up, decimal_of, in_steps, less, product

STEP = Decimal("1E-9")
"""A level times its time is rounded to so many decimals of its unit, ties away from zero: once for each local day, so
that however a period is cut into days, its parts add up.
"""

When = TypeVar("When", date, datetime)
Changes = Sequence[tuple[When, Portion]]


@dataclass(frozen=True, slots=True)
class Carried:
    """What one combination of properties makes of a stretch of time: `quantity`, in `events` events of that time.

    `at_start` and `at_end` are the level then.
    """

    properties: Properties
    quantity: Decimal
    events: int
    at_start: Decimal
    at_end: Decimal
    course: Course


def carried(
    before: Iterable[Portion],
    during: Changes[When],
    stood: Callable[[Decimal, Changes[When], Course], Decimal],
) -> tuple[Carried, ...]:
    """Each combination of properties that had a level or events, in order. Portions are given in order of time.

    `stood` says what a level makes of the time, of meters that count it.
    """
    earlier: dict[Properties, list[Portion]] = {}
    changes: dict[Properties, list[tuple[When, Portion]]] = {}
    for portion in before:
        earlier.setdefault(portion.properties, []).append(portion)
    for when, portion in during:
        changes.setdefault(portion.properties, []).append((when, portion))
    found: list[Carried] = []
    for properties in sorted(earlier.keys() | changes.keys()):
        old: list[Portion] = earlier.get(properties, [])
        new: list[tuple[When, Portion]] = changes.get(properties, [])
        course = (old[0] if old else new[0][1]).course or Course(carries_over=True)
        at_start = brought_together(old)
        at_end = brought_together([*old, *(portion for _, portion in new)])
        quantity = stood(at_start, new, course) if course.time_unit else at_end
        events = sum(portion.events for _, portion in new)
        if quantity or events:
            found.append(Carried(properties, quantity, events, at_start, at_end, course))
    return tuple(found)


def brought_forward(portions: Iterable[Portion]) -> tuple[Portion, ...]:
    """What of portions in order of time still matters to the time after them, with the number of their events."""
    found: dict[tuple[object, ...], Portion] = {}
    for portion in portions:
        key = (portion.properties, portion.each)
        if (before := found.get(key)) is not None:
            quantity = portion.quantity
            if portion.aggregation in ("sum", "weighted_sum"):
                quantity = added_up((before.quantity, quantity))
            portion = replace(portion, quantity=quantity, events=before.events + portion.events)
        found[key] = replace(portion, weighted=Decimal(0))
    return tuple(found.values())


def stood_for_days(level: Decimal, changes: Changes[date], period: Period, course: Course) -> Decimal:
    """The level times the time that it stood, over local days of 23 to 25 hours as they are, in the course's unit."""
    parts: list[Decimal] = []
    by_day: dict[date, list[Portion]] = {}
    for day, portion in changes:
        by_day.setdefault(day, []).append(portion)
    reached = period.start
    for day, portions in by_day.items():
        parts += _undisturbed(level, reached, day, course)
        reached = day + timedelta(days=1)
        [(seconds, _)] = _lengths(day, reached, course.zone)
        level, weighed = _changed(level, portions)
        parts.append(_in_unit(Fraction(level) * seconds - weighed, course))
    parts += _undisturbed(level, reached, period.end, course)
    return added_up(parts)


def stood_within(
    level: Decimal, changes: Changes[datetime], between: tuple[datetime, datetime], course: Course
) -> Decimal:
    """The same within an hour or a minute; of each portion is given when its own window began."""
    since, until = between
    exact = Fraction(level) * _seconds(until - since)
    for starts_at, portion in changes:
        exact += Fraction(portion.quantity) * _seconds(until - starts_at) - Fraction(portion.weighted)
    return _in_unit(exact, course)


def in_words(levels: Sequence[Carried]) -> str:
    """Such as "level 10 at the start, changed by -2 in 1 event, 8 at the end; times the hours that it stood"."""
    if not levels:
        return ""
    at_start, at_end = (added_up(one.at_start for one in levels), added_up(one.at_end for one in levels))
    events, unit = sum(one.events for one in levels), levels[0].course.time_unit
    said = f"level {at_start:,f} at the start, "
    said += f"changed by {less(at_end, at_start):,f} in {events:,} event{'s' if events > 1 else ''}, " if events else ""
    return said + f"{at_end:,f} at the end" + (f"; times the {unit}s that it stood" if unit else "")


def _changed(level: Decimal, portions: Sequence[Portion]) -> tuple[Decimal, Fraction]:
    """The level after a day's changes, and what they weigh."""
    weighed = sum((Fraction(portion.weighted) for portion in portions), Fraction(0))
    return added_up((level, *(portion.quantity for portion in portions))), weighed


def _undisturbed(level: Decimal, since: date, until: date, course: Course) -> list[Decimal]:
    """Day by day, so that it does not matter how many of them are looked at together."""
    if not level:
        return []
    return [
        product(_in_unit(Fraction(level) * seconds, course), Decimal(days))
        for seconds, days in _lengths(since, until, course.zone)
    ]


@lru_cache(maxsize=4096)
def _lengths(since: date, until: date, zone_name: str) -> tuple[tuple[int, int], ...]:
    """How long the local days are, in seconds, and how many are so long."""
    where, found = zone(zone_name), dict[int, int]()
    moments = [instant(date.fromordinal(n), where) for n in range(since.toordinal(), until.toordinal() + 1)]
    for start, end in pairwise(moments):
        seconds = (end - start) // timedelta(seconds=1)
        found[seconds] = found.get(seconds, 0) + 1
    return tuple(found.items())


def _seconds(time: timedelta) -> Fraction:
    return Fraction(time // timedelta(microseconds=1), 1_000_000)


def _in_unit(exact: Fraction, course: Course) -> Decimal:
    return decimal_of(in_steps(exact / SECONDS[course.time_unit or "second"], STEP, "nearest"))
