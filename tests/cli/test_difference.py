"""What a draft changes in the live catalog, told in sentences: each story is two catalogs and what is said."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from billing.catalog import Catalog, Feature, Meter, Offer, Override, Product
from billing.catalog_check import catalog_faults
from billing.difference import Change, differences, to_do
from billing.late import Below, CreditAndRebill, Hold, IgnoreBelow, Late, NextInvoice
from billing.modifiers import Bounds, Commitment, Coupon, Discount
from billing.period import Interval
from billing.plan import Entitlement, InCurrency, Plan, PlanItem
from billing.pricing import Cell, Flat, Graduated, Matrix, Percentage, PerUnit, Tier
from billing.quantity import Conversion
from cli.catalog_files import read
from tests.billing.strategies import drawn, plans
from tests.cli.conftest import EXAMPLE

D = Decimal
TIERS = (Tier(D(1000), D("0.000003")), Tier(D(5000), D("0.0000025")), Tier(None, D("0.000001")))
TOKENS = PlanItem("tokens", "Tokens", Graduated(TIERS), "meter", "tokens")
BASE = PlanItem("base", "Base fee", Flat(D(100)))
TEAM = Plan("team", 3, "Team", "EUR", (BASE, TOKENS), entitlements=(Entitlement("projects", limit=D(5)),))
FIRST, LATER = date(2026, 1, 1), date(2026, 3, 1)
SEATS = PlanItem("seats", "Members", PerUnit(D(20)), "seats")
MATRIX = Matrix(("region",), (Cell(("eu",), D("0.2")),), D("0.3"))


def tier(number: int, **fields: Any) -> PlanItem:
    tiers = list(TIERS)
    tiers[number - 1] = replace(tiers[number - 1], **fields)
    return replace(TOKENS, price=Graduated(tuple(tiers)))


def said(after: Plan, before: Plan = TEAM) -> tuple[str, ...]:
    """What is said of a plan, without from when and whom it touches."""
    found = differences(Catalog(offers=(Offer(before, FIRST),)), Catalog(offers=(Offer(after, FIRST),)))
    assert [(change.kind, change.id, change.what, change.version) for change in found] == [
        ("plan", "team", "changed", 4)
    ]
    *told, since, touched = found[0].sentences
    assert (since, touched) == ("version 4: sold from 2026-01-01", "no running subscription has it")
    return tuple(told)


def items(*found: PlanItem) -> Plan:
    return replace(TEAM, items=found)


STORIES = [
    (items(BASE, tier(2, rate=D("0.000002"))), ["tokens: tier 2 from 0.0000025 to 0.000002 per unit"]),
    (items(BASE, tier(1, up_to=D(2000))), ["tokens: tier 1, upper bound from 1,000 to 2,000"]),
    (items(BASE, tier(3, flat_fee=D(5))), ["tokens: tier 3, flat fee from 0 to 5"]),
    (
        items(BASE, replace(TOKENS, price=Graduated((TIERS[0], TIERS[2])))),
        [
            "tokens: tier 2, upper bound from 5,000 to without end",
            "tokens: tier 2 from 0.0000025 to 0.000001 per unit",
            "tokens: tier 3 is removed",
        ],
    ),
    (items(BASE, TOKENS, SEATS), ["new item seats: Members, per unit, rate 20"]),
    (items(TOKENS), ["item base is removed"]),
    (items(TOKENS, BASE), ["in another order: tokens, base"]),
    (items(replace(BASE, price=Flat(D("120.50"))), TOKENS), ["base: amount from 100 to 120.50"]),
    (
        items(BASE, replace(TOKENS, price=PerUnit(D("0.000002")))),
        [
            "tokens: price from graduated, tiers up to 1,000: rate 0.000003, up to 5,000: rate 0.0000025, beyond: rate"
            " 0.000001 to per unit, rate 0.000002"
        ],
    ),
    (
        items(BASE, replace(TOKENS, convert=Conversion(divide=D(1000), rounding="up"), free=D(50))),
        ["tokens: convert from none to divide 1,000 rounding up", "tokens: free units from 0 to 50"],
    ),
    (
        items(replace(BASE, in_advance=False, bounds=Bounds(minimum=D(10))), TOKENS),
        ["base: billed in advance from yes to no", "base: bounds, minimum from none to 10"],
    ),
    (
        replace(TEAM, bounds=Bounds(commitment=Commitment(D(5000), D("1.2"), False))),
        ["bounds: commitment from none to amount 5,000 overage factor 1.2 true up no"],
    ),
    (
        replace(TEAM, discounts=(Discount("percent", D(10), 3, "Welcome", ("base",)),)),
        ["new discount 1: 10% discount in the first 3 periods on base (Welcome)"],
    ),
    (
        replace(TEAM, entitlements=(Entitlement("projects", limit=D(9)), Entitlement("sso"))),
        ["entitlement to projects: limit from 5 to 9", "new entitlement to sso: sso on"],
    ),
    (
        replace(TEAM, in_currencies=(InCurrency("USD", (replace(BASE, price=Flat(D(110))),)),)),
        ["new prices in USD: USD: base flat, amount 110"],
    ),
    (replace(TEAM, name="Teams", ties="to_even"), None),
    (replace(TEAM, interval=Interval("year")), ["interval: unit from month to year"]),
]


@pytest.mark.parametrize(("after", "told"), STORIES, ids=range(len(STORIES)))
def test_a_change_of_a_plan_is_said(after: Plan, told: list[str] | None) -> None:
    expected = told or [
        "name from Team to Teams",
        "half a minor unit is rounded from away_from_zero to to_even",
    ]
    assert list(said(after)) == expected


def test_a_change_within_a_further_currency_says_which() -> None:
    dollars = InCurrency("USD", (BASE, tier(1, rate=D("0.000004"))))
    other = replace(dollars, items=(BASE, tier(1, rate=D("0.000005"))))
    before, after = (replace(TEAM, in_currencies=(one,)) for one in (dollars, other))
    assert said(after, before) == ("prices in USD: tokens, tier 1 from 0.000004 to 0.000005 per unit",)


def test_cells_of_a_matrix_are_told_by_their_place() -> None:
    before, after = (items(replace(TOKENS, price=price)) for price in (MATRIX, replace(MATRIX, default=D("0.4"))))
    assert said(after, before) == ("tokens: rate otherwise from 0.3 to 0.4",)
    more = replace(MATRIX, cells=(*MATRIX.cells, Cell(("us",), D("0.1"))))
    assert said(items(replace(TOKENS, price=more)), before) == ("tokens: new cell 2: us at 0.1",)


def test_the_day_of_sale_alone_makes_no_version() -> None:
    def told(before: date | None, after: date | None) -> list[tuple[str, ...]]:
        live, draft = (Catalog(offers=(Offer(TEAM.named("team", n), day),)) for n, day in ((3, before), (1, after)))
        return [change.sentences for change in differences(live, draft) if change.version is None]

    assert told(None, LATER) == [("sold from 2026-03-01",)]
    assert told(FIRST, LATER) == [("sold from 2026-03-01, not from 2026-01-01 as before",)]
    assert told(FIRST, None) == [("no longer sold to new customers",)]
    assert told(FIRST, FIRST) == []


def test_who_has_it_is_counted_by_version_and_keeps_it() -> None:
    live, draft = (
        Catalog(offers=(Offer(plan, LATER),)) for plan in (TEAM, items(replace(BASE, price=Flat(D(1))), TOKENS))
    )
    counts = {("team", 1): 2, ("team", 3): 10, ("other", 1): 99}
    *_, since, touched = differences(live, draft, counts)[0].sentences
    assert since == "version 4: sold from 2026-03-01"
    assert touched == "12 running subscriptions keep the version they were sold: 2 on version 1, 10 on version 3"
    assert differences(live, draft, {("team", 2): 1})[0].sentences[-1] == (
        "1 running subscription on version 2, which they keep"
    )


def test_what_the_draft_does_not_have_is_left_as_it_is() -> None:
    live = read(EXAMPLE)
    found = differences(live, Catalog())
    assert len(found) == sum(len(getattr(live, k)) for k in ("products", "features", "meters", "coupons", "offers"))
    assert {change.what for change in found} == {"left as it is"} and to_do(found) == ()
    assert {change.kind for change in found} == {"product", "feature", "meter", "coupon", "plan", "add-on"}


def test_what_is_new_is_described() -> None:
    coupon = Coupon("C", "Autumn", (Discount("amount", D("5.50"), 1),), "EUR", LATER, 10)
    override = Override("o", "cus", "team", "EUR", LATER, (replace(BASE, price=Flat(D(80))),))
    draft = Catalog(
        (Product("core", "Core"),),
        (Feature("seats", "Members", "limit", "members"),),
        (Meter("tokens", "Tokens", "llm", "n", "tokens", ("model",), True),),
        (coupon,),
        (Offer(TEAM, None),),
        (override,),
    )
    assert {change.id: change.sentences for change in differences(Catalog(), draft)} == {
        "core": ("name Core",),
        "seats": ("name Members", "kind limit", "unit members"),
        "tokens": (
            "name Tokens",
            "event type llm",
            "quantity field n",
            "unit tokens",
            "dimensions model",
            "per event yes",
        ),
        "C": (
            "name Autumn",
            "discounts 5.50 off in the first 1 period",
            "currency EUR",
            "redeem by 2026-03-01",
            "redemptions at most 10",
        ),
        "team": (
            "Team, in EUR, every month",
            "item base: Base fee, flat, amount 100",
            "item tokens: Tokens, graduated, tiers up to 1,000: rate 0.000003, up to 5,000: rate 0.0000025, beyond:"
            " rate 0.000001; meter tokens",
            "gives projects up to 5",
            "not sold to new customers yet",
        ),
        "o": (
            "customer id cus",
            "plan id team",
            "currency EUR",
            "effective from 2026-03-01",
            "items Base fee, flat, amount 80",
            "for terms of cus on team that begin from 2026-03-01 on",
        ),
    }


def test_an_override_says_whose_terms_it_is_for() -> None:
    one = Override("o", "cus", "team", "EUR", LATER, (BASE,))
    other = replace(one, items=(replace(BASE, price=Flat(D(70))),))
    assert differences(Catalog(overrides=(one,)), Catalog(overrides=(other,))) == (
        Change(
            "override",
            "o",
            "changed",
            ("base: amount from 100 to 70", "for terms of cus on team that begin from 2026-03-01 on"),
        ),
    )


def test_any_two_plans_differ_in_words_exactly_if_they_differ() -> None:
    """No difference goes unsaid, and nothing is said of none; whatever the plans are."""
    found = drawn(plans(), 60, number=7)
    for i, (before, after) in enumerate(pairwise(found)):
        live, draft, same = (Catalog(offers=(Offer(plan.named("p", 1), None),)) for plan in (before, after, before))
        assert differences(live, same) == ()
        changes = differences(live, draft)
        assert bool(changes) == (before.named("p", 1) != after.named("p", 1)), i
        assert all(len(change.sentences) > 2 for change in changes)


def test_percentages_are_told_by_field() -> None:
    price = Percentage(D("2.9"), fixed_fee=D("0.30"))
    before, after = (items(replace(TOKENS, price=one)) for one in (price, replace(price, free_transactions=10)))
    assert said(after, before) == ("tokens: free transactions from 0 to 10",)


def test_what_becomes_of_late_usage_is_said_in_words() -> None:
    meter = Meter("tokens", "Tokens", "llm", "n")
    small = IgnoreBelow((Below("EUR", D(5)), Below("USD", D("5.50"))))
    smaller = IgnoreBelow((Below("EUR", D(1)),))
    told: dict[tuple[Late, Late], str] = {
        (NextInvoice(), small): "from billed on the next invoice to ignored below 5 EUR, 5.50 USD",
        (small, smaller): "from ignored below 5 EUR, 5.50 USD to ignored below 1 EUR",
        (smaller, Hold()): "from ignored below 1 EUR to held for a person",
        (Hold(), CreditAndRebill()): "from held for a person to credited and billed again",
    }
    for (before, after), words in told.items():
        live, draft = (Catalog(meters=(replace(meter, late=late),)) for late in (before, after))
        assert differences(live, draft) == (Change("meter", "tokens", "changed", (f"late usage {words}",)),)
        assert list(catalog_faults(draft, live, ())) == []
    new = differences(Catalog(), Catalog(meters=(replace(meter, late=Hold()),)))
    assert "late usage held for a person" in new[0].sentences
