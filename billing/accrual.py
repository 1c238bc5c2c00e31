"""Usage earned by a day, billed or not: the promises that are kept as the customer uses the service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

from billing.biller import late_usage
from billing.ids import derive
from billing.line import Line
from billing.money import Money, total
from billing.period import Period
from billing.rating import Totals, measure, rate_usage, usage_windows
from billing.revenue import Obligation, Pattern
from billing.standing import Standing


def obligation_id(subscription_id: str, line: Line) -> str:
    """Usage of one window is one promise, whichever lines bill it; each other line is its own."""
    key = f"usage/{line.item}/{line.period.start}" if line.revenue == "usage" else line.key
    return derive("obl", subscription_id, key)


def obligation_of(subscription_id: str, line: Line) -> Obligation:
    """The promise behind an invoice line: fees by the day over their period, usage as delivered."""
    pattern: Pattern = "delivered" if line.revenue == "usage" else "ratable"
    return Obligation(obligation_id(subscription_id, line), pattern, line.revenue, line.net, line.period)


def promises_of(standing: Standing, lines: Sequence[Line]) -> tuple[Obligation, ...]:
    """The promises behind an invoice's lines. Usage that was billed before counts on: late lines add to it."""
    found: dict[str, Obligation] = {}
    for line in lines:
        if not line.taxable:
            continue
        promise = obligation_of(standing.subscription_id, line)
        if promise.pattern == "delivered":
            before = [b.net for b in standing.usage if b.item == line.item and b.period == line.period]
            so_far = found[promise.obligation_id].total if promise.obligation_id in found else None
            promise = replace(promise, total=promise.total + (so_far or total(before, standing.currency)))
        found[promise.obligation_id] = promise
    return tuple(found.values())


def delivered_usage(standing: Standing, totals: Totals, through: date) -> Sequence[Obligation]:
    """Every usage window that has begun by `through`, at the price of what was delivered up to that day.

    Billed windows that are over: what was billed, and what came late. Others: rated on the usage up to the day,
    with the percentage discount of the terms.
    """
    end = through + timedelta(days=1)
    found: list[Obligation] = []
    late = late_usage(standing, totals)
    for billed in standing.usage:
        if billed.period.end <= end:
            mine = [_net(x) for x in late if x.item == billed.item and x.period == billed.period]
            found.append(_delivered(standing, billed.item, billed.period, billed.net + total(mine, standing.currency)))
    stop = min(end, standing.ends_on or end)
    start = min([standing.billed_through("arrears"), *(b.period.start for b in standing.usage if b.period.end > end)])
    while start < stop:
        whole = standing.period_at(start)
        for window in usage_windows(
            standing.history, Period(start, max(start, min(whole.end, standing.ends_on or whole.end)))
        ):
            if window.period.start >= stop:
                continue
            so_far = Period(window.period.start, min(window.period.end, stop))
            line = rate_usage(window, measure(totals, window.item.meter or "", so_far))
            found.append(_delivered(standing, window.item.key, window.period, _net(line)))
        start = whole.end
    return found


def _delivered(standing: Standing, item: str, period: Period, earned: Money) -> Obligation:
    identity = derive("obl", standing.subscription_id, f"usage/{item}/{period.start}")
    return Obligation(identity, "delivered", "usage", earned, period)


def _net(line: Line) -> Money:
    off = line.gross.amount.times(Fraction(line.because.discount_percent) / 100).rounded(line.gross.currency)
    return replace(line, discount=off).net


def usage_coverage(standing: Standing, totals: Totals) -> dict[str, Decimal]:
    """By meter: what lines have invoiced, what the next invoice would bill, and what no terms price.

    It must add up to what was folded; a period skipped or billed wrongly leaves a difference.
    """
    found: dict[str, Decimal] = {}

    def add(meter: str, quantity: Decimal) -> None:
        found[meter] = found.get(meter, Decimal(0)) + quantity

    meters = {item.key: item.meter for terms in standing.history for item in terms.plan.items if item.meter}
    for billed in standing.usage:
        add(meters[billed.item], billed.quantity)
    for line in late_usage(standing, totals):
        add(line.because.meter or "", line.quantity)
    first = min([standing.anchor, *(b.period.start for b in standing.usage)])
    open_from = standing.billed_through("arrears")
    priced = set(meters.values())
    for (meter, day), quantity in totals.items():
        outside = day < first or (standing.ends_on is not None and day >= standing.ends_on)
        if meter not in priced or outside or day >= open_from:
            add(meter, quantity)
    return found
