"""Proration: what a change in the middle of a paid period gives back and charges.

Two lines for each fee that changes: the mirror of the unused part of what was billed, and the charge for the new
part, each rounded directly. Days are whole and local; the day of the change belongs to the new terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from billing.line import Because, Line, discounted
from billing.money import NOTHING, Amount, Money
from billing.period import Period
from billing.plan import PlanItem, RevenueKind
from billing.rating import rate_fixed
from billing.terms import Terms


@dataclass(frozen=True, slots=True)
class BilledFee:
    """A fee already charged (or given back) in advance for `period`; amounts as on its line."""

    item: str
    description: str
    period: Period
    gross: Money
    discount: Money
    revenue: RevenueKind
    because: Because


def prorate(
    billed: Sequence[BilledFee], before: Terms, after: Terms | None, on: date, whole: Period, cause: str
) -> tuple[Line, ...]:
    """The lines of a change on `on`, inside the billed interval `whole`; `after` is None when it all ends.

    `billed` is everything charged in advance whose period reaches into `whole`; fees whose price and quantity
    stay the same are left alone. `cause` is the id of the amendment and makes the keys unique.
    """
    rest = Period(on, whole.end)
    if not rest.days:
        return ()
    old = {item.key: item for item in before.plan.items if item.basis != "meter" and item.advance}
    new = {item.key: item for item in after.plan.items if item.basis != "meter" and item.advance} if after else {}
    same = {key for key in old.keys() & new.keys() if _unchanged(old[key], before, new[key], after)}
    mirrors = [
        line
        for key in dict.fromkeys(fee.item for fee in billed)
        if key not in same and (line := _mirror([f for f in billed if f.item == key], rest, cause))
    ]
    charges = []
    if after:
        fresh = rate_fixed([replace(after, effective_on=on)], rest, whole, advance=True)
        charges = [
            replace(
                line,
                key=f"charge/{line.item}/{cause}",
                kind="proration",
                description=f"{line.description}, from {on}",
            )
            for line in fresh
            if line.item not in same
        ]
    return (*mirrors, *discounted(charges))


def _unchanged(old: PlanItem, before: Terms, new: PlanItem, after: Terms | None) -> bool:
    return (
        after is not None
        and old.price == new.price
        and old.quantity(before.seats) == new.quantity(after.seats)
        and before.discount_percent == after.discount_percent
        and before.plan.currency == after.plan.currency
    )


def _mirror(fees: Sequence[BilledFee], rest: Period, cause: str) -> Line | None:
    """Gives back the unused part of one item's fees: an exact sum over them, rounded once, never more than is left."""
    reaching = [fee for fee in fees if fee.period.overlap(rest).days]
    if not reaching:
        return None
    currency = reaching[0].gross.currency
    gross = _unused([(f.gross, f.period) for f in reaching], rest).rounded(currency)
    discount = _unused([(f.discount, f.period) for f in reaching], rest).rounded(currency)
    left = sum((f.gross for f in reaching), Money.zero(currency))
    gross = min(gross, left)
    if not gross:
        return None
    last = reaching[-1]
    return Line(
        key=f"mirror/{last.item}/{cause}",
        kind="proration",
        item=last.item,
        description=f"{last.description}, unused from {rest.start}",
        period=rest,
        gross=-gross,
        discount=-discount,
        revenue=last.revenue,
        because=replace(last.because, share=f"-{rest.days}/{last.period.days}", note="mirror of the unused part"),
    )


def _unused(parts: Sequence[tuple[Money, Period]], rest: Period) -> Amount:
    return sum((money.amount.times(period.overlap(rest).share_of(period)) for money, period in parts), NOTHING)
