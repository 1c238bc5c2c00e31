"""Terms: what a subscription was sold at, from a day on. They are added, never edited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from billing.errors import Broken
from billing.period import Period
from billing.plan import Plan


@dataclass(frozen=True, slots=True)
class Terms:
    """Version `version` of a subscription's terms, in force from `effective_on` until the next version's day.

    `discount_percent` is 0 to 100 and reduces every recurring and usage line.
    """

    version: int
    effective_on: date
    plan: Plan
    seats: Decimal = Decimal(1)
    discount_percent: Decimal = Decimal(0)


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
    found: list[Window] = []
    end = period.end
    for terms in sorted(history, key=lambda t: t.version, reverse=True):
        start = max(period.start, terms.effective_on)
        if start < end:
            found.append(Window(Period(start, end), terms))
            end = start
    return tuple(reversed(found))


def in_force(history: Sequence[Terms], day: date) -> Terms:
    """The version in force on `day`; before the first one, the first."""
    past = [terms for terms in history if terms.effective_on <= day]
    return max(past, key=lambda t: t.version) if past else min(history, key=lambda t: t.version)
