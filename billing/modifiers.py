"""What changes a price after it is worked out: discounts, a minimum and a maximum, a commitment. And the coupon.

Each stands at one of three levels, and at each level in the same order (billing/recipe.py): at a price, at a plan,
at the invoice. Amounts are in units of the plan's currency and belong to a whole period; of a part of a period they
count by its days.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from billing.errors import Fault
from billing.money import Amount, Money, Ties
from billing.pricing.charged import is_price
from billing.quantity import decimal_places, product

DiscountKind = Literal["percent", "amount", "units", "units_percent"]


@dataclass(frozen=True, slots=True)
class Discount:
    """`value` percent or currency units off the price, or units or percent of units off the quantity.

    It holds in the first `periods` periods (1 is once), or for ever. Percentages come before amounts, each kind in the
    stated order; nothing falls below zero by a discount. At a plan or in a coupon it reduces the items named in `on`,
    or all; units cannot be taken off there.
    """

    kind: DiscountKind
    value: Decimal
    periods: int | None = None
    name: str = ""
    on: tuple[str, ...] = ()

    def holds(self, number: int) -> bool:
        """Whether it holds in the period of that number, counted from 0."""
        return number >= 0 and (self.periods is None or number < self.periods)

    def reduces(self, item: str) -> bool:
        return not self.on or item in self.on

    def times(self, count: Decimal) -> Discount:
        """So many times an amount or units; a percentage stays what it is."""
        return replace(self, value=product(self.value, count)) if self.kind in ("amount", "units") else self

    def money(self, currency: str, ties: Ties) -> Money:
        """An amount off, as money."""
        return Amount(Fraction(self.value)).rounded(currency, ties)

    @property
    def words(self) -> str:
        said = {
            "percent": f"{self.value:f}% discount",
            "amount": f"{self.value:f} off",
            "units": f"{self.value:,f} units off",
            "units_percent": f"{self.value:f}% of the units off",
        }
        return self.name or said[self.kind]


@dataclass(frozen=True, slots=True)
class Commitment:
    """An agreed spend per period. What goes beyond it costs `overage_factor` times the price.

    With `true_up`, what is missing at the end of the period is charged; without, only the factor counts.
    """

    amount: Decimal
    overage_factor: Decimal = Decimal(1)
    true_up: bool = True


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least and the most that is charged for a period, and a commitment; None is without."""

    minimum: Decimal | None = None
    maximum: Decimal | None = None
    commitment: Commitment | None = None

    def times(self, count: Decimal) -> Bounds:
        """All of them so many times."""
        agreed = self.commitment
        return Bounds(
            None if self.minimum is None else product(self.minimum, count),
            None if self.maximum is None else product(self.maximum, count),
            None if agreed is None else replace(agreed, amount=product(agreed.amount, count)),
        )

    def cut(self, share: Fraction) -> Limits:
        """What they come to for a share of the period."""
        agreed = self.commitment
        return Limits(
            None if self.minimum is None else Fraction(self.minimum) * share,
            None if self.maximum is None else Fraction(self.maximum) * share,
            None if agreed is None else Fraction(agreed.amount) * share,
            agreed or Commitment(Decimal(0)),
        )


NO_BOUNDS = Bounds()


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for a stretch of days, exact: the least, the most, and the spend agreed on in the commitment's manner."""

    minimum: Fraction | None
    maximum: Fraction | None
    agreed: Fraction | None
    commitment: Commitment


@dataclass(frozen=True, slots=True)
class Coupon:
    """A promise of discounts that subscriptions redeem until `redeem_by` (included), `most` of them if stated."""

    coupon_id: str
    name: str
    discounts: tuple[Discount, ...]
    currency: str | None = None
    redeem_by: date | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Redeemed:
    """A coupon as a subscription redeemed it. Percentages count their periods from the one in which `on` lies, amounts
    from the first boundary of periods from `on` on.
    """

    coupon: Coupon
    on: date


