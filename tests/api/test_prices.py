"""Prices tried out through the API: exact, explained, refused with the place, and nothing is stored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.api.conftest import Front

pytestmark = pytest.mark.anyio

PATH = "/v1/prices/preview"
TIERS = {
    "kind": "graduated",
    "tiers": [{"up_to": "1000", "rate": "0.01"}, {"up_to": None, "rate": "0.005", "flat_fee": "1"}],
}
PLAN = {
    "name": "P",
    "currency": "EUR",
    "items": [
        {"key": "fee", "name": "Fee", "price": {"kind": "flat", "amount": "10"}},
        {"key": "calls", "name": "Calls", "basis": "meter", "meter": "not-made-yet", "price": TIERS},
    ],
    "bounds": {"minimum": "30"},
}


async def test_a_price_alone(front: Front) -> None:
    body = {"price": TIERS, "quantity": "1000.5", "currency": "EUR"}
    found = await front.post(PATH, body)
    [line] = found["lines"]
    assert (found["net"], line["net"], line["kind"]) == ("11.00", "11.00", "usage")
    assert [step["quantity"] for step in line["because"]["steps"]] == ["1000", "0.5"]
    assert any("0.0025" in said for said in line["explanation"])


@pytest.mark.parametrize(
    ("currency", "rate", "quantity", "net"),
    [
        ("JPY", "0.0000025", "1" + "0" * 18, "2500000000000"),
        ("KWD", "0.0005", "1", "0.001"),
        ("EUR", "0.000000000000000000000000000001", "1" + "0" * 30, "1.00"),
        ("EUR", "0.01", "-250", "-2.50"),
    ],
)
async def test_no_digit_is_lost(front: Front, currency: str, rate: str, quantity: str, net: str) -> None:
    price = {"kind": "per_unit", "rate": rate}
    assert (await front.post(PATH, {"price": price, "quantity": quantity, "currency": currency}))["net"] == net


async def test_an_item_with_modifiers(front: Front) -> None:
    item = {
        "key": "gb",
        "name": "Storage",
        "basis": "meter",
        "meter": "bytes",
        "unit": "GiB",
        "price": {"kind": "per_unit", "rate": "0.10"},
        "convert": {"divide": "1073741824", "rounding": "up"},
        "free": "5",
        "discounts": [{"kind": "percent", "value": "10"}, {"kind": "amount", "value": "1", "periods": 2}],
        "bounds": {"minimum": "2", "maximum": "50"},
    }
    for number, net in ((0, "7.10"), (1, "7.10"), (2, "8.10")):
        body = {"item": item, "currency": "EUR", "quantity": str(95 * 2**30 - 1), "period_number": number}
        assert (await front.post(PATH, body))["net"] == net
    assert (await front.post(PATH, {"item": item, "currency": "EUR", "quantity": 0}))["net"] == "2.00"


async def test_a_plan_that_is_only_an_idea(front: Front) -> None:
    before = front.rows(
        "select (select count(*) from plan), (select count(*) from meter), (select count(*) from invoice)"
    )
    found = await front.post(PATH, {"plan": PLAN, "usage": [{"meter": "not-made-yet", "quantity": "500"}]})
    assert [(line["item"], line["net"]) for line in found["lines"]] == [
        ("fee", "10.00"),
        ("calls", "5.00"),
        ("plan:minimum", "15.00"),
    ]
    assert before == front.rows(
        "select (select count(*) from plan), (select count(*) from meter), (select count(*) from invoice)"
    )


async def test_a_plan_of_the_catalog_with_events(front: Front) -> None:
    events = [{"type": "llm", "data": {"n": n}} for n in (100, 250, "many")] + [{"type": "other", "data": {"n": 7}}]
    found = await front.post(PATH, {"plan": "team", "events": events, "starts_on": "2026-02-01"})
    assert [(line["item"], line["quantity"], line["net"]) for line in found["lines"]] == [
        ("base", "1", "100.00"),
        ("tokens", "350", "3.50"),
    ]
    assert found["period"] == {"start": "2026-02-01", "end": "2026-03-01"}
    await front.refused("POST", PATH, {"plan": "team", "version": 99}, status=404)
    await front.refused("POST", PATH, {"plan": "nothing-like-it"}, status=404)


async def test_properties_and_single_events(front: Front) -> None:
    matrix = {"kind": "matrix", "by": ["region"], "cells": [{"values": ["eu"], "rate": "2"}], "default": "1"}
    usage = [{"quantity": "3", "properties": {"region": "eu"}}, {"quantity": "4"}]
    assert (await front.post(PATH, {"price": matrix, "currency": "EUR", "usage": usage}))["net"] == "10.00"
    percentage = {"kind": "percentage", "percent": "1", "minimum_per_transaction": "0.50"}
    each = [{"quantity": "10", "events": 10, "each": "1"}, {"quantity": "900", "events": 1, "each": "900"}]
    assert (await front.post(PATH, {"price": percentage, "currency": "EUR", "usage": each}))["net"] == "14.00"


BAD: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing": ({}, {"plan"}),
    "two things": ({"price": TIERS, "plan": "team", "currency": "EUR"}, {"plan"}),
    "no currency": ({"price": TIERS, "quantity": 1}, {"currency"}),
    "an unknown currency": ({"price": TIERS, "currency": "ZZZ"}, {"currency"}),
    "a currency the plan has not": ({"plan": "team", "currency": "USD"}, {"currency"}),
    "a negative rate": ({"price": {"kind": "per_unit", "rate": "-1"}, "currency": "EUR"}, {"price.rate"}),
    "a formula that does not parse": (
        {"price": {"kind": "formula", "expression": "quantity **"}, "currency": "EUR"},
        {"price.expression"},
    ),
    "an absurd rate": ({"price": {"kind": "per_unit", "rate": "1e400"}, "currency": "EUR"}, {"price.rate"}),
    "an unknown kind": ({"price": {"kind": "stairs"}, "currency": "EUR"}, {"price.kind"}),
    "a bad plan": ({"plan": {**PLAN, "items": []}}, {"plan.items"}),
    "usage of another meter": (
        {"price": TIERS, "currency": "EUR", "usage": [{"meter": "x", "quantity": 1}]},
        {"usage.x"},
    ),
    "whose quantity": (
        {"plan": {**PLAN, "items": PLAN["items"][:1]}, "quantity": 1},  # type: ignore[index]
        {"quantity"},
    ),
    "an absurd quantity": ({"price": TIERS, "currency": "EUR", "quantity": "1e99"}, {"quantity"}),
    "a number of absurd length": (
        {
            "price": {"kind": "formula", "expression": "*".join(["quantity"] * 50)},
            "currency": "EUR",
            "quantity": "9" * 30,
        },
        set(),
    ),
    "a period before all calendars": (
        {"plan": {**PLAN, "interval": {"unit": "year", "count": 120}}, "period_number": 10000},
        {"period_number"},
    ),
    "too many tiers": (
        {
            "price": {
                "kind": "volume",
                "tiers": [{"up_to": None if n == 2000 else str(n + 1), "rate": "1"} for n in range(2001)],
            },
            "currency": "EUR",
        },
        {"price.tiers"},
    ),
    "quantity and usage": (
        {"price": TIERS, "currency": "EUR", "quantity": 1, "usage": [{"quantity": 1}]},
        {"quantity"},
    ),
    "quantity and events": (
        {"plan": "team", "quantity": 1, "events": [{"type": "llm", "data": {"n": 1}}]},
        {"quantity"},
    ),
    "a misspelt field": ({"price": TIERS, "currency": "EUR", "qty": 1}, {"qty"}),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_cannot_be_tried_is_refused_with_its_place(front: Front, name: str) -> None:
    body, paths = BAD[name]
    found = await front.refused("POST", PATH, body, status=422)
    assert set(found["fields"]) == paths


async def test_an_issued_invoice_is_replayed(front: Front) -> None:
    sub = await front.subscription()
    await front.advance("clk", datetime(2026, 1, 2, tzinfo=UTC))
    [issued] = await front.get(f"/v1/invoices?subscription={sub}")
    found = await front.get(f"/v1/invoices/{issued['number']}/replay")
    assert found["same"] is True
    assert [line["difference"] for line in found["lines"]] == [None]


async def test_a_short_request_cannot_ask_for_hours_of_work(front: Front) -> None:
    tiers = [{"up_to": str(n), "rate": "1"} for n in range(1, 100)] + [{"up_to": None, "rate": "1"}]
    grouped = {"kind": "grouped", "by": "who", "price": {"kind": "graduated", "tiers": tiers}}
    open_cells = [{"values": ["*", str(n)], "rate": "1"} for n in range(2000)]
    matrix = {"kind": "matrix", "by": ["a", "who"], "cells": open_cells, "default": "1"}
    for price, groups, steps in ((grouped, 510, "51,000"), (matrix, 1250, "51,250")):
        usage = [{"quantity": "5000", "properties": {"who": f"w{n}"}} for n in range(groups)]
        body = {"price": price, "currency": "EUR", "usage": usage}
        found = await front.refused("POST", PATH, body, status=422, code="invalid_usage")
        assert f"up to {steps} steps" in found["fields"]["usage"]
        assert (await front.post(PATH, {**body, "usage": usage[:2]}))["lines"]
