"""A line's `because` in words: each step of the arithmetic, so that a person can follow it with a pencil."""

from __future__ import annotations

from decimal import Decimal

from billing.line import Because
from billing.money import Money


def explain(why: Because, gross: Money, discount: Money) -> list[str]:
    """The steps from quantity to money, in the order in which they were taken."""
    said = [f"Terms version {why.terms_version}: plan {why.plan_id}, version {why.plan_version}."]
    if why.meter:
        said.append(f"Meter {why.meter}: {_number(why.quantity)} {why.unit}".rstrip() + ".")
    for step in why.steps:
        exact = step.quantity * step.unit_price + step.flat_fee
        flat = f" plus a flat {_number(step.flat_fee)}" if step.flat_fee else ""
        said.append(
            f"{_number(step.quantity)} {why.unit}".rstrip()
            + f" at {_number(step.unit_price)} {gross.currency}{flat} = {_number(exact)}."
        )
    if why.share != "1":
        said.append(f"Share of the period: {why.share} days.")
    if why.billed_before or why.quantity_before:
        before = Money(why.billed_before, gross.currency)
        said.append(f"Already billed: {_number(why.quantity_before)} for {before}; this line is the difference.")
    said.append(f"Rounded once to the currency's minor unit: {gross}.")
    if discount:
        said.append(f"Less {_number(why.discount_percent)}% discount: {discount}; leaves {gross - discount}.")
    if why.note:
        said.append(f"{why.note[:1].upper()}{why.note[1:]}.")
    return said


def _number(value: Decimal) -> str:
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