@dataclass(frozen=True, slots=True)
class Counted:
    """One change of a quantity before it is priced, and the quantity after it."""

    label: str
    quantity: Decimal


AdjustmentKind = Literal["share", "percent", "amount", "minimum", "maximum", "commitment", "overage"]


@dataclass(frozen=True, slots=True)
class Adjustment:
    """One change of an amount: `amount` currency units, exact, as a decimal or a fraction in text."""

    kind: AdjustmentKind
    label: str
    amount: str


def bounded(amount: Amount, limits: Limits) -> tuple[Amount, tuple[Adjustment, ...]]:
    """The amount within its bounds, then what the commitment adds."""
    done: list[Adjustment] = []

    def moved(kind: AdjustmentKind, label: str, to: Fraction) -> Amount:
        done.append(Adjustment(kind, label, exact(to - amount.value)))
        return Amount(to)

    if limits.minimum is not None and amount.value < limits.minimum:
        amount = moved("minimum", f"minimum of {exact(limits.minimum)}", limits.minimum)
    if limits.maximum is not None and amount.value > limits.maximum:
        amount = moved("maximum", f"maximum of {exact(limits.maximum)}", limits.maximum)
    if (agreed := limits.agreed) is not None:
        factor = limits.commitment.overage_factor
        if amount.value < agreed and limits.commitment.true_up:
            amount = moved("commitment", f"commitment of {exact(agreed)}", agreed)
        elif amount.value > agreed and factor != 1:
            label = f"{factor:f} times what is beyond {exact(agreed)}"
            amount = moved("overage", label, agreed + (amount.value - agreed) * Fraction(factor))
    return amount, tuple(done)


def exact(value: Fraction) -> str:
    """The number in text without loss: decimals where they end, else a fraction."""
    places = decimal_places(value)
    if places == 0:
        return str(value.numerator)
    if places is None:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def together(percents: Sequence[Decimal]) -> Decimal:
    """Several percentages, one after the other, as one: 10% and then 20% are 28%."""
    if len(percents) == 1:
        return percents[0]
    left = Fraction(1)
    for percent in percents:
        left *= 1 - Fraction(percent) / 100
    return Decimal(exact((1 - left) * 100))


def wrong_discounts(discounts: Sequence[Discount], *, units: bool, where: str = "discounts") -> list[Fault]:
    """Faults of discounts; `units` says whether units may be taken off here."""
    found: list[Fault] = []
    for i, one in enumerate(discounts):
        at = f"{where}.{i}"
        percent = one.kind in ("percent", "units_percent")
        if not is_price(one.value) or (percent and one.value > 100):
            found.append(Fault(f"{at}.value", "must be from 0 to 100" if percent else "must not be negative"))
        if one.periods is not None and one.periods < 1:
            found.append(Fault(f"{at}.periods", "must be at least 1, or left out for ever"))
        if not units and one.kind.startswith("units"):
            found.append(Fault(f"{at}.kind", "units can only be taken off at a price"))
        if units and one.on:
            found.append(Fault(f"{at}.on", "a discount at a price reduces that price"))
    return found


def wrong_bounds(bounds: Bounds) -> list[Fault]:
    found = [
        Fault(name, "must be a number, and not negative")
        for name in ("minimum", "maximum")
        if (value := getattr(bounds, name)) is not None and not is_price(value)
    ]
    if not found and bounds.minimum is not None and bounds.maximum is not None and bounds.maximum < bounds.minimum:
        found.append(Fault("maximum", f"must not be below the minimum, {bounds.minimum}"))
    if commitment := bounds.commitment:
        if not is_price(commitment.amount):
            found.append(Fault("commitment.amount", "must be a number, and not negative"))
        if not is_price(commitment.overage_factor):
            found.append(Fault("commitment.overage_factor", "must be a number, and not negative"))
    return found
