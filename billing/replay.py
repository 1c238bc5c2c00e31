"""Replay: a stored line worked out again from what is stored, to the same minor units; or the first difference.

Twice over: from what was measured and the version that was sold to the steps, and from the steps to the money. What
a line takes from other lines (a mirror, a plan's minimum) is replayed from its own steps only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction

from billing.line import Because, Line, discounted
from billing.money import NOTHING, Money
from billing.proration import CREDITED, MIRROR
from billing.rating import ItemWindow, rated
from billing.standing import Standing
from billing.terms import Terms


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a line, worked out again, first differs from what is stored."""

    where: str
    stored: str
    replayed: str


def replay(line: Line, standing: Standing) -> Difference | None:
    """The first difference of one line; None if it comes out as it is stored."""
    if line.kind == "credit_purchase":
        return None
    return next((d for d in (*_price(line, standing), *_arithmetic(line)) if d), None)


def replay_discounts(lines: Sequence[Line], standing: Standing) -> dict[str, Difference]:
    """By key: lines whose part of a percentage comes out differently; it is rounded once for a boundary."""
    fresh = [line for line in lines if line.kind in ("recurring", "usage", "one_time")]
    groups: dict[date, list[Line]] = {}
    for line in fresh:
        plain = replace(line, discount=Money.zero(line.gross.currency))
        groups.setdefault(_boundary(line, standing), []).append(plain)
    again = {line.key: line.discount for group in groups.values() for line in discounted(group)}
    return {
        line.key: Difference("discount", str(line.discount - line.amounts_off), str(again[line.key]))
        for line in fresh
        if line.discount - line.amounts_off != again[line.key]
    }


def _boundary(line: Line, standing: Standing) -> date:
    """On which day it fell due: in advance when its period began, in arrears when it was over."""
    whole = standing.period_at(line.period.start)
    terms = _sold_under(line, standing)
    in_advance = terms and any(item.in_advance for item in terms.plan.items if item.key == line.item)
    return whole.start if in_advance else whole.end


def _sold_under(line: Line, standing: Standing) -> Terms | None:
    return next((t for t in standing.history if t.version == line.because.terms_version), None)


def _price(line: Line, standing: Standing) -> Iterator[Difference | None]:
    """From what was measured to the steps, by the price of the version that was sold."""
    why = line.because
    if line.kind == "true_up" or why.note in (MIRROR, CREDITED):
        return
    terms = _sold_under(line, standing)
    if terms is None or (terms.plan.plan_id, terms.plan.version) != (why.plan_id, why.plan_version):
        sold = f"{terms.plan.plan_id} version {terms.plan.version}" if terms else "nothing"
        yield Difference("price version", f"{why.plan_id} version {why.plan_version}", sold)
        return
    item = next((item for item in terms.plan.items if item.key == line.item), None)
    if item is None:
        yield Difference("item", line.item, "not in the plan")
        return
    if why.portions_left_out:
        return
    whole = line.period if item.price.once else standing.period_at(line.period.start)
    window = ItemWindow(item, terms, line.period, whole, standing.history, ())
    again = rated("usage" if item.meter else "recurring", window, why.measured).because
    yield from _same_because(why, again)


def _same_because(stored: Because, again: Because) -> Iterator[Difference | None]:
    """Field by field, in the order of the recipe."""
    yield from _each("quantity", stored.counted, again.counted)
    yield from _each("step", stored.steps, again.steps)
    yield from _each("adjustment", stored.adjustments, again.adjustments)
    yield _unequal("exact amount", stored.exact, again.exact)
    yield _unequal("ties", stored.ties, again.ties)
    yield _unequal("discount percent", stored.discount_percent, again.discount_percent)


def _each(what: str, stored: Sequence[object], again: Sequence[object]) -> Iterator[Difference | None]:
    for no, (one, other) in enumerate(zip(stored, again, strict=False), 1):
        yield _unequal(f"{what} {no}", one, other)
    yield _unequal(f"number of {what}s", len(stored), len(again))


def _unequal(where: str, stored: object, again: object) -> Difference | None:
    return None if stored == again else Difference(where, str(stored), str(again))


def _arithmetic(line: Line) -> Iterator[Difference | None]:
    """From the steps to the money, as a reader of the line would add up."""
    why = line.because
    if line.kind != "true_up":
        steps = sum((step.amount for step in why.steps), NOTHING).value
        adjusted = steps + sum((Fraction(change.amount) for change in why.adjustments), Fraction(0))
        yield _unequal("sum of the steps", Fraction(why.exact or 0), adjusted)
    before = Money(why.billed_before, line.gross.currency)
    rounded = why.rounded_from.rounded(line.gross.currency, why.ties)
    if line.kind != "true_up" and why.note != MIRROR:
        yield _unequal("rounded amount", line.gross + before, rounded)
    elif why.note == MIRROR:
        yield _unequal("rounded amount", max(line.gross, rounded), line.gross)
