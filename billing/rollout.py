"""Roll-outs: on which day a subscription is moved to another plan version, and what that does to its bill.

The bill is worked out twice from the usage of the last whole period, by the functions that billed it: under the terms
that stand and under those it would have. Nothing here knows who is asked to approve, or how a move is carried out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from billing.amending import Change, terms_after
from billing.biller import whole_period
from billing.errors import Fault, Refused
from billing.money import Money, total
from billing.period import Period
from billing.plan import Plan
from billing.standing import Standing
from billing.terms import Terms
from billing.usage import Totals

Audience = Literal["new", "cohort", "renewal", "all"]
GuardAction = Literal["refuse", "hold"]
Outcome = Literal["planned", "held", "refused"]


@dataclass(frozen=True, slots=True)
class Guard:
    """What happens to a subscription whose bill would rise by more than `percent`: it is left, or a person is asked."""

    percent: Decimal
    action: GuardAction


@dataclass(frozen=True, slots=True)
class Judged:
    """The bill of `period` before tax, under the present terms and under the new ones, and what follows from it."""

    period: Period
    before: Money
    after: Money
    outcome: Outcome

    @property
    def words(self) -> str:
        """What the bill does, as people say it."""
        rise = self.after - self.before
        if not rise:
            return f"the bill of {self.period} stays at {self.before}"
        turn = "rises" if rise.minor > 0 else "falls"
        said = f"the bill of {self.period} {turn} from {self.before} to {self.after}"
        if self.before.minor <= 0:
            return said
        whole, tenth = divmod(abs(rise.minor) * 1000 // self.before.minor, 10)
        return f"{said} ({whole}.{tenth}%)"


def judge(standing: Standing, change: Change, totals: Totals, guard: Guard | None, today: date) -> Judged:
    """What `change` would have done to the bill of the last whole period, held against the guard."""
    period = last_whole_period(standing, today)
    before = period_bill(standing, standing.terms, totals, period)
    after = period_bill(standing, terms_after(standing, change), totals, period)
    outcome: Outcome = "planned"
    if guard is not None and rises_beyond(before, after, guard.percent):
        outcome = "held" if guard.action == "hold" else "refused"
    return Judged(period, before, after, outcome)


def period_bill(standing: Standing, terms: Terms, totals: Totals, period: Period) -> Money:
    """What a whole `period` costs before tax, had `terms` held in all of it: its fees and usage, as one invoice.

    One-time fees count where the terms bring them in, and not where the subscription has had them already. Usage of
    the period before, with which these fees share what is taken off their boundary, counts as far as `totals` has it.
    """
    had = {item.key for one in standing.history for item in one.plan.items}
    items = tuple(item for item in terms.plan.items if not (item.price.once and item.key in had))
    version = standing.terms.version + 1
    held = replace(terms, version=version, effective_on=period.start, plan=replace(terms.plan, items=items))
    as_if = replace(standing, history=(*standing.history, held))
    return total([line.net for line in whole_period(as_if, totals, period)], standing.currency)


def last_whole_period(standing: Standing, today: date) -> Period:
    """The last period that has ended by `today`; the first one where none has."""
    number = max(standing.interval.number(standing.anchor, today) - 1, 0)
    start = standing.interval.start(standing.anchor, number)
    return Period(start, standing.interval.start(standing.anchor, number + 1))


def rises_beyond(before: Money, after: Money, percent: Decimal) -> bool:
    """Whether the bill rises by more than `percent`; exactly so much is not more. From nothing, any rise is."""
    return (after - before).minor * 100 > Fraction(percent) * abs(before.minor)


def move_day(audience: Audience, on: date, standing: Standing, today: date) -> date:
    """The day from which the new version holds: at renewal the first period start from `on` on, else `on` itself.

    Never before today, nor before the subscription's first day.
    """
    earliest = max(on, today, standing.anchor)
    if audience != "renewal":
        return earliest
    period = standing.period_at(earliest)
    return earliest if period.start == earliest else period.end


def to_be_moved(answer: str) -> bool:
    """What a person decided about a held move: the first word is `move` or `leave`. Refused if it is neither."""
    word = re.match(r"\s*(move|leave)\b", answer, re.IGNORECASE)
    if word is None:
        fault = Fault("answer", "must begin with the word move or leave; a reason may follow")
        remedy = "Answer `move` or `leave`, and why."
        raise Refused("The answer does not say what to do.", code="unclear_answer", faults=[fault], remedy=remedy)
    return word[1].lower() == "move"


def in_share(name: str, percent: Decimal) -> bool:
    """Whether `name` is among so many percent of all: always the same answer, and who is in 10 is in 20 too."""
    digest = hashlib.sha256(name.encode()).digest()
    return Fraction(int.from_bytes(digest[:8]), 2**64) < Fraction(percent) / 100


def unfit(target: Plan, running: Sequence[tuple[str, str, int]]) -> list[Fault]:
    """Why `target` cannot take over subscriptions that run in these currencies and intervals (unit, count)."""
    found: dict[str, Fault] = {}
    for currency, unit, count in running:
        if currency not in target.currencies:
            said = f"has no prices in {currency}, in which subscriptions run"
            found[currency] = Fault("version", said)
        if (unit, count) != (target.interval.unit, target.interval.count):
            every = f"every {count} {unit}s" if count != 1 else f"each {unit}"
            found[every] = Fault("version", f"is billed at another interval than subscriptions that run {every}")
    return list(found.values())
