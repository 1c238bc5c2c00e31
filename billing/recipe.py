"""The recipe of a price, always in this order:

1. convert units and round the quantity; then take off the free allowance and units given as a discount
2. price, by the pricing model
3. the share of the period, where only a part is charged
4. discounts of the price: percentages in the stated order, then amounts
5. minimum and maximum of the price
6. commitment of the price: what is missing, or the factor on what is beyond
7. round, once

Then the same at the next levels, over rounded lines: discounts of agreement, plan and coupons; minimum, maximum and
commitment of the plan; minimum and maximum of the invoice; tax; credits. (Credits pay after tax, docs/CONVENTIONS.md.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from billing.modifiers import Adjustment, Counted, Discount, bounded, exact
from billing.money import Amount
from billing.plan import PlanItem
from billing.portion import Portion
from billing.pricing import Step
from billing.quantity import less, percent_of, product
from billing.usage import Measured, units

WHOLE = Fraction(1)


@dataclass(frozen=True, slots=True)
class Worked:
    """A price worked out for the period of that number: what changed the quantity, the steps, what changed the amount,
    and the exact result.
    """

    number: int
    counted: tuple[Counted, ...]
    steps: tuple[Step, ...]
    adjustments: tuple[Adjustment, ...]
    amount: Amount


def work_out(item: PlanItem, used: Measured, share: Fraction = WHOLE, number: int = 0, cut: Fraction = WHOLE) -> Worked:
    """What `used` costs under the item in the period of that `number` (0 is the item's first).

    `share` is the part of the period for which the price is charged; `cut` the part for which amounts of money (off,
    bounds, commitment) count: usage is charged whole, and its bounds by the days of its window.
    """
    billed, counted = _counted(item, used, number)
    charged = item.price.charge(billed)
    amount = charged.amount
    done: tuple[Adjustment, ...] = ()
    if share is not WHOLE:
        part = amount.times(share)
        done = (Adjustment("share", f"{exact(share)} of the period", exact(part.value - amount.value)),)
        amount = part
    if item.discounts:
        amount, taken = _discounted(amount, item, cut, number)
        done += taken
    if item.has_bounds:
        amount, moved = bounded(amount, item.bounds.cut(cut))
        done += moved
    return Worked(number, counted, charged.steps, done, amount)


def _counted(item: PlanItem, used: Measured, number: int) -> tuple[Measured, tuple[Counted, ...]]:
    """What is priced, and how the measured quantity became that."""
    done: list[Counted] = []
    if item.convert:
        used = _converted(item, used)
        done.append(Counted(item.convert.words, used.quantity))
    if not item.free and not item.discounts:
        return used, tuple(done)
    quantity = used.quantity
    for discount in (Discount("units", item.free, name=f"{item.free:,f} free"), *item.discounts):
        if quantity > 0 and discount.kind.startswith("units") and discount.value and discount.holds(number):
            share = percent_of(discount.value, quantity)
            quantity = less(quantity, min(quantity, share if discount.kind == "units_percent" else discount.value))
            done.append(Counted(discount.words, quantity))
    return (used if quantity == used.quantity else units(quantity, used.events)), tuple(done)


def _converted(item: PlanItem, used: Measured) -> Measured:
    """Where only the sum counts it is converted and rounded as one, else each portion is."""
    assert item.convert is not None
    if item.apart:
        return Measured(tuple(_portion(item, portion) for portion in used.portions))
    return units(item.convert.of(used.quantity), used.events)


def _portion(item: PlanItem, portion: Portion) -> Portion:
    if portion.meter or item.convert is None:
        return portion
    if portion.each is None:
        return replace(portion, quantity=item.convert.of(portion.quantity))
    each = item.convert.of(portion.each)
    return replace(portion, each=each, quantity=product(each, Decimal(portion.events)))


def _discounted(amount: Amount, item: PlanItem, cut: Fraction, number: int) -> tuple[Amount, tuple[Adjustment, ...]]:
    done: list[Adjustment] = []
    for discount in in_order(item.discounts):
        if not discount.holds(number) or discount.kind not in ("percent", "amount"):
            continue
        off = off_amount(discount, amount, cut)
        done.append(Adjustment("percent" if discount.kind == "percent" else "amount", discount.words, exact(-off)))
        amount = Amount(amount.value - off)
    return amount, tuple(done)


def off_amount(discount: Discount, amount: Amount, cut: Fraction) -> Fraction:
    """What a discount takes off an exact amount; amounts never below zero."""
    if discount.kind == "percent":
        return amount.value * Fraction(discount.value) / 100
    return max(Fraction(0), min(Fraction(discount.value) * cut, amount.value))


def in_order(discounts: tuple[Discount, ...]) -> list[Discount]:
    """Percentages first, then amounts, each in the stated order."""
    return sorted(discounts, key=lambda discount: discount.kind != "percent")
