"""Invoice lines: an amount of money that can say why it is so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from itertools import groupby
from typing import Literal

from billing.modifiers import Adjustment, Counted
from billing.money import Amount, Money, Ties, split, total
from billing.period import Period
from billing.plan import RevenueKind
from billing.portion import Portion
from billing.pricing import Step
from billing.quantity import less
from billing.usage import Measured, units

LineKind = Literal["recurring", "usage", "late_usage", "one_time", "proration", "true_up", "credit_purchase"]


@dataclass(frozen=True, slots=True)
class Taken:
    """What an amount off took of this line, in minor units; `name` is the coupon's or the plan's word for it."""

    name: str
    minor: int


@dataclass(frozen=True, slots=True)
class Because:
    """Everything a line was computed from, so that it can be explained and computed again (billing/replay.py).

    `quantity` is what was measured, `counted` how it became what was priced. `steps` add up to the
    price, `adjustments` lead from there to `exact`, the amount before it was rounded. `portions` is what was measured,
    where more than the sum counts. `share` is the part of the period that was charged, as 'days/days', `number` which
    period of the item it was, from 0. `billed_before` and `quantity_before` are what earlier lines already
    charged for the same usage, in minor units and in quantity. `percents` are what `discount_percent` is made of, in
    words, where there are several. `taken` are amounts off, in `discount` of the line. `ties` says
    where half a minor unit was rounded to, in the price and in the discount.
    """

    terms_version: int
    plan_id: str
    plan_version: int
    price_kind: str
    quantity: Decimal
    steps: tuple[Step, ...] = ()
    unit: str = ""
    meter: str | None = None
    share: str = "1"
    discount_percent: Decimal = Decimal(0)
    billed_before: int = 0
    quantity_before: Decimal = Decimal(0)
    note: str = ""
    counted: tuple[Counted, ...] = ()
    events: int = 0
    portions: tuple[Portion, ...] = ()
    portions_left_out: int = 0
    adjustments: tuple[Adjustment, ...] = ()
    exact: str = ""
    number: int = 0
    origin: str = ""
    percents: tuple[str, ...] = ()
    taken: tuple[Taken, ...] = ()
    ties: Ties = "away_from_zero"

    @property
    def measured(self) -> Measured:
        """What the price was asked with."""
        return Measured(self.portions) if self.portions else units(self.quantity, self.events if self.meter else 1)

    @property
    def rounded_from(self) -> Amount:
        """The exact amount that the line's price came to."""
        return Amount(Fraction(self.exact or 0))


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `gross` is rounded once; `discount` is what is taken off it (same sign); `net` is what counts."""

    key: str
    kind: LineKind
    item: str
    description: str
    period: Period
    gross: Money
    discount: Money
    revenue: RevenueKind
    because: Because
    product: str | None = None

    @property
    def net(self) -> Money:
        return self.gross - self.discount

    @property
    def quantity(self) -> Decimal:
        """What this line adds to the quantities invoiced before."""
        return less(self.because.quantity, self.because.quantity_before)

    @property
    def taxable(self) -> bool:
        """Buying prepaid credits is no supply yet; everything else is."""
        return self.kind != "credit_purchase"

    @property
    def amounts_off(self) -> Money:
        """The part of the discount that is no percentage."""
        return Money(sum(taken.minor for taken in self.because.taken), self.gross.currency)


def discounted(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Each group of lines with one discount percentage, reduced by it: rounded once, spread exactly by gross.

    Charges and what is given back are groups of their own, each the mirror of the other. Only lines that have no
    discount of their own yet come here.
    """
    done: dict[str, Line] = {}
    reduced = [line for line in lines if line.gross and line.because.discount_percent]
    for (percent, _, ties), group in groupby(sorted(reduced, key=_discount_group), key=_discount_group):
        members = list(group)
        off = share_off(total([line.gross for line in members], members[0].gross.currency), percent, ties)
        for line, share in zip(members, split(off, [abs(line.gross.minor) for line in members]), strict=True):
            done[line.key] = replace(line, discount=share)
    return tuple(done.get(line.key, line) for line in lines)


def _discount_group(line: Line) -> tuple[Decimal, bool, Ties]:
    return line.because.discount_percent, line.gross.minor < 0, line.because.ties


def share_off(gross: Money, percent: Decimal, ties: Ties = "away_from_zero") -> Money:
    """What `percent` takes off `gross`, rounded once; same sign."""
    return gross.amount.times(Fraction(percent) / 100).rounded(gross.currency, ties)


def amount_off(lines: Sequence[Line], off: Money, name: str, on: Sequence[str] = ()) -> tuple[Line, ...]:
    """The lines with an amount taken off, spread exactly by what is left of each charge, and never more than that.

    `on` names the items that are reduced; all of them if it is empty.
    """
    reduced = [line for line in lines if line.net.minor > 0 and (not on or line.item in on)]
    if not reduced:
        return tuple(lines)
    left = total([line.net for line in reduced], off.currency)
    shares = split(min(off, left), [line.net.minor for line in reduced])
    done = {line.key: with_off(line, share, name) for line, share in zip(reduced, shares, strict=True)}
    return tuple(done.get(line.key, line) for line in lines)


def with_off(line: Line, off: Money, name: str) -> Line:
    """The line with an amount taken off; a negative one is taken back."""
    taken = (*line.because.taken, Taken(name, off.minor))
    return replace(line, discount=line.discount + off, because=replace(line.because, taken=taken))
