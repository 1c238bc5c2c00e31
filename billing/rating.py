"""Rating: terms and quantities in, lines out. Nothing here knows of invoices, tax or payment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from billing.line import Because, Line, share_off
from billing.modifiers import exact, together
from billing.money import MOST_MINOR, Money, refuse_beyond
from billing.period import Period
from billing.plan import PlanItem
from billing.quantity import in_steps
from billing.recipe import WHOLE, Worked, work_out
from billing.terms import Terms, Window, came_into_force, period_of_item, windows
from billing.usage import Measured, Totals, measure, units

# A line keeps what was measured up to so many portions; of more, only how many there were.
MOST_PORTIONS = 500
# The mean of seats is a number with so many decimals, ties away from zero.
MEAN_STEP = Decimal("0.000000001")
NO_PERCENT = Decimal(0)


@dataclass(frozen=True, slots=True)
class ItemWindow:
    """A stretch of days in which one item is counted and priced together, from its first tier.

    `whole` is the billing period in which it lies, `history` all terms of the subscription. `stretches` are its days by
    the terms in force; `terms` are the latest of them.
    """

    item: PlanItem
    terms: Terms
    period: Period
    whole: Period
    history: Sequence[Terms]
    stretches: tuple[Window, ...]

    @property
    def key(self) -> str:
        return f"{self.item.key}/{self.period.start}"

    @property
    def share(self) -> Fraction:
        same = self.period is self.whole or self.period == self.whole
        return WHOLE if same else self.period.share_of(self.whole)

    @property
    def number(self) -> int:
        """Which period of the item it is, from 0: counted from the one in which its key came into force."""
        return period_of_item(self.history, self.item.key, self.whole.start)

    @property
    def named_percents(self) -> list[tuple[str, Decimal]]:
        """What is taken off its lines, in percent, in order, each with its words."""
        return self.terms.percents(self.item.key, self.history, self.whole.start)

    @property
    def percents(self) -> list[Decimal]:
        """The same without words."""
        return [percent for _, percent in self.named_percents]

    def measured(self, totals: Totals, through: Period | None = None) -> Measured:
        """What its meters counted over its days, or over those of them in `through`."""
        days = self.period.overlap(through) if through else self.period
        price = self.item.price
        return measure(totals, self.item.meter or "", days, price.meters(), price.dimensions())


def rate_fixed(history: Sequence[Terms], period: Period, whole: Period, *, advance: bool) -> tuple[Line, ...]:
    """Fees and seats for `period`, a part of the interval `whole`.

    Each stretch of terms is charged by its days, but for one-time fees, which are charged where they come into force,
    and for seats by their peak or mean, which are counted over all stretches together.
    """
    lines: list[Line] = []
    for window in windows(history, period):
        for item in window.terms.plan.items:
            if item.basis == "meter" or item.in_advance != advance or item.seats != "prorated":
                continue
            if not item.price.once:
                lines.append(_fixed_line(ItemWindow(item, window.terms, window.period, whole, history, (window,))))
            elif came_into_force(history, (item.key,)) == window.period.start:
                lines.append(_one_time_line(item, window, history))
    if not advance:
        lines += [_seats_line(w) for w in item_windows(history, period, whole, lambda i: i.seats != "prorated")]
    return tuple(lines)


def _fixed_line(window: ItemWindow) -> Line:
    return rated("recurring", window, units(window.item.quantity(window.terms.seats)))


def _one_time_line(item: PlanItem, window: Window, history: Sequence[Terms]) -> Line:
    day = Period(window.period.start, window.period.start + timedelta(days=1))
    once = ItemWindow(item, window.terms, day, day, history, (window,))
    return rated("one_time", once, units(item.quantity(window.terms.seats)))


def _seats_line(window: ItemWindow) -> Line:
    """Seats by their most or their mean over the days of the window."""
    agreed = [(stretch.period.days, stretch.terms.seats) for stretch in window.stretches]
    if window.item.seats == "peak":
        counted = max(seats for _, seats in agreed)
        note = f"the most seats in {window.period.days} days"
    else:
        mean = sum((Fraction(seats) * days for days, seats in agreed), Fraction(0)) / window.period.days
        counted = Decimal(exact(in_steps(mean, MEAN_STEP, "nearest")))
        note = f"the mean of the seats in {window.period.days} days"
    line = rated("recurring", window, units(counted))
    return replace(line, because=replace(line.because, note=note))


def item_windows(
    history: Sequence[Terms], period: Period, whole: Period, wanted: Callable[[PlanItem], bool]
) -> tuple[ItemWindow, ...]:
    """How the wanted items are counted over `period`, a part of the interval `whole`.

    A change of terms that leaves an item's price as it was does not restart its tiers: adjoining stretches in
    which it costs the same, with the same percentages off, are one window, under the later terms.
    """
    found: dict[str, list[ItemWindow]] = {}
    for window in windows(history, period):
        for item in window.terms.plan.items:
            if not wanted(item):
                continue
            mine = found.setdefault(item.key, [])
            fresh = ItemWindow(item, window.terms, window.period, whole, history, (window,))
            if mine and _goes_on(mine[-1], fresh):
                last = mine.pop()
                days = Period(last.period.start, window.period.end)
                fresh = replace(fresh, period=days, stretches=(*last.stretches, window))
            mine.append(fresh)
    return tuple(w for mine in found.values() for w in mine)


def _goes_on(last: ItemWindow, fresh: ItemWindow) -> bool:
    return last.item.costs_as(fresh.item) and last.period.end == fresh.period.start and last.percents == fresh.percents


def usage_windows(history: Sequence[Terms], period: Period, whole: Period) -> tuple[ItemWindow, ...]:
    """How metered items are counted over `period`, a part of the interval `whole`."""
    return item_windows(history, period, whole, lambda item: item.basis == "meter")


def rated_usage(windows: Sequence[ItemWindow], totals: Totals) -> Iterator[Line]:
    """The metered lines of whole windows; none where there was no usage and the item wants no line then."""
    for window in windows:
        line = rate_usage(window, window.measured(totals))
        if window.item.zero_line or line.gross or line.because.quantity or line.because.events:
            yield line


def rate_usage(window: ItemWindow, used: Measured) -> Line:
    """The metered line of a whole window. Tiers and free units are not cut by days, amounts of money are."""
    return rated("usage", window, used)


def rate_late_usage(window: ItemWindow, used: Measured, before: Decimal, gross: Money, net: Money) -> Line:
    """What usage that arrived after its window was billed adds: the difference of cumulative totals.

    `used` is the window's total by now; `before`, `gross` and `net` (less percentages) are what its earlier lines add
    up to. The discount is such a difference too, so that usage taken back in full gives back exactly what was billed.
    """
    line = rate_usage(window, used)
    return replace(
        line,
        key=f"late/{window.key}/{before}-{used.quantity}",
        kind="late_usage",
        description=f"{line.description} (received after billing)",
        gross=line.gross - gross,
        discount=share_off(line.gross, line.because.discount_percent, line.because.ties) - (gross - net),
        because=replace(line.because, billed_before=gross.minor, quantity_before=before),
    )


def rated(kind: Literal["recurring", "one_time", "usage"], window: ItemWindow, used: Measured) -> Line:
    """The line of an item for what was used. A fee is charged for its share of the period, usage as a whole."""
    item, terms = window.item, window.terms
    cut, number = window.share, window.number
    share = WHOLE if kind == "usage" else cut
    worked = work_out(item, used, share, number, cut)
    gross = worked.amount.rounded(terms.plan.currency, terms.plan.ties)
    if abs(gross.minor) > MOST_MINOR:
        refuse_beyond(gross, _in_words(window, used))
    return Line(
        key=f"{kind}/{window.key}",
        kind=kind,
        item=item.key,
        description=item.name,
        period=window.period,
        gross=gross,
        discount=Money.zero(gross.currency),
        revenue=item.revenue,
        because=_because(window, used, worked, "1" if share is WHOLE else f"{window.period.days}/{window.whole.days}"),
        product=item.product or terms.plan.product,
    )


def _in_words(window: ItemWindow, used: Measured) -> str:
    item, plan = window.item, window.terms.plan
    counted = f"{used.quantity:,f} {item.unit}".rstrip()
    return f"{counted} of the item {item.key!r} of {plan.plan_id} version {plan.version}, {window.period}"


def _because(window: ItemWindow, used: Measured, worked: Worked, share: str) -> Because:
    item, terms = window.item, window.terms
    percents = window.named_percents
    kept = used.portions if item.apart and not used.plain else ()
    return Because(
        terms_version=terms.version,
        plan_id=terms.plan.plan_id,
        plan_version=terms.plan.version,
        price_kind=item.price.kind,
        quantity=used.quantity,
        steps=worked.steps,
        unit=item.unit,
        meter=item.meter,
        share=share,
        discount_percent=together([percent for _, percent in percents]) if percents else NO_PERCENT,
        counted=worked.counted,
        events=used.events if item.meter else 0,
        portions=kept if len(kept) <= MOST_PORTIONS else (),
        portions_left_out=len(kept) if len(kept) > MOST_PORTIONS else 0,
        adjustments=worked.adjustments,
        exact=exact(worked.amount.value),
        number=worked.number,
        note=used.note,
        origin=item.origin,
        percents=tuple(f"{percent:f}% {name}".rstrip() for name, percent in percents) if len(percents) > 1 else (),
        ties=terms.plan.ties,
    )
