"""Usage earned by a day, billed or not: the promises that are kept as the customer uses the service."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import NamedTuple

from billing.aggregation import ADDITIVE
from billing.ids import derive
from billing.late_usage import billed_periods, late_usage
from billing.line import Line, share_off
from billing.money import Money, total
from billing.period import Period
from billing.plan import PlanItem
from billing.quantity import added_up
from billing.rating import ItemWindow, rate_fixed, rate_usage, usage_windows
from billing.revenue import Obligation, Pattern
from billing.standing import Standing
from billing.terms import Terms, in_force, windows
from billing.usage import BEFORE, Totals, carries_over, measure, provable, stands


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
            known = found.get(promise.obligation_id)
            so_far = known.total if known else total(before, standing.currency)
            promise = replace(promise, total=promise.total + so_far)
        found[promise.obligation_id] = promise
    return tuple(found.values())


def delivered_usage(standing: Standing, totals: Totals, through: date) -> Sequence[Obligation]:
    """Every usage window that has begun by `through`, at the price of what was delivered up to that day.

    Billed windows that are over: what was billed, and of what came late what is to be billed; what is ignored, asked
    about or waived is not earned. Others: rated on the usage up to the day, with the percentage discount of the terms;
    of a window that goes on, what is due without usage counts by its days.
    """
    end = through + timedelta(days=1)
    found: dict[str, Obligation] = {}
    worth: dict[tuple[str, Period], Money] = {(b.item, b.period): b.net for b in standing.usage}
    for line in late_usage(standing, totals).to_be_billed:
        window = (line.item, line.period)
        worth[window] = worth.get(window, Money.zero(standing.currency)) + line.net
    for (item, period), earned in worth.items():
        if period.end <= end:
            promise = _delivered(standing, item, period, earned)
            found[promise.obligation_id] = promise
    for promise in _unbilled(standing, totals, end):
        found.setdefault(promise.obligation_id, promise)
    return tuple(found.values())


def _unbilled(standing: Standing, totals: Totals, end: date) -> Iterator[Obligation]:
    """Every window that has begun by `end` and was not billed by then, at what is earned of it before `end`."""
    stop = min(end, standing.ends_on or end)
    start = min([standing.billed_through("arrears"), *(b.period.start for b in standing.usage if b.period.end > end)])
    while start < stop:
        whole = standing.period_at(start)
        part = Period(start, min(whole.end, standing.ends_on or whole.end))
        for window in usage_windows(standing.history, part, whole):
            if window.period.start < stop:
                so_far = Period(window.period.start, min(window.period.end, stop))
                yield _delivered(standing, window.item.key, window.period, _earned(window, totals, so_far))
        start = whole.end


def _earned(window: ItemWindow, totals: Totals, so_far: Period) -> Money:
    """What is earned of a window by its days so far, never more than they cost and at its end all of that.

    What its price asks without any usage (a minimum, a capacity, a commitment, a first tier's fee) is earned by the
    day; what usage costs beyond it, as delivered. A level is used every day that it stands, so its price is earned by
    the day too.
    """
    by_now = _net(rate_usage(window, window.measured(totals, so_far)))
    if so_far == window.period:
        return by_now
    if stands(totals, window.item.meter or ""):
        promised = by_now
    else:
        without_usage = _net(rate_usage(window, window.measured({})))
        promised = max(Money.zero(by_now.currency), min(without_usage, by_now))
    share = so_far.share_of(window.period)
    return by_now - promised + promised.amount.times(share).rounded(promised.currency, window.terms.plan.ties)


def fees_in_arrears(standing: Standing, through: date) -> Sequence[Obligation]:
    """Fees agreed in arrears whose period has begun by `through` and is not billed: earned by the day all the same."""
    stop = min(through + timedelta(days=1), standing.ends_on or date.max)
    start = standing.billed_through("arrears")
    found: list[Line] = []
    while start < stop:
        whole = standing.period_at(start)
        part = Period(start, min(whole.end, standing.ends_on or whole.end))
        found += rate_fixed(standing.history, part, whole, advance=False)
        start = whole.end
    promises = [replace(obligation_of(standing.subscription_id, line), total=_net(line)) for line in found]
    return [promise for promise in promises if promise.period.start < stop]


def _delivered(standing: Standing, item: str, period: Period, earned: Money) -> Obligation:
    identity = derive("obl", standing.subscription_id, f"usage/{item}/{period.start}")
    return Obligation(identity, "delivered", "usage", earned, period)


def _net(line: Line) -> Money:
    return line.gross - share_off(line.gross, line.because.discount_percent, line.because.ties)


def usage_coverage(standings: Sequence[Standing], totals: Totals, settled: Collection[str] = ()) -> dict[str, Decimal]:
    """By meter: what one customer's lines have invoiced, what waits for an invoice, and what no terms price.

    `standings` are all subscriptions of the customer, for they share its usage. The sums must equal what was folded;
    a period skipped or billed wrongly leaves a difference, and so does late usage of `settled` subscriptions (their
    ids), at which nobody looks any more, unless it is ignored or held. Usage that several items of a subscription price
    counts once; what two subscriptions have billed counts twice, and so leaves a difference. Of a
    meter whose days do not add up, events are counted instead, where the quantity on the lines is what they make.
    """
    found: dict[str, list[Decimal]] = defaultdict(list)
    covered: dict[str, list[Period]] = defaultdict(list)
    for standing in standings:
        mine: dict[str, list[Period]] = defaultdict(list)
        for one in _invoiced(standing, totals, settled):
            if not any(one.period.overlap(other).days for other in mine[one.meter]):
                mine[one.meter].append(one.period)
                found[one.meter].append(_provably(totals, one))
        for meter, periods in mine.items():
            covered[meter] += periods
    missing: set[str] = set()
    for (meter, day), portions in totals.items():
        if any(day in period for period in covered[meter]):
            continue
        if any(_should_be_billed(s, meter, day) for s in standings):
            missing.add(meter)
        else:
            found[meter].append(provable(portions))
    for one in _without_line(standings, totals, settled, missing):
        if one.quantity:
            found[one.meter].append(Decimal(-carries_over(totals, one.meter)))
        elif not any(one.period.overlap(other).days for other in covered[one.meter]):
            covered[one.meter].append(one.period)
            found[one.meter].append(_provably(totals, one))
    return {meter: added_up(quantities) for meter, quantities in found.items()}


class _Invoiced(NamedTuple):
    """A window's quantity, on lines or without any; `by` are the properties that its price tells apart."""

    meter: str
    period: Period
    quantity: Decimal
    by: Collection[str]

    @classmethod
    def of(cls, item: PlanItem, period: Period, quantity: Decimal) -> _Invoiced:
        return cls(item.meter or "", period, quantity, item.price.dimensions())


def _without_line(
    standings: Sequence[Standing], totals: Totals, settled: Collection[str], missing: Collection[str]
) -> Iterator[_Invoiced]:
    """Each window that is billed by the watermark and has no line, with what it came to, of the `missing` meters and
    of those that carry over: of a level there may be no event in it to tell.

    A window whose events come to nothing needs no line, if they came late to one that had none.
    """
    carrying = {meter for meter, day in totals if day == BEFORE}
    for standing in standings if missing or carrying else ():
        lines = _came_late(standing, totals, settled=standing.subscription_id in settled)
        known = [*((b.item, b.period) for b in standing.usage), *((line.item, line.period) for line in lines)]
        for start in billed_periods(standing, totals):
            for window in usage_windows(standing.history, standing.part_at(start), standing.period_at(start)):
                meter, item = window.item.meter or "", window.item.key
                if meter not in missing and meter not in carrying:
                    continue
                if not any(name == item and period.overlap(window.period).days for name, period in known):
                    yield _Invoiced.of(window.item, window.period, window.measured(totals).quantity)


def _provably(totals: Totals, one: _Invoiced) -> Decimal:
    """The invoiced quantity, or the events behind it, if they make it.

    Of a meter that carries over, a period may have no events at all; one too few then says that it is wrong.
    """
    meter, period, invoiced, by = one
    portions = [p for (name, day), some in totals.items() if name == meter and day in period for p in some]
    if carries_over(totals, meter):
        return provable(portions) - int(measure(totals, meter, period).quantity != invoiced)
    if all(p.aggregation in ADDITIVE for p in portions):
        return invoiced
    return provable(portions) if measure(totals, meter, period, by=by).quantity == invoiced else Decimal(0)


def _invoiced(standing: Standing, totals: Totals, settled: Collection[str]) -> list[_Invoiced]:
    """Quantities on lines, with what came late, whatever becomes of it; the longest windows first."""
    late: dict[tuple[str, Period], Decimal] = {}
    items: dict[str, PlanItem] = {}
    for line in _came_late(standing, totals, settled=standing.subscription_id in settled):
        window = (line.item, line.period)
        late[window] = added_up([late.get(window, Decimal(0)), line.quantity])
        [terms] = [terms for terms in standing.history if terms.version == line.because.terms_version]
        items[line.item] = _named(terms, line.item)
    found: list[_Invoiced] = []
    for billed in standing.usage:
        item = _named(in_force(standing.history, billed.period.start), billed.item)
        quantity = added_up([billed.quantity, late.pop((billed.item, billed.period), Decimal(0))])
        found.append(_Invoiced.of(item, billed.period, quantity))
    found += [_Invoiced.of(items[name], period, quantity) for (name, period), quantity in late.items()]
    return sorted(found, key=lambda one: (-one.period.days, one.period, one.meter))


def _named(terms: Terms, key: str) -> PlanItem:
    [item] = [item for item in terms.plan.items if item.key == key]
    return item


def _came_late(standing: Standing, totals: Totals, *, settled: bool) -> tuple[Line, ...]:
    """All late usage that is on no document: ignored, asked about, waived or released; and, if somebody looks at it
    again, to be billed or asked about.
    """
    late = late_usage(standing, totals)
    known = (*late.ignored, *late.released, *standing.set_aside)
    return known if settled else (*known, *late.held, *(line for line in late.lines if line.kind == "late_usage"))


def _should_be_billed(standing: Standing, meter: str, day: date) -> bool:
    """Whether the watermark says that this day's usage has been billed."""
    alive = standing.anchor <= day < min(standing.billed_through("arrears"), standing.ends_on or date.max)
    return alive and any(
        item.meter == meter
        for window in windows(standing.history, Period(day, day + timedelta(days=1)))
        for item in window.terms.plan.items
    )
