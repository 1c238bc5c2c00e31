"""Proration: what a change in the middle of a paid period gives back and charges.

Two lines for each fee that changes: the mirror of the unused part of what was billed, and the charge for the new
part, each rounded directly. Days are whole and local; the day of the change belongs to the new terms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from billing.line import Because, Line, Taken, amount_off, discounted
from billing.modifiers import Discount, exact
from billing.money import NOTHING, Amount, Money, total
from billing.period import Period
from billing.plan import PlanItem, RevenueKind
from billing.pricing import Step
from billing.rating import rate_fixed
from billing.terms import Terms, Window, in_force, windows


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

    @classmethod
    def of(cls, line: Line) -> BilledFee:
        return cls(
            line.item,
            line.description,
            line.period,
            line.gross,
            line.discount,
            line.revenue,
            line.because,
            line.product,
        )


MIRROR = "mirror of the unused part"
CREDITED = "credit of all that was billed"


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
    charges: Sequence[Line] = ()
    if after:
        held = [*history, after]
        fresh = rate_fixed(held, rest, whole, advance=True)
        changed = [_charge(line, rest, cause) for line in fresh if line.item not in same]
        holding = after.amounts(held, whole.start)
        charges = _less_what_came_back(discounted(changed), mirrors, holding)
        if rest.start == whole.start:
            charges = _less_new_amounts(charges, holding, in_force(history, rest.start).amounts(history, rest.start))
    return (*mirrors, *charges)


def _charge(line: Line, rest: Period, cause: str) -> Line:
    """A fee of the new terms, from the change on; a one-time fee stays what it is."""
    key = f"charge/{line.item}/{cause}"
    if line.kind == "one_time":
        return replace(line, key=key)
    return replace(line, key=key, kind="proration", description=f"{line.description}, from {rest.start}")


def _less_new_amounts(
    charges: Sequence[Line], holding: Sequence[Discount], given: Sequence[Discount]
) -> Sequence[Line]:
    """On the first day of a period all of it is charged anew: amounts off that were not given at its boundary, are."""
    for discount in (Counter(holding) - Counter(given)).elements():
        if charges:
            off = discount.money(charges[0].gross.currency, charges[0].because.ties)
            charges = amount_off(charges, off, discount.words, discount.on)
    return charges


def _less_what_came_back(
    charges: Sequence[Line], mirrors: Sequence[Line], holding: Sequence[Discount]
) -> Sequence[Line]:
    """Amounts off are given once a period: what mirrors took back of them goes off the new charges, if they hold.

    What was taken back goes to the first discount of that name that reduces the item: a coupon may have several.
    """
    back = [(line.item, taken) for line in mirrors for taken in line.because.taken]
    for discount in holding:
        mine = [(item, taken) for item, taken in back if taken.name == discount.words and discount.reduces(item)]
        back = [one for one in back if one not in mine]
        off = -sum(taken.minor for _, taken in mine)
        if charges and off > 0:
            charges = amount_off(charges, Money(off, charges[0].gross.currency), discount.words, discount.on)
    return charges


def _same(stretches: Sequence[Window], after: Terms) -> set[str]:
    """Items that cost the same under `after` as in every stretch of terms that it replaces."""
    new = _in_advance(after)
    same = set(new) if stretches else set()
    for before in (window.terms for window in stretches):
        old = _in_advance(before)
        same = {key for key in same & old.keys() if _unchanged(old[key], before, new[key], after)}
    return same


def _in_advance(terms: Terms) -> dict[str, PlanItem]:
    return {item.key: item for item in terms.plan.items if item.in_advance}


def _unchanged(old: PlanItem, before: Terms, new: PlanItem, after: Terms) -> bool:
    return (
        old.costs_as(new)
        and before.coupons == after.coupons
        and before.plan.discounts == after.plan.discounts
        and old.quantity(before.seats) == new.quantity(after.seats)
        and before.discount_percent == after.discount_percent
        and before.plan.currency == after.plan.currency
    )


def _mirror(fees: Sequence[BilledFee], rest: Period, cause: str) -> Line | None:
    """Gives back the unused part of one item's fees: an exact sum over them, rounded once, never more than is left.

    What is given back is rounded as what was billed last.
    """
    reaching = [fee for fee in fees if fee.period.overlap(rest).days]
    if not reaching:
        return None
    currency = reaching[0].gross.currency
    steps = tuple(_given_back(fee.gross, fee.period, rest) for fee in reaching)
    unused = sum((step.amount for step in steps), NOTHING)
    discounts = (_given_back(fee.discount, fee.period, rest).amount for fee in reaching)
    last = next((f for f in reversed(reaching) if f.gross.minor > 0), reaching[-1])
    discount = -sum(discounts, NOTHING).rounded(currency, last.because.ties)
    gross = min(-unused.rounded(currency, last.because.ties), total([fee.gross for fee in reaching], currency))
    if not gross:
        return None
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
            taken=_taken_back(reaching, rest),
            exact=exact(unused.value),
        ),
        product=last.product,
    )


def _taken_back(fees: Sequence[BilledFee], rest: Period) -> tuple[Taken, ...]:
    """The part of amounts off, by name, that goes with the unused days."""
    currency, found = fees[0].gross.currency, dict[str, Amount]()
    for fee in fees:
        for taken in fee.because.taken:
            back = _given_back(Money(taken.minor, currency), fee.period, rest).amount
            found[taken.name] = found.get(taken.name, NOTHING) + back
    rounded = {name: back.rounded(currency, fees[-1].because.ties).minor for name, back in found.items()}
    return tuple(Taken(name, minor) for name, minor in rounded.items() if minor)


def _given_back(billed: Money, period: Period, rest: Period) -> Step:
    """What was billed for `period`, taken back for its days in `rest`."""
    unused = period.overlap(rest)
    label = f"billed for {period}, of which {unused.days} of {period.days} days are unused"
    return Step(billed.major, Decimal(-1), label=label, share=str(unused.share_of(period)), counts=False)
