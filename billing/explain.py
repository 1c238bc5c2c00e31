"""A line's `because` in words: each step of the arithmetic, so that a person can follow it with a pencil."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

from billing.line import Because
from billing.modifiers import Adjustment, exact
from billing.money import Money
from billing.pricing import Step
from billing.quantity import decimal_of, in_steps


def explain(why: Because, gross: Money, discount: Money) -> list[str]:
    """The steps from quantity to money, in the order of the recipe (billing/recipe.py)."""
    return [
        *_sold(why),
        *_quantity(why),
        *_price(why, gross.currency),
        *_rounding(why, gross),
        *_off(why, gross, discount),
    ]


def within(why: Because) -> list[str]:
    """The discounts of the price itself, which are in the gross amount already: each percentage, each amount."""
    amount = sum((step.amount.value for step in why.steps), Fraction(0))
    said: list[str] = []
    for change in why.adjustments:
        if change.kind in ("percent", "amount"):
            said.append(_percent(change, amount) or _exactly(-Fraction(change.amount)))
        amount += Fraction(change.amount)
    return said


def _percent(change: Adjustment, before: Fraction) -> str:
    """How many percent a percentage took off; a discount that has a name does not say so itself."""
    if change.kind != "percent" or not before:
        return ""
    return f"{_exactly(-Fraction(change.amount) / before * 100)}%"


def _sold(why: Because) -> Iterator[str]:
    origin = f", from {why.origin}" if why.origin else ""
    yield f"Terms version {why.terms_version}: plan {why.plan_id}, version {why.plan_version}{origin}."


def _quantity(why: Because) -> Iterator[str]:
    if why.meter:
        events = f" in {why.events:,} event{'s' if why.events > 1 else ''}" if why.events else ""
        yield f"Meter {why.meter}: {_counted(why.quantity, why.unit)}{events}."
    for change in why.counted:
        yield f"Quantity {change.label}: {_counted(change.quantity, why.unit)}."


def _price(why: Because, currency: str) -> Iterator[str]:
    amount = Fraction(0)
    for step in why.steps:
        yield _step(step, why.unit, currency)
        amount += step.amount.value
    if len(why.steps) > 1:
        yield f"Together {_exactly(amount)}."
    for change in why.adjustments:
        percent = _percent(change, amount)
        label = change.label[:1].upper() + change.label[1:]
        named = f"{label} ({percent})" if percent and "%" not in label else label
        amount += Fraction(change.amount)
        yield f"{named}: {_signed(change.amount)}, makes {_exactly(amount)}."
    if why.share != "1" and not why.share.startswith("-"):
        yield f"Share of the period: {why.share} days."


def _step(step: Step, unit: str, currency: str) -> str:
    label = f"{step.label[:1].upper()}{step.label[1:]}: " if step.label else ""
    flat = f" plus a flat {_number(step.flat_fee)}" if step.flat_fee else ""
    share = f", of which {step.share}," if step.share != "1" else ""
    if step.unit_price == -1 and not step.counts:
        priced = f"{_number(step.quantity)} {currency} given back"
    else:
        priced = f"{_counted(step.quantity, unit if step.counts else '')} at {_number(step.unit_price)} {currency}"
    return f"{label}{priced}{flat}{share} = {_exactly(step.amount.value)}."


def _rounding(why: Because, gross: Money) -> Iterator[str]:
    before = Money(why.billed_before, gross.currency)
    if why.exact:
        whole = gross + before
        rest = why.rounded_from.value - whole.amount.value
        yield f"Rounded once to the currency's minor unit: {whole}" + (
            f"; the difference is {_exactly(-rest)}." if rest else "."
        )
    if why.billed_before or why.quantity_before:
        of_usage = f"{_number(why.quantity_before)} for " if why.quantity_before else ""
        yield f"Already billed: {of_usage}{before}; this line is the difference, {gross}."


def _off(why: Because, gross: Money, discount: Money) -> Iterator[str]:
    taken = Money(sum(one.minor for one in why.taken), gross.currency)
    if discount - taken:
        left = gross - (discount - taken)
        if why.percents:
            yield f"Discounts: {', then '.join(why.percents)}; together {_number(why.discount_percent)}%."
        yield f"Less {_number(why.discount_percent)}% discount: {discount - taken}; leaves {left}."
    for one in why.taken:
        yield f"Less {one.name}: {Money(one.minor, gross.currency)}."
    if taken:
        yield f"Leaves {gross - discount}."
    if why.portions_left_out:
        yield f"Measured in {why.portions_left_out:,} portions, which are too many to be kept with the line."
    if why.note:
        yield f"{why.note[:1].upper()}{why.note[1:]}."


def _counted(quantity: Decimal, unit: str) -> str:
    return f"{_number(quantity)} {unit}".rstrip()


def _number(value: Decimal) -> str:
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _exactly(value: Fraction) -> str:
    """In decimals where they end, else about, with the fraction beside it."""
    text = exact(value)
    if "/" not in text:
        return _number(Decimal(text))
    near = in_steps(value, Decimal("1e-6"), "nearest")
    return f"about {_number(decimal_of(near))} ({text})"


def _signed(amount: str) -> str:
    value = Fraction(amount)
    return f"{'plus' if value >= 0 else 'minus'} {_exactly(abs(value))}"
