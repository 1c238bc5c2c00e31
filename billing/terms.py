"""Terms: what a subscription was sold at, from a day on. They are added, never edited."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from billing.errors import Broken
from billing.modifiers import Discount, Redeemed
from billing.period import Period
from billing.plan import Plan


@dataclass(frozen=True, slots=True)
class Terms:
    """Version `version` of a subscription's terms, in force from `effective_on` until the next version's day.

    `plan` is what is priced: the version sold, with its add-ons and the customer's overrides in it.
    `discount_percent` is 0 to 100 and reduces every recurring and usage line.
    """

    version: int
    effective_on: date
    plan: Plan
    seats: Decimal = Decimal(1)
    discount_percent: Decimal = Decimal(0)
    coupons: tuple[Redeemed, ...] = ()

    def percents(self, item: str, history: Sequence[Terms], start: date) -> list[tuple[str, Decimal]]:
        """The percentages on an item's lines in the period that begins on `start`, each with its words.

        The agreement's own first, then the plan's, then the coupons', each on what is left.
        """
        found = [("by the agreement", self.discount_percent)] if self.discount_percent else []
        if self.plan.discounts or self.coupons:
            off = ((d, _nth(history, since, start)) for d, since in self._off(history) if d.kind == "percent")
            found += [(d.name, d.value) for d, number in off if d.value and d.reduces(item) and d.holds(number)]
        return found

    def amounts(self, history: Sequence[Terms], boundary: date) -> list[Discount]:
        """The amounts off of plan and coupons that hold at a boundary of periods, in their order.

        Their periods count from the first boundary at which something can be reduced: what begins to hold inside a
        period whose fees are billed already begins with the next one.
        """
        return [
            discount
            for discount, since in self._off(history)
            if discount.kind == "amount" and discount.holds(_nth(history, _first_boundary(history, since), boundary))
        ]

    def _off(self, history: Sequence[Terms]) -> Iterator[tuple[Discount, date]]:
        """The discounts of plan and coupons, each with the day from whose period on it counts.

        A plan's counts from the subscription's first day, or from when the first of the items that it names came into
        force: an add-on's names the add-on's items.
        """
        for discount in self.plan.discounts:
            yield discount, came_into_force(history, discount.on) if discount.on else first_day(history)
        for redeemed in self.coupons:
            for discount in redeemed.coupon.discounts:
                yield _in_name_of(redeemed, discount), redeemed.on


def _in_name_of(redeemed: Redeemed, discount: Discount) -> Discount:
    name = discount.name or redeemed.coupon.name
    return Discount(discount.kind, discount.value, discount.periods, name, discount.on)


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of days under one version of terms."""

    period: Period
    terms: Terms


def windows(history: Sequence[Terms], period: Period) -> tuple[Window, ...]:
    """The stretches of `period` by the terms in force, oldest first.

    A later version wins from its day on, also over earlier versions with a later day. The day of a change
    belongs to the new terms.
    """
    if not history:
        raise Broken("a subscription without terms")
    if len(history) == 1 and history[0].effective_on <= period.start:
        return (Window(period, history[0]),) if period.days else ()
    found: list[Window] = []
    end = period.end
    for terms in sorted(history, key=lambda t: t.version, reverse=True):
        start = max(period.start, terms.effective_on)
        if start < end:
            found.append(Window(Period(start, end), terms))
            end = start
    return tuple(reversed(found))


def first_day(history: Sequence[Terms]) -> date:
    """The subscription's anchor: the day on which its first terms begin."""
    return min(history, key=lambda t: t.version).effective_on


def came_into_force(history: Sequence[Terms], items: Collection[str]) -> date:
    """The day from which the subscription first had an item of one of these keys; its first day if it has none."""
    anchor = first_day(history)
    if len(history) > 1:
        for window in windows(history, Period(anchor, date.max)):
            if any(item.key in items for item in window.terms.plan.items):
                return window.period.start
    return anchor


def period_of_item(history: Sequence[Terms], item: str, start: date) -> int:
    """Which period since the item came into force begins on `start`, from 0."""
    return _nth(history, came_into_force(history, (item,)), start)


def _nth(history: Sequence[Terms], since: date, start: date) -> int:
    """How many periods after the one in which `since` lies the period of `start` is."""
    interval, anchor = history[0].plan.interval, first_day(history)
    return interval.number(anchor, start) - interval.number(anchor, since)


def _first_boundary(history: Sequence[Terms], since: date) -> date:
    """The first boundary of periods that bills something of what is agreed on `since`.

    It is that day itself, where a period begins in advance on it; else the end of its period.
    """
    terms = in_force(history, since)
    period = terms.plan.interval.period_at(first_day(history), since)
    at_once = period.start == since and any(item.in_advance for item in terms.plan.items)
    return period.start if at_once else period.end


def in_force(history: Sequence[Terms], day: date) -> Terms:
    """The version in force on `day`; before the first one, the first."""
    past = [terms for terms in history if terms.effective_on <= day]
    return max(past, key=lambda t: t.version) if past else min(history, key=lambda t: t.version)
