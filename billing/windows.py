"""Usage by windows of a customer's clock, for whoever looks: from a minute to a month."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from billing.period import instant, local_window
from billing.usage import Portion, quantity_of

WindowSize = Literal["minute", "hour", "day", "week", "month"]
SIZES: tuple[WindowSize, ...] = get_args(WindowSize)


@dataclass(frozen=True, slots=True)
class UsageWindow:
    """What a meter counted from a moment up to, and not including, another one. Windows without events are left out.

    `properties` are the values by which the windows are told apart, name and value.
    """

    starts_at: datetime
    ends_at: datetime
    properties: tuple[tuple[str, str], ...]
    quantity: Decimal
    events: int


def by_window(
    counted: Iterable[tuple[datetime, Portion]], size: WindowSize, where: ZoneInfo, by: Iterable[str] = ()
) -> list[UsageWindow]:
    """Portions with the starts of the windows that they were kept by, in order of time, as windows of the wanted size.

    `by` are the dimensions whose values are told apart. A week begins on Monday (ISO 8601).
    """
    names = tuple(sorted(by))
    found: dict[tuple[datetime, tuple[tuple[str, str], ...]], list[Portion]] = {}
    for starts_at, portion in counted:
        kept = tuple((name, portion.value(name)) for name in names)
        found.setdefault((_start(starts_at, size, where), kept), []).append(portion)
    return [
        UsageWindow(start, _end(start, size, where), kept, quantity_of(some), sum(p.events for p in some))
        for (start, kept), some in sorted(found.items())
    ]


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
    if size in ("minute", "hour"):
        return start + timedelta(minutes=1 if size == "minute" else 60)
    day = start.astimezone(where).date()
    if size == "month":
        return instant((day.replace(day=28) + timedelta(days=4)).replace(day=1), where)
    return instant(day + timedelta(days=1 if size == "day" else 7), where)
