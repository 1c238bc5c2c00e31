"""What must hold for every item of a plan: modifiers, each against its own rule, and lines that add up exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.line import Line
from billing.modifiers import NO_BOUNDS, Bounds, Commitment, Discount, bounded
from billing.money import Amount, Ties
from billing.period import Interval, Period
from billing.plan import Plan, PlanItem
from billing.plan_check import plan_faults
from billing.pricing import Flat, PerUnit, Price
from billing.proration import BilledFee, prorate
from billing.quantity import Conversion, decimal_of, decimal_places
from billing.rating import ItemWindow, rate_fixed, rated, usage_windows
from billing.recipe import work_out
from billing.terms import Terms
from billing.usage import Measured, units
from tests.billing.price_strategies import decimals, measured, quantities, signed
from tests.billing.strategies import BOUNDS, CONVERSIONS, KNOWN, discounts, drawn, items, plans, without_too_much_money

steady = settings(derandomize=True, deadline=None, max_examples=150)
DAY = date(2026, 1, 1)
SHARES = st.sampled_from([Fraction(1), Fraction(1, 2), Fraction(16, 31), Fraction(1, 365)])
AMOUNTS = signed(decimals(7, 6)).map(Fraction)


@st.composite
def used_items(draw: st.DrawFn) -> tuple[PlanItem, Measured]:
    item = draw(items())
    return item, draw(measured(item.price, negative=True))


# The quantity


@steady
@given(CONVERSIONS, signed(decimals(12, 9)), st.none() | st.integers(1, 9))
def test_a_conversion_is_near_on_the_right_side_and_mirrored(
    convert: Conversion, quantity: Decimal, half_steps: int | None
) -> None:
    if half_steps:  # Often just between two steps, or on one.
        between = half_steps * Fraction(convert.step) / 2 * Fraction(convert.divide) / Fraction(convert.multiply)
        quantity = quantity if decimal_places(between) is None else decimal_of(between)
    exact = Fraction(quantity) * Fraction(convert.multiply) / Fraction(convert.divide)
    found = Fraction(convert.of(quantity))
    assert Fraction(convert.of(quantity.copy_negate())) == -found
    if convert.rounding == "none":
        assert found == exact
        return
    step = Fraction(convert.step)
    assert (found / step).denominator == 1
    beyond = abs(found) - abs(exact)
    match convert.rounding:
        case "up":
            assert 0 <= beyond < step
        case "down":
            assert -step < beyond <= 0
        case "nearest":
            assert -step / 2 < beyond <= step / 2


@steady
@given(quantities(negative=True), decimals(5, 3), discounts(units=True), st.integers(0, 3))
def test_free_units_and_units_off_never_reach_below_zero(
    quantity: Decimal, free: Decimal, off: tuple[Discount, ...], number: int
) -> None:
    item = PlanItem("use", "Use", PerUnit(Decimal(1)), "meter", "calls", free=free, discounts=off)
    left = Fraction(quantity)
    if left > 0:
        left = max(Fraction(0), left - Fraction(free))
    for one in off:
        if left > 0 and (one.periods is None or number < one.periods):
            if one.kind == "units":
                left = max(Fraction(0), left - Fraction(one.value))
            elif one.kind == "units_percent":
                left -= left * Fraction(one.value) / 100
    [step] = work_out(item, units(quantity), number=number).steps
    assert Fraction(step.quantity) == left


# The amount


@steady
@given(AMOUNTS, discounts(units=False), st.integers(0, 3), SHARES)
def test_discounts_take_percentages_first_and_never_reach_below_zero(
    amount: Fraction, off: tuple[Discount, ...], number: int, cut: Fraction
) -> None:
    fee = PlanItem("fee", "Fee", PerUnit(Decimal(1)), discounts=off)
    holding = [one for one in off if one.periods is None or number < one.periods]
    expected = amount
    for one in holding:
        if one.kind == "percent":
            expected = expected * (100 - Fraction(one.value)) / 100
    for one in holding:
        if one.kind == "amount" and expected > 0:
            expected = max(Fraction(0), expected - Fraction(one.value) * cut)
    quantity = Decimal(amount.numerator) / amount.denominator
    found = work_out(fee, units(quantity), number=number, cut=cut).amount.value
    assert found == expected
    assert min(amount, Fraction(0)) <= found <= max(amount, Fraction(0))


@steady
@given(AMOUNTS, BOUNDS, SHARES)
def test_bounds_and_commitment_are_their_laws(amount: Fraction, bounds: Bounds, cut: Fraction) -> None:
    expected = amount
    if bounds.minimum is not None:
        expected = max(expected, Fraction(bounds.minimum) * cut)
    if bounds.maximum is not None:
        expected = min(expected, Fraction(bounds.maximum) * cut)
    if agreed := bounds.commitment:
        beyond = expected - Fraction(agreed.amount) * cut
        if beyond > 0:
            expected += beyond * (Fraction(agreed.overage_factor) - 1)
        elif agreed.true_up:
            expected -= beyond
    found, done = bounded(Amount(amount), bounds.cut(cut))
    assert found.value == expected
    assert amount + sum(Fraction(one.amount) for one in done) == expected
    assert all(Fraction(one.amount) for one in done)


@steady
@given(AMOUNTS, AMOUNTS, decimals(6, 2), st.booleans())
def test_a_commitment_costs_at_least_what_was_agreed_and_never_falls(
    some: Fraction, other: Fraction, agreed: Decimal, true_up: bool
) -> None:
    limits = Bounds(commitment=Commitment(agreed, Decimal("1.5"), true_up)).cut(Fraction(1))
    low, high = (bounded(Amount(amount), limits)[0].value for amount in sorted((some, other)))
    assert low <= high
    assert low >= min(some, other)
    if true_up:
        assert low >= Fraction(agreed)


@steady
@given(used_items(), SHARES, st.integers(0, 3))
def test_bounds_hold_after_every_recipe(both: tuple[PlanItem, Measured], cut: Fraction, number: int) -> None:
    item, used = both
    low, high = item.bounds.minimum, item.bounds.maximum
    plain = replace(item, bounds=replace(item.bounds, commitment=None))
    found = work_out(plain, used, cut, number, cut).amount.value
    assert low is None or found >= Fraction(low) * cut
    assert high is None or found <= Fraction(high) * cut
    free = work_out(replace(item, bounds=NO_BOUNDS), used, cut, number, cut).amount.value
    if (low is None or free >= Fraction(low) * cut) and (high is None or free <= Fraction(high) * cut):
        assert found == free


@steady
@given(used_items(), SHARES, st.integers(0, 3))
def test_discounts_of_any_item_bring_it_nearer_to_zero(
    both: tuple[PlanItem, Measured], share: Fraction, number: int
) -> None:
    item, used = replace(both[0], bounds=NO_BOUNDS), both[1]
    full = replace(item, discounts=tuple(d for d in item.discounts if d.kind.startswith("units")))
    before = work_out(full, used, share, number, share).amount.value
    after = work_out(item, used, share, number, share).amount.value
    assert min(before, Fraction(0)) <= after <= max(before, Fraction(0))


# Lines


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """A line of one item of a plan, for a whole month or a part of it."""
    item, used = draw(used_items())
    plan = Plan("pro", 1, "Pro", draw(st.sampled_from(["EUR", "JPY", "KWD"])), (item,), ties=draw(TIES))
    assert not list(plan_faults(plan, KNOWN))
    terms = Terms(1, DAY, plan, discount_percent=draw(st.sampled_from([Decimal(0), Decimal("33.3")])))
    start, end = draw(st.sampled_from([(1, 31), (10, 26), (1, 2)]))
    whole = Period(DAY, date(2026, 2, 1))
    part = whole if end == 31 else Period(date(2026, 1, start), date(2026, 1, end))
    window = ItemWindow(item, terms, part, whole, (terms,), ())
    with without_too_much_money():
        return rated("usage" if item.meter else "recurring", window, used)


TIES: st.SearchStrategy[Ties] = st.sampled_from(["away_from_zero", "to_even"])


@steady
@given(lines())
def test_steps_and_adjustments_add_up_to_the_exact_amount(line: Line) -> None:
    why = line.because
    steps = [
        (Fraction(s.quantity) * Fraction(s.unit_price) + Fraction(s.flat_fee)) * Fraction(s.share) for s in why.steps
    ]
    assert sum(steps) + sum(Fraction(change.amount) for change in why.adjustments) == Fraction(why.exact)
    assert (
        abs(line.gross.amount.value - Fraction(why.exact)) * 2 * 10 ** len(str(line.gross.major).partition(".")[2]) <= 1
    )


@steady
@given(lines())
def test_no_figure_of_a_line_is_a_float(line: Line) -> None:
    seen = {type(value) for value in everything_in(line)}
    assert Decimal in seen
    assert seen <= {Decimal, Fraction, int, str, bool, date, type(None)}


def everything_in(value: object) -> Iterator[object]:
    if is_dataclass(value):
        for field in fields(value):
            yield from everything_in(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for one in value:
            yield from everything_in(one)
    else:
        assert not isinstance(value, float | datetime | dict), f"{value!r} in a line"
        yield value


@steady
@given(signed(decimals(9, 6)), st.sampled_from(["EUR", "JPY", "KWD"]))
def test_ways_to_round_ties_differ_by_a_minor_unit_at_most_and_only_at_ties(number: Decimal, currency: str) -> None:
    scale = {"EUR": 100, "JPY": 1, "KWD": 1000}[currency]
    for amount in (Amount(Fraction(number)), Amount(Fraction(int(number) * 2 + 1, 2 * scale))):
        away, even = (amount.rounded(currency, ties).minor for ties in ("away_from_zero", "to_even"))
        assert abs(away - even) <= 1
        if away != even:
            assert (amount.value * scale).denominator == 2
            assert abs(away) > abs(even)
            assert even % 2 == 0
        assert abs(even - amount.value * scale) <= Fraction(1, 2)


# Giving back


@st.composite
def billed_lines(draw: st.DrawFn) -> tuple[list[BilledFee], list[Terms], Period, Period]:
    """The fees of a month that were billed in advance, the terms, the month, and the days that are given back."""
    fee = Flat(draw(decimals(5, 2)))
    item = PlanItem("fee", "Fee", fee, count=draw(decimals(2, 1)), discounts=draw(discounts(units=False)))
    percent = draw(st.sampled_from([Decimal(0), Decimal(10), Decimal("33.3"), Decimal(100)]))
    plan = Plan("pro", 1, "Pro", "EUR", (item,), ties=draw(TIES))
    history = [Terms(1, DAY, plan, discount_percent=percent)]
    whole = Interval("month").period_at(DAY, DAY)
    rest = Period(date(2026, 1, draw(st.integers(1, 31))), whole.end)
    return [billed(line) for line in rate_fixed(history, whole, whole, advance=True)], history, whole, rest


def billed(line: Line) -> BilledFee:
    return BilledFee(line.item, line.description, line.period, line.gross, line.discount, line.revenue, line.because)


@steady
@given(billed_lines())
def test_a_mirror_of_a_mirror_is_what_was_given_back_and_nothing_is_given_back_twice(
    case: tuple[list[BilledFee], list[Terms], Period, Period],
) -> None:
    fees, history, whole, rest = case
    back = prorate(fees, history, None, rest, whole, "first")
    exact = sum((fee.gross.amount.times(rest.share_of(whole)).value for fee in fees), Fraction(0))
    assert sum(line.gross.minor for line in back) == -Amount(exact).rounded("EUR", history[0].plan.ties).minor
    mirrors = [billed(line) for line in back]
    for line, again in zip(back, prorate(mirrors, history, None, rest, whole, "second"), strict=True):
        assert (again.gross, again.discount, again.period) == (-line.gross, -line.discount, line.period)
    assert prorate([*fees, *mirrors], history, None, rest, whole, "third") == ()


@pytest.mark.parametrize(("ties", "expected"), [("away_from_zero", -13), ("to_even", -12)])
def test_half_a_cent_is_given_back_as_it_would_have_been_billed(ties: Ties, expected: int) -> None:
    plan = Plan("pro", 1, "Pro", "EUR", (PlanItem("fee", "Fee", Flat(Decimal("0.25"))),), ties=ties)
    history, february = [Terms(1, date(2026, 2, 1), plan)], Period(date(2026, 2, 1), date(2026, 3, 1))
    fees = [billed(line) for line in rate_fixed(history, february, february, advance=True)]
    [back] = prorate(fees, history, None, Period(date(2026, 2, 15), february.end), february, "end")
    assert back.gross.minor == expected


# The strategies themselves


def test_random_plans_are_valid_differ_and_are_the_same_under_a_seed() -> None:
    some = drawn(plans(), 60)
    assert not [(plan, faults) for plan in some if (faults := list(plan_faults(plan, KNOWN)))]
    assert some == drawn(plans(), 60)
    assert len({repr(plan) for plan in some}) > 45
    assert some != drawn(plans(), 60, number=1)


def test_random_plans_set_every_field() -> None:
    some = drawn(plans(), 400)
    for values in (some, [item for plan in some for item in plan.items]):
        for field in fields(values[0]):  # type: ignore[arg-type]
            assert len({repr(getattr(value, field.name)) for value in values}) > 1, field.name
    kinds = {field.default for model in get_args(Price) for field in fields(model) if field.name == "kind"}
    assert {item.price.kind for plan in some for item in plan.items} == kinds
    terms = [Terms(1, DAY, plan) for plan in some]
    period = Period(DAY, date(2027, 1, 1))
    assert any(usage_windows([one], period, period) for one in terms)
