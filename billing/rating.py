"""Rating: terms and quantities in, lines out. Nothing here knows of invoices, tax or payment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from billing.line import Because, Line, share_off
from billing.money import Money
from billing.period import Period
from billing.plan import PlanItem
from billing.pricing import Step
from billing.quantity import added_up
from billing.terms import Terms, Window, windows

# Folded usage of one customer: (meter, local day) to quantity.
Totals = Mapping[tuple[str, date], Decimal]


@dataclass(frozen=True, slots=True)
class UsageWindow:
    """A stretch of days in which one metered item is counted and priced together, from its first tier."""

    item: PlanItem
    terms: Terms
    period: Period

    @property
    def key(self) -> str:
        return f"{self.item.key}/{self.period.start}"


def rate_fixed(history: Sequence[Terms], period: Period, whole: Period, *, advance: bool) -> tuple[Line, ...]:
    """Fees and seats for `period`, a part of the interval `whole`, each stretch of terms by its days."""
    return tuple(
        _fixed_line(item, window, whole)
        for window in windows(history, period)
        for item in window.terms.plan.items
        if item.basis != "meter" and item.advance == advance
    )


def _fixed_line(item: PlanItem, window: Window, whole: Period) -> Line:
    terms = window.terms
    quantity = item.quantity(terms.seats)
    charged = item.price.charge(quantity)
    gross = charged.amount.times(window.period.share_of(whole)).rounded(terms.plan.currency)
    because = _because(item, terms, quantity, charged.steps)
    if window.period != whole:
        because = replace(because, share=f"{window.period.days}/{whole.days}")
    return Line(
        key=f"recurring/{item.key}/{window.period.start}",
        kind="recurring",
        item=item.key,
        description=item.name,
        period=window.period,
        gross=gross,
        discount=Money.zero(gross.currency),
        revenue=item.revenue,
        because=because,
    )


def usage_windows(history: Sequence[Terms], period: Period) -> tuple[UsageWindow, ...]:
    """How metered items are counted over `period`.

    A change of terms that leaves an item's price as it was does not restart its tiers: adjoining stretches with
    equal item and discount are one window, under the later terms.
    """
    found: dict[str, list[UsageWindow]] = {}
    for window in windows(history, period):
        for item in window.terms.plan.items:
            if item.basis != "meter":
                continue
            mine = found.setdefault(item.key, [])
            last = mine[-1] if mine else None
            if (
                last
                and last.item == item
                and last.period.end == window.period.start
                and last.terms.discount_percent == window.terms.discount_percent
            ):
                mine[-1] = UsageWindow(item, window.terms, Period(last.period.start, window.period.end))
            else:
                mine.append(UsageWindow(item, window.terms, window.period))
    return tuple(w for mine in found.values() for w in mine)


def measure(totals: Totals, meter: str, period: Period) -> Decimal:
    """The meter's quantity over the days of `period`."""
    return added_up(q for (name, day), q in totals.items() if name == meter and day in period)


def rate_usage(window: UsageWindow, quantity: Decimal) -> Line:
    """The metered line of a whole window."""
    item, terms = window.item, window.terms
    charged = item.price.charge(quantity)
    gross = charged.amount.rounded(terms.plan.currency)
    return Line(
        key=f"usage/{window.key}",
        kind="usage",
        item=item.key,
        description=item.name,
        period=window.period,
        gross=gross,
        discount=Money.zero(gross.currency),
        revenue=item.revenue,
        because=_because(item, terms, quantity, charged.steps),
    )


def rate_late_usage(window: UsageWindow, quantity: Decimal, before: Decimal, gross: Money, net: Money) -> Line:
    """What usage that arrived after its window was billed adds: the difference of cumulative totals.

    `quantity` is the window's total by now; `before`, `gross` and `net` are what its earlier lines add up to. The
    discount is such a difference too, so that usage taken back in full gives back exactly what was billed.
    """
    line = rate_usage(window, quantity)
    return replace(
        line,
        key=f"late/{window.key}/{before}-{quantity}",
        kind="late_usage",
        description=f"{line.description} (received after billing)",
        gross=line.gross - gross,
        discount=share_off(line.gross, line.because.discount_percent) - (gross - net),
        because=replace(line.because, billed_before=gross.minor, quantity_before=before),
    )


def _because(item: PlanItem, terms: Terms, quantity: Decimal, steps: tuple[Step, ...]) -> Because:
    return Because(
        terms_version=terms.version,
        plan_id=terms.plan.plan_id,
        plan_version=terms.plan.version,
        price_kind=item.price.kind,
        quantity=quantity,
        steps=steps,
        unit=item.unit,
        meter=item.meter,
        discount_percent=terms.discount_percent,
    )
