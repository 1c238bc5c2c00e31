"""Usage that a meter counts and no price looks at: of days without a subscription, or whose plan lacks the meter."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

from billing.period import Period
from billing.terms import Terms, windows
from billing.usage import Portion, Totals, quantity_of

Why = Literal["no_subscription", "not_in_plan", "both"]


@dataclass(frozen=True, slots=True)
class Agreed:
    """What one subscription prices: all its terms, and the first day on which it does not run any more."""

    history: Sequence[Terms]
    anchor: date
    ends_on: date | None


@dataclass(frozen=True, slots=True)
class Unpriced:
    """A meter's quantity over the days of which no price looks at it."""

    meter: str
    quantity: Decimal
    events: int
    days: int
    first_day: date
    last_day: date
    why: Why


def unpriced(agreed: Sequence[Agreed], totals: Totals, asked: Period) -> list[Unpriced]:
    """Of one customer, by meter, over the days asked for. `agreed` are all its subscriptions."""
    stretches = [stretch for one in agreed for stretch in _stretches(one, asked)]
    found: dict[str, dict[date, tuple[Portion, ...]]] = {}
    running: dict[str, list[bool]] = {}
    for (meter, day), portions in sorted(totals.items()):
        plans = [meters for period, meters in stretches if day in period]
        if day in asked and not any(meter in meters for meters in plans):
            found.setdefault(meter, {})[day] = portions
            running.setdefault(meter, []).append(bool(plans))
    return [_summed(meter, days, running[meter]) for meter, days in found.items()]


def _stretches(one: Agreed, asked: Period) -> list[tuple[Period, Collection[str]]]:
    """Its days among those asked for, by the meters that are priced on them."""
    start, end = max(one.anchor, asked.start), min(one.ends_on or asked.end, asked.end)
    if start >= end:
        return []
    return [
        (window.period, {meter for item in window.terms.plan.items for meter in item.meters})
        for window in windows(one.history, Period(start, end))
    ]


def _summed(meter: str, days: dict[date, tuple[Portion, ...]], running: Sequence[bool]) -> Unpriced:
    portions = [portion for some in days.values() for portion in some]
    why: Why = "both" if any(running) and not all(running) else "not_in_plan" if all(running) else "no_subscription"
    return Unpriced(meter, quantity_of(portions), sum(p.events for p in portions), len(days), min(days), max(days), why)
