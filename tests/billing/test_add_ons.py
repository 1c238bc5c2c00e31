"""Add-ons put together with a plan: what so many of them cost, and what cannot be sold so many times."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest

from billing.catalog import AddOn, composed
from billing.errors import Refused
from billing.modifiers import Bounds, Commitment, Discount
from billing.plan import Plan, PlanItem
from billing.preview import Trial, quote
from billing.pricing import Capacity, Flat, OneTime, PerUnit, Price
from billing.recipe import work_out
from billing.usage import units

PLAN = Plan("pro", 1, "Pro", "EUR", (PlanItem("fee", "Fee", Flat(Decimal(20))),))
ALL = Bounds(Decimal(9), Decimal(60), Commitment(Decimal(30), Decimal(2)))
OFF = (
    Discount("percent", Decimal(10)),
    Discount("amount", Decimal(4)),
    Discount("units", Decimal(1)),
    Discount("units_percent", Decimal(50)),
)


def add_on(item: PlanItem, *discounts: Discount) -> Plan:
    return Plan("more", 1, "More", "EUR", (item,), kind="add_on", discounts=discounts)


def cost(item: PlanItem) -> Fraction:
    return work_out(item, units(item.quantity(Decimal(1)))).amount.value


@pytest.mark.parametrize("bounds", [Bounds(), Bounds(Decimal(70)), Bounds(maximum=Decimal(5)), ALL])
@pytest.mark.parametrize("discounts", [(), OFF])
@pytest.mark.parametrize(
    "price",
    [
        Flat(Decimal("12.5")),
        OneTime(Decimal(12)),
        PerUnit(Decimal("7.5")),
        Capacity(Decimal(3), Decimal(20), Decimal(5)),
        Capacity(Decimal(30), Decimal(20), Decimal(5)),
    ],
)
def test_an_add_on_sold_several_times_costs_so_many_times_as_much(
    price: Price, discounts: tuple[Discount, ...], bounds: Bounds
) -> None:
    item = PlanItem("it", "It", price, count=Decimal(6), free=Decimal(2), discounts=discounts, bounds=bounds)
    once, thrice = (composed(PLAN, "EUR", [AddOn(add_on(item), Decimal(n))]).items[1] for n in (1, 3))
    assert once == replace(item, key="more.it", origin="add-on more, version 1")
    assert cost(thrice) == 3 * cost(once) > 0


def test_the_discounts_of_an_add_on_are_given_so_many_times() -> None:
    more = add_on(
        PlanItem("it", "It", Flat(Decimal(10))),
        Discount("percent", Decimal(10), name="Tenth"),
        Discount("amount", Decimal(3), name="Three"),
    )
    for count, net in ((1, "6.00"), (2, "12.00"), (5, "30.00")):
        plan = composed(PLAN, "EUR", [AddOn(more, Decimal(count))])
        lines = quote(Trial(plan, {}), date(2026, 1, 1)).lines
        assert [str(tried.line.net.major) for tried in lines] == ["20.00", net]


@pytest.mark.parametrize(
    "item",
    [
        PlanItem("calls", "Calls", PerUnit(Decimal(1)), "meter", "calls"),
        PlanItem("seats", "Seats", PerUnit(Decimal(1)), "seats"),
    ],
)
def test_what_is_metered_or_by_seat_is_sold_once(item: PlanItem) -> None:
    more = add_on(item)
    assert composed(PLAN, "EUR", [AddOn(more)]).items[1].key == f"more.{item.key}"
    with pytest.raises(Refused) as refused:
        composed(PLAN, "EUR", [AddOn(more, Decimal(2))])
    assert [fault.field for fault in refused.value.faults] == ["add_ons.0.count"]
    assert item.key in refused.value.faults[0].reason and refused.value.remedy
