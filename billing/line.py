"""Invoice lines: an amount of money that can say why it is so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from itertools import groupby
from typing import Literal

from billing.money import Money, split, total
from billing.period import Period
from billing.plan import RevenueKind
from billing.pricing import Step
from billing.quantity import less

LineKind = Literal["recurring", "usage", "late_usage", "proration", "credit_purchase"]


@dataclass(frozen=True, slots=True)
class Because:
    """Everything a line was computed from, so that it can be explained and computed again.

    `share` is the part of the period that was charged, as 'days/days'. `billed_before` and
    `quantity_before` are what earlier lines already charged for the same usage, in minor units and in quantity.
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


def discounted(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Each group of lines with one discount percentage, reduced by it: rounded once, spread exactly by gross.

    Charges and what is given back are groups of their own, each the mirror of the other. Only lines that have no
    discount of their own yet come here.
    """
    done: dict[str, Line] = {}
    reduced = [line for line in lines if line.gross and line.because.discount_percent]
    for (percent, _), group in groupby(sorted(reduced, key=_discount_group), key=_discount_group):
        members = list(group)
        off = share_off(total([line.gross for line in members], members[0].gross.currency), percent)
        for line, share in zip(members, split(off, [abs(line.gross.minor) for line in members]), strict=True):
            done[line.key] = replace(line, discount=share)
    return tuple(done.get(line.key, line) for line in lines)


def _discount_group(line: Line) -> tuple[Decimal, bool]:
    return line.because.discount_percent, line.gross.minor < 0


def share_off(gross: Money, percent: Decimal) -> Money:
    """What `percent` takes off `gross`, rounded once; same sign."""
    return gross.amount.times(Fraction(percent) / 100).rounded(gross.currency)
