"""What must hold for every price: each model against a way of its own to work it out, in fractions and step by step.

Modifiers and lines are in test_recipe_properties.py, formulas in test_expression_properties.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.period import Period
from billing.portion import Portion
from billing.pricing import (
    Capacity,
    CostPlus,
    Dynamic,
    Flat,
    Graduated,
    GraduatedPercentage,
    Grouped,
    Matrix,
    OneTime,
    Package,
    Percentage,
    PerUnit,
    Price,
    Stairstep,
    Tier,
    Volume,
)
from billing.pricing.tiers import Bounded
from billing.quantity import added_up, less, product
from billing.usage import Measured, measure, units
from tests.billing.price_strategies import KINDS, decimals, measured, price_of, signed

steady = settings(derandomize=True, deadline=None, max_examples=100)
HUGE = decimals(7, 4) | decimals(24, 12)
SIGNED = signed(HUGE)


def cost(price: Price, quantity: Decimal) -> Fraction:
    return price.charge(units(quantity)).amount.value


def inside(tiers: Sequence[Bounded], quantity: Decimal) -> list[tuple[int, Fraction]]:
    """The tiers that are open at a quantity, by number, each with how much lies in it; below zero it is the first."""
    found, floor = [], Fraction(0)
    for i, tier in enumerate(tiers):
        end = None if tier.up_to is None else Fraction(tier.up_to)
        upper = Fraction(quantity) if end is None else min(Fraction(quantity), end)
        if i == 0 or quantity > floor:
            found.append((i, upper - floor))
        floor = end if end is not None else floor
    return found


def at_an_edge(tiers: Sequence[Bounded], quantity: Decimal, data: st.DataObject) -> Decimal:
    """The quantity, or the bound of a tier, or a sliver beside it."""
    edges = [tier.up_to for tier in tiers if tier.up_to is not None]
    slivers = [added_up([edge, sliver]) for edge in edges for sliver in (Decimal("-1e-9"), Decimal(0), Decimal("1e-9"))]
    return data.draw(st.sampled_from([quantity, quantity, *slivers]))


@steady
@given(price_of("graduated", negative=True), SIGNED, st.data())
def test_graduated_is_the_sum_of_its_tiers(price: Graduated, quantity: Decimal, data: st.DataObject) -> None:
    quantity = at_an_edge(price.tiers, quantity, data)
    tiers = [(price.tiers[i], units_in) for i, units_in in inside(price.tiers, quantity)]
    expected = [units_in * Fraction(tier.rate) + Fraction(tier.flat_fee) for tier, units_in in tiers]
    charged = price.charge(units(quantity))
    assert [step.amount.value for step in charged.steps] == expected
    assert charged.amount.value == sum(expected)
    assert added_up(step.quantity for step in charged.steps) == quantity


@steady
@given(price_of("graduated_percentage"), SIGNED, st.data())
def test_graduated_percentage_is_graduated_by_hundredths(
    price: GraduatedPercentage, quantity: Decimal, data: st.DataObject
) -> None:
    quantity = at_an_edge(price.tiers, quantity, data)
    by_unit = tuple(Tier(t.up_to, product(t.percent, Decimal("0.01")), t.flat_fee) for t in price.tiers)
    assert cost(price, quantity) == cost(Graduated(by_unit), quantity)


@steady
@given(price_of("graduated") | price_of("graduated_percentage"), HUGE, HUGE)
def test_more_never_costs_less_where_rates_are_not_negative(price: Price, some: Decimal, others: Decimal) -> None:
    assert cost(price, min(some, others)) <= cost(price, max(some, others))


@steady
@given(price_of("volume", negative=True), SIGNED, st.data())
def test_volume_prices_every_unit_by_the_last_tier_reached(
    price: Volume, quantity: Decimal, data: st.DataObject
) -> None:
    quantity = at_an_edge(price.tiers, quantity, data)
    tier = price.tiers[inside(price.tiers, quantity)[-1][0]]
    assert cost(price, quantity) == Fraction(quantity) * Fraction(tier.rate) + Fraction(tier.flat_fee)


@steady
@given(price_of("volume"), st.data())
def test_volume_is_monotone_within_a_tier(price: Volume, data: st.DataObject) -> None:
    low, high = sorted(within_one_tier(price.tiers, data))
    assert cost(price, low) <= cost(price, high)


@steady
@given(price_of("stairstep", negative=True), st.data())
def test_stairstep_is_constant_within_a_tier(price: Stairstep, data: st.DataObject) -> None:
    one, other = within_one_tier(price.tiers, data)
    assert cost(price, one) == cost(price, other)
    assert cost(price, one) == Fraction(price.tiers[inside(price.tiers, one)[-1][0]].amount)


def within_one_tier(tiers: Sequence[Bounded], data: st.DataObject) -> tuple[Decimal, Decimal]:
    """Two quantities in the same tier, often at its upper bound."""
    i = data.draw(st.integers(0, len(tiers) - 1))
    floor, up_to = (tiers[i - 1].up_to if i else None) or Decimal(0), tiers[i].up_to
    width = Decimal(10**6) if up_to is None else less(up_to, floor)
    shares = st.sampled_from([1, 512, 1024]) | st.integers(1, 1024)
    one, other = (added_up([floor, product(width, Decimal(data.draw(shares)) / 1024)]) for _ in range(2))
    return one, other


@steady
@given(price_of("package"), SIGNED)
def test_packages_begun_cost_no_less_than_their_parts(price: Package, quantity: Decimal) -> None:
    whole, part = replace(price, begun="whole"), replace(price, begun="proportional")
    packages = abs(Fraction(quantity)) / Fraction(price.size)
    begun = packages.numerator // packages.denominator + (packages.denominator != 1)
    sign = -1 if quantity < 0 else 1
    assert cost(whole, quantity) == sign * begun * Fraction(price.amount)
    assert cost(part, quantity) == sign * packages * Fraction(price.amount)
    assert 0 <= sign * (cost(whole, quantity) - cost(part, quantity)) <= Fraction(price.amount)


@steady
@given(price_of("capacity", negative=True), SIGNED)
def test_capacity_is_its_fee_and_what_is_above(price: Capacity, quantity: Decimal) -> None:
    over = max(Fraction(0), Fraction(quantity) - Fraction(price.included))
    assert cost(price, quantity) == Fraction(price.amount) + over * Fraction(price.overage_rate)


@steady
@given(st.one_of(*(price_of(kind, negative=True) for kind in ("flat", "one_time", "per_unit", "dynamic"))), SIGNED)
def test_fees_and_rates_are_what_they_say(price: Flat | OneTime | PerUnit | Dynamic, quantity: Decimal) -> None:
    match price:
        case Flat(amount):
            expected = Fraction(amount)
        case OneTime(rate) | PerUnit(rate):
            expected = Fraction(rate) * Fraction(quantity)
        case Dynamic():
            expected = Fraction(quantity)
    assert cost(price, quantity) == expected


@steady
@given(price_of("cost_plus"), SIGNED, st.integers(0, 10**6))
def test_cost_plus_is_cost_margin_and_fees(price: CostPlus, quantity: Decimal, events: int) -> None:
    margin = Fraction(quantity) * Fraction(price.margin_percent) / 100
    expected = Fraction(quantity) + margin + events * Fraction(price.fee_per_event)
    assert price.charge(units(quantity, events)).amount.value == expected


@steady
@given(price_of("matrix", negative=True), st.data())
def test_a_matrix_is_the_sum_over_its_portions(price: Matrix, data: st.DataObject) -> None:
    used = data.draw(measured(price, negative=True))
    expected = Fraction(0)
    for portion in used.portions:
        have = dict(portion.properties)
        rate = price.default
        for cell in reversed(price.cells):
            if all(wanted in ("*", have.get(name, "")) for name, wanted in zip(price.by, cell.values, strict=True)):
                rate = cell.rate
        expected += Fraction(portion.quantity) * Fraction(rate)
    assert price.charge(used).amount.value == expected


@steady
@given(price_of("grouped", negative=True), st.data())
def test_grouped_is_the_sum_over_its_groups(price: Grouped, data: st.DataObject) -> None:
    used = data.draw(measured(price, negative=True))
    groups = {portion.value(price.by): Decimal(0) for portion in used.portions}
    for portion in used.portions:
        groups[portion.value(price.by)] = added_up([groups[portion.value(price.by)], portion.quantity])
    assert price.charge(used).amount.value == sum(cost(price.price, quantity) for quantity in groups.values())


def one_by_one(price: Percentage, amounts: Sequence[Decimal]) -> Fraction:
    """Percentage of single transactions, each after those before it, without any shortcut."""
    paid, count, so_far = Fraction(0), 0, Fraction(0)
    for amount in amounts:
        size, sign = abs(Fraction(amount)), -1 if amount < 0 else 1
        if amount < 0:
            count, so_far = count - 1, so_far - size
        paid += sign * one_transaction(price, size, count, so_far)
        if amount >= 0:
            count, so_far = count + 1, so_far + size
    return paid


def one_transaction(price: Percentage, size: Fraction, count: int, so_far: Fraction) -> Fraction:
    """What one more transaction costs after so many, which came to `so_far`."""
    left = Fraction(price.free_amount) - so_far
    by_count, by_amount = count < price.free_transactions, size <= left
    if price.free_transactions and price.free_amount:
        free, part = by_count and by_amount, left if by_count else Fraction(0)
    elif price.free_transactions:
        free, part = by_count, Fraction(0)
    else:
        free, part = bool(price.free_amount) and by_amount, left if price.free_amount else Fraction(0)
    if free:
        return Fraction(0)
    found = (size - max(Fraction(0), part)) * Fraction(price.percent) / 100 + Fraction(price.fixed_fee)
    if price.minimum_per_transaction is not None:
        found = max(found, Fraction(price.minimum_per_transaction))
    if price.maximum_per_transaction is not None:
        found = min(found, Fraction(price.maximum_per_transaction))
    return found


SIZES = st.lists(st.tuples(signed(decimals(4, 2)), st.integers(1, 4)), max_size=8)


@settings(steady, max_examples=400)
@given(price_of("percentage"), SIZES)
def test_percentage_is_what_transaction_by_transaction_costs(
    price: Percentage, transactions: list[tuple[Decimal, int]]
) -> None:
    portions = tuple(Portion(product(each, Decimal(n)), n, each=each) for each, n in transactions)
    every = [each for each, n in transactions for _ in range(n)]
    charged = price.charge(Measured(portions))
    if not price.per_event():
        assert charged.amount.value == Fraction(added_up(every)) * Fraction(price.percent) / 100
    else:
        assert charged.amount.value == one_by_one(price, every)


@steady
@given(price_of("percentage"), SIZES, decimals(4, 2), st.integers(1, 4))
def test_a_refund_of_the_last_transactions_gives_back_what_they_cost(
    price: Percentage, transactions: list[tuple[Decimal, int]], each: Decimal, n: int
) -> None:
    before = [Portion(product(size, Decimal(m)), m, each=size) for size, m in transactions]
    taken = Portion(product(each, Decimal(n)), n, each=each)
    refund = Portion(product(each.copy_negate(), Decimal(n)), n, each=each.copy_negate())
    if not each:  # A refund of nothing is a transaction of nothing.
        return
    after = price.charge(Measured((*before, taken, refund))).amount
    assert after == price.charge(Measured(tuple(before))).amount


LINEAR = ("per_unit", "one_time", "dynamic", "cost_plus", "matrix")
START = date(2026, 1, 1)


@st.composite
def linear_prices(draw: st.DrawFn) -> Price:
    """Prices without tiers, packages or anything else that counts from the start of the period."""
    return draw(st.sampled_from(LINEAR).flatmap(price_of) | st.builds(Percentage, decimals(2, 9)))


@steady
@given(linear_prices(), st.data())
def test_splitting_a_period_never_changes_what_has_no_tiers(price: Price, data: st.DataObject) -> None:
    days = data.draw(st.lists(measured(price, negative=True), min_size=1, max_size=12))
    cuts = sorted({0, len(days), *data.draw(st.lists(st.integers(0, len(days)), max_size=4))})
    totals = {("use", START + timedelta(days=n)): used.portions for n, used in enumerate(days)}
    whole = price.charge(measure(totals, "use", period(0, len(days)))).amount.value
    parts = [price.charge(measure(totals, "use", period(*two))) for two in pairwise(cuts)]
    assert sum(part.amount.value for part in parts) == whole


def period(first: int, last: int) -> Period:
    return Period(START + timedelta(days=first), START + timedelta(days=last))


@steady
@given(linear_prices() | price_of("package"), st.data())
def test_what_is_taken_back_is_the_mirror_of_what_was_charged(price: Price, data: st.DataObject) -> None:
    if isinstance(price, CostPlus):
        price = replace(price, fee_per_event=Decimal(0))  # Events that were reversed have been there.
    used = data.draw(measured(price, negative=True))
    back = Measured(tuple(replace(p, quantity=p.quantity.copy_negate()) for p in used.portions))
    assert price.charge(back).amount == -price.charge(used).amount


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_of_a_price_is_exact(kind: str) -> None:
    @steady
    @given(price_of(kind, negative=True), st.data())
    def exact(price: Price, data: st.DataObject) -> None:
        used = data.draw(measured(price, negative=True))
        charged = price.charge(used)
        assert price.kind == kind
        assert price.faults(negative=True) == ()
        for step in charged.steps:
            figures = (step.quantity, step.unit_price, step.flat_fee)
            assert {type(figure) for figure in figures} == {Decimal}
            whole = Fraction(step.quantity) * Fraction(step.unit_price) + Fraction(step.flat_fee)
            assert step.amount.value == whole * Fraction(step.share)
            assert type(step.amount.value) is Fraction
        assert charged.amount.value == sum(step.amount.value for step in charged.steps)

    exact()
