"""Terms: what a subscription was sold at, from a day on. They are added, never edited."""

from __future__ import annotations

from collections.abc import Sequence
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

    def number(self, anchor: date, start: date) -> int:
        """Which period of the subscription begins on `start`, from 0."""
        return self.plan.interval.number(anchor, start)

    def percents(self, item: str, anchor: date, start: date) -> list[tuple[str, Decimal]]:
        """The percentages on an item's lines in the period that begins on `start`, each with its words.

        The agreement's own first, then the plan's, then the coupons', each on what is left.
        """
        found = [("by the agreement", self.discount_percent)] if self.discount_percent else []
        if self.plan.discounts or self.coupons:
            off = self.off(anchor, start)
            found += [(d.name, d.value) for d in off if d.kind == "percent" and d.value and d.reduces(item)]
        return found

    def off(self, anchor: date, start: date) -> list[Discount]:
        """The discounts of plan and coupons that hold in the period that begins on `start`, in their order."""
        number = self.number(anchor, start)
        found = [d for d in self.plan.discounts if d.holds(number)]
        for redeemed in self.coupons:
            since = number - self.plan.interval.number(anchor, redeemed.on)
            found += [_in_name_of(redeemed, d) for d in redeemed.coupon.discounts if d.holds(since)]
        return found


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


def in_force(history: Sequence[Terms], day: date) -> Terms:
    """The version in force on `day`; before the first one, the first."""
    past = [terms for terms in history if terms.effective_on <= day]
    return max(past, key=lambda t: t.version) if past else min(history, key=lambda t: t.version)
