"""Proration: what a change in the middle of a paid period gives back and charges.

Two lines for each fee that changes: the mirror of the unused part of what was billed, and the charge for the new
part, each rounded directly. Days are whole and local; the day of the change belongs to the new terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from billing.line import Because, Line, discounted
from billing.modifiers import exact
from billing.money import NOTHING, Money, total
from billing.period import Period
from billing.plan import PlanItem, RevenueKind
from billing.pricing import Step
from billing.rating import rate_fixed
from billing.terms import Terms, Window, windows


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
    product: str | None = None


MIRROR = "mirror of the unused part"


def prorate(
    billed: Sequence[BilledFee],
    history: Sequence[Terms],
    after: Terms | None,
    rest: Period,
    whole: Period,
    cause: str,
) -> tuple[Line, ...]:
    """The lines of a change for `rest`, the billed days of the interval `whole` from the change on.

    `billed` is everything charged in advance; `history` are the terms so far; `after` is None when it all ends. Fees
    whose price and quantity stay the same are left alone. `cause` is the id of the amendment and, with the first
    day, makes the keys unique.
    """
    if not rest.days:
        return ()
    cause = f"{cause}/{rest.start}"
    same = _same(windows(history, rest), after) if after else set()
    mirrors = [
        line
        for key in dict.fromkeys(fee.item for fee in billed)
        if key not in same and (line := _mirror([f for f in billed if f.item == key], rest, cause))
    ]
    charges = []
    if after:
        fresh = rate_fixed([*history, after], rest, whole, advance=True)
        charges = [_charge(line, rest, cause) for line in fresh if line.item not in same]
    return (*mirrors, *discounted(charges))


def _charge(line: Line, rest: Period, cause: str) -> Line:
    """A fee of the new terms, from the change on; a one-time fee stays what it is."""
    key = f"charge/{line.item}/{cause}"
    if line.kind == "one_time":
        return replace(line, key=key)
    return replace(line, key=key, kind="proration", description=f"{line.description}, from {rest.start}")


def _same(stretches: Sequence[Window], after: Terms) -> set[str]:
    """Items that cost the same under `after` as in every stretch of terms that it replaces."""
    new = _in_advance(after)
    same = set(new) if stretches else set()
    for before in (window.terms for window in stretches):
        old = _in_advance(before)
        same = {key for key in same & old.keys() if _unchanged(old[key], before, new[key], after)}
    return same


def _in_advance(terms: Terms) -> dict[str, PlanItem]:
    return {item.key: item for item in terms.plan.items if item.advance}


def _unchanged(old: PlanItem, before: Terms, new: PlanItem, after: Terms) -> bool:
    return (
        replace(old, name=new.name, unit=new.unit, origin=new.origin, product=new.product) == new
        and before.coupons == after.coupons
        and before.plan.discounts == after.plan.discounts
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
    steps = tuple(_given_back(fee.gross, fee.period, rest) for fee in reaching)
    unused = sum((step.amount for step in steps), NOTHING)
    discounts = (_given_back(fee.discount, fee.period, rest).amount for fee in reaching)
    discount = -sum(discounts, NOTHING).rounded(currency)
    gross = min(-unused.rounded(currency), total([fee.gross for fee in reaching], currency))
    if not gross:
        return None
    last = next((f for f in reversed(reaching) if f.gross.minor > 0), reaching[-1])
    return Line(
        key=f"mirror/{last.item}/{cause}",
        kind="proration",
        item=last.item,
        description=f"{last.description}, unused from {rest.start}",
        period=rest,
        gross=-gross,
        discount=-discount,
        revenue=last.revenue,
        because=replace(
            last.because,
            share=f"-{rest.days}/{last.period.days}",
            note=MIRROR,
            steps=steps,
            counted=(),
            adjustments=(),
            taken=(),
            exact=exact(unused.value),
        ),
        product=last.product,
    )


def _given_back(billed: Money, period: Period, rest: Period) -> Step:
    """What was billed for `period`, taken back for its days in `rest`."""
    unused = period.overlap(rest)
    label = f"billed for {period}, of which {unused.days} of {period.days} days are unused"
    return Step(billed.major, Decimal(-1), label=label, share=str(unused.share_of(period)))
