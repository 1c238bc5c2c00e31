"""Usage that a meter counts and no price looks at: of days without a subscription, or whose plan lacks the meter."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Literal

from billing.period import Period
from billing.quantity import added_up
from billing.terms import Terms, windows
from billing.usage import BEFORE, Totals, carries_over, measure, quantity_of, stands

Why = Literal["no_subscription", "not_in_plan", "both"]


@dataclass(frozen=True, slots=True)
class Agreed:
    """What one subscription prices: all its terms, and the first day on which it does not run any more."""

    history: Sequence[Terms]
    anchor: date
    ends_on: date | None


@dataclass(frozen=True, slots=True)
class Unpriced:
    """A meter's quantity over the days of which no price looks at it; of a level that is not counted by time, the level
    on the last of them.
    """

    meter: str
    quantity: Decimal
    events: int
    days: int
    first_day: date
    last_day: date
    why: Why


def unpriced(agreed: Sequence[Agreed], totals: Totals, asked: Period) -> list[Unpriced]:
    """Of one customer, by meter, over the days asked for. `agreed` are all its subscriptions.

    A level is there on days without events too.
    """
    stretches = [stretch for one in agreed for stretch in _stretches(one, asked)]
    used: dict[str, set[date]] = {}
    for meter, day in totals:
        if day in asked:
            used.setdefault(meter, set()).add(day)
    for meter in {meter for meter, day in totals if day == BEFORE}:
        since = asked.start if totals[meter, BEFORE] else min(used.get(meter, {asked.end}))
        used[meter] = {since + timedelta(days=n) for n in range((asked.end - since).days)}
    found: list[Unpriced] = []
    for meter, days in sorted(used.items()):
        running: dict[date, bool] = {}
        for day in sorted(days):
            plans = [meters for period, meters in stretches if day in period]
            if not any(meter in meters for meters in plans):
                running[day] = bool(plans)
        if one := _summed(totals, meter, running):
            found.append(one)
    return found


def _stretches(one: Agreed, asked: Period) -> list[tuple[Period, Collection[str]]]:
    """Its days among those asked for, by the meters that are priced on them."""
    start, end = max(one.anchor, asked.start), min(one.ends_on or asked.end, asked.end)
    if start >= end:
        return []
    return [
        (window.period, {meter for item in window.terms.plan.items for meter in item.meters})
        for window in windows(one.history, Period(start, end))
    ]


def _summed(totals: Totals, meter: str, running: dict[date, bool]) -> Unpriced | None:
    """Of days without a price, in order, each with whether a subscription ran on it; None if there is nothing."""
    if not running:
        return None
    all_, some = all(running.values()), any(running.values())
    why: Why = "not_in_plan" if all_ else "both" if some else "no_subscription"
    portions = [portion for day in running for portion in totals.get((meter, day), ())]
    quantity, events = quantity_of(portions), sum(p.events for p in portions)
    if carries_over(totals, meter):
        levels = [measure(totals, meter, days).quantity for days in _runs(running)]
        quantity = levels[-1] if stands(totals, meter) else added_up(levels)
        if not quantity and not events:
            return None
    return Unpriced(meter, quantity, events, len(running), min(running), max(running), why)


def _runs(days: Iterable[date]) -> list[Period]:
    """Days in order, as stretches without a gap."""
    found: list[Period] = []
    for day in days:
        start = found.pop().start if found and found[-1].end == day else day
        found.append(Period(start, day + timedelta(days=1)))
    return found
