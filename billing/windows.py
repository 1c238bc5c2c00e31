"""Usage by windows of a customer's clock, for whoever looks: from a minute to a month."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from billing.level import Carried, brought_forward, carried, stood_for_days, stood_within
from billing.period import Period, instant, local_day, local_window
from billing.portion import Course, Portion, Properties
from billing.quantity import added_up
from billing.usage import quantity_of

WindowSize = Literal["minute", "hour", "day", "week", "month"]
SIZES: tuple[WindowSize, ...] = get_args(WindowSize)


@dataclass(frozen=True, slots=True)
class UsageWindow:
    """What a meter counted from a moment up to, and not including, another one. Windows without events are left out.

    `properties` are the values by which the windows are told apart, name and value.
    """

    starts_at: datetime
    ends_at: datetime
    properties: Properties
    quantity: Decimal
    events: int

    def within(self, starts_at: datetime, ends_at: datetime) -> UsageWindow:
        """Cut at these moments."""
        return replace(self, starts_at=max(self.starts_at, starts_at), ends_at=min(self.ends_at, ends_at))


def by_window(
    counted: Iterable[tuple[datetime, Portion]], size: WindowSize, where: ZoneInfo, by: Iterable[str] = ()
) -> list[UsageWindow]:
    """Portions with the starts of the windows that they were kept by, in order of time, as windows of the wanted size.

    `by` are the dimensions whose values are told apart. A week begins on Monday (ISO 8601).
    """
    names = tuple(sorted(by))
    found: dict[tuple[datetime, Properties], list[Portion]] = {}
    for starts_at, portion in counted:
        kept = tuple((name, portion.value(name)) for name in names)
        found.setdefault((_start(starts_at, size, where), kept), []).append(portion)
    return [
        UsageWindow(start, _end(start, size, where), kept, quantity_of(some), sum(p.events for p in some))
        for (start, kept), some in sorted(found.items())
    ]


def level_by_window(
    before: Iterable[Portion],
    counted: Iterable[tuple[datetime, Portion]],
    size: WindowSize,
    where: ZoneInfo,
    days: Period,
    by: Iterable[str] = (),
) -> list[UsageWindow]:
    """The same of a meter that carries over: every window of the days in which it had a level or events.

    `before` is what it has of the time before `days`.
    """
    names = tuple(sorted(by))
    inside: dict[datetime, list[tuple[datetime, Portion]]] = {}
    for starts_at, portion in counted:
        inside.setdefault(_start(starts_at, size, where), []).append((starts_at, portion))
    found: list[UsageWindow] = []
    level, moment, end = brought_forward(before), instant(days.start, where), instant(days.end, where)
    quiet: tuple[Carried, ...] | None = None  # What windows without events have, unless the time counts.
    while moment < end:
        start = _start(moment, size, where)
        until = _end(start, size, where)
        new = inside.get(start, [])
        some = quiet
        if new or some is None:
            some = _carried_in(level, new, size, where, (moment, min(until, end)))
            quiet = None if new or any(one.course.time_unit for one in some) else some
            level = brought_forward([*level, *(portion for _, portion in new)]) if new else level
        found += _kept_apart(some, names, start, until)
        moment = until
    return found


def _carried_in(
    level: Iterable[Portion],
    new: list[tuple[datetime, Portion]],
    size: WindowSize,
    where: ZoneInfo,
    between: tuple[datetime, datetime],
) -> tuple[Carried, ...]:
    """What it makes of the time between: days one by one, as a bill has them, or a part of a day at once."""
    if size in ("minute", "hour"):

        def within(at_start: Decimal, changes: Sequence[tuple[datetime, Portion]], course: Course) -> Decimal:
            return stood_within(at_start, changes, between, course)

        return carried(level, new, within)
    days = Period(local_day(between[0], where), local_day(between[1], where))

    def for_days(at_start: Decimal, changes: Sequence[tuple[date, Portion]], course: Course) -> Decimal:
        return stood_for_days(at_start, changes, days, course)

    return carried(level, [(local_day(starts_at, where), portion) for starts_at, portion in new], for_days)


def _kept_apart(some: Iterable[Carried], names: Sequence[str], start: datetime, end: datetime) -> Iterator[UsageWindow]:
    """By the values of those dimensions."""
    found: dict[Properties, list[Carried]] = {}
    for one in some:
        values = dict(one.properties)
        found.setdefault(tuple((name, values.get(name, "")) for name in names), []).append(one)
    for kept, group in sorted(found.items()):
        yield UsageWindow(start, end, kept, added_up(one.quantity for one in group), sum(one.events for one in group))


def _start(moment: datetime, size: WindowSize, where: ZoneInfo) -> datetime:
    match size:
        case "minute":
            return local_window(moment, where, 1)
        case "hour":
            return local_window(moment, where, 60)
        case "day":
            return instant(moment.astimezone(where).date(), where)
        case "week":
            day = moment.astimezone(where).date()
            return instant(day - timedelta(days=day.weekday()), where)
        case "month":
            return instant(moment.astimezone(where).date().replace(day=1), where)


def _end(start: datetime, size: WindowSize, where: ZoneInfo) -> datetime:
    if size == "minute":
        return start + timedelta(minutes=1)
    if size == "hour":
        end = start + timedelta(minutes=60 - start.astimezone(where).minute)
        last = local_window(end - timedelta(minutes=1), where, 60)
        return last if last > start else end  # Clocks that were set meanwhile began an hour of their own.
    day = start.astimezone(where).date()
    if size == "month":
        return instant((day.replace(day=28) + timedelta(days=4)).replace(day=1), where)
    return instant(day + timedelta(days=1 if size == "day" else 7), where)
