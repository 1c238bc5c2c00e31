"""What a subscription has used so far: window by window, beside what was billed of it and what it would cost now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from billing.line import share_off
from billing.money import Money
from billing.period import Period
from billing.rating import ItemWindow, rate_usage, usage_windows
from billing.standing import BilledUsage, Standing
from billing.terms import windows
from billing.usage import Totals


@dataclass(frozen=True, slots=True)
class WindowUsage:
    """A usage window: what its meter counted, what invoices have charged, and what its price makes of it now.

    `net` is after percentages off; amounts off, bounds of the whole plan and tax are left to the invoice.
    """

    item: str
    name: str
    meter: str
    unit: str
    period: Period
    quantity: Decimal
    events: int
    net: Money
    billed_quantity: Decimal
    billed_net: Money


def periods_back(standing: Standing, today: date, many: int) -> list[Period]:
    """The running period, or the last one of a subscription that has ended, and those before it; oldest first."""
    day = max(standing.anchor, min(today, (standing.ends_on or date.max) - timedelta(days=1)))
    found = [standing.period_at(day)]
    while len(found) < many and found[-1].start > standing.anchor:
        found.append(standing.period_at(found[-1].start - timedelta(days=1)))
    return found[::-1]


def metered(standing: Standing) -> tuple[str, ...]:
    """All meters that its items have ever asked, in order."""
    return tuple(sorted({meter for terms in standing.history for item in terms.plan.items for meter in item.meters}))


def metered_days(standing: Standing, meter: str, days: Period) -> list[Period]:
    """Those of the days on which it runs and has an item of the meter: in stretches that do not touch, in order."""
    found: list[Period] = []
    for window in windows(standing.history, days.overlap(standing.life)):
        if any(meter in item.meters for item in window.terms.plan.items):
            touching = found.pop() if found and found[-1].end == window.period.start else window.period
            found.append(Period(touching.start, window.period.end))
    return found


def window_usage(standing: Standing, totals: Totals, periods: list[Period]) -> Iterator[WindowUsage]:
    """Every window of the periods, in order."""
    billed = {(one.item, one.period): one for one in standing.usage}
    for whole in periods:
        part = standing.part_at(whole.start)
        if part.days:
            for window in usage_windows(standing.history, part, whole):
                yield _window(standing, window, totals, billed.get((window.item.key, window.period)))


def _window(standing: Standing, window: ItemWindow, totals: Totals, billed: BilledUsage | None) -> WindowUsage:
    used = window.measured(totals)
    line = rate_usage(window, used)
    because = line.because
    return WindowUsage(
        item=window.item.key,
        name=window.item.name,
        meter=window.item.meter or "",
        unit=window.item.unit,
        period=window.period,
        quantity=used.quantity,
        events=used.events,
        net=line.gross - share_off(line.gross, because.discount_percent, because.ties),
        billed_quantity=billed.quantity if billed else Decimal(0),
        billed_net=billed.net if billed else Money.zero(standing.currency),
    )
