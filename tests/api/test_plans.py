"""The price list: bad plans are refused with the place of each fault, prices are kept to the last digit."""

from __future__ import annotations

import json
import secrets
from typing import Any

import anyio
import pytest

from models.reasons import IN_ARREARS
from tests.api.conftest import Front

pytestmark = pytest.mark.anyio


def plan(*items: Any, **other: Any) -> dict[str, Any]:
    return {"name": "P", "currency": "EUR", "items": items, **other}


def item(price: Any, **other: Any) -> dict[str, Any]:
    return {"key": "a", "name": "A", "price": price, **other}


def graduated(*tiers: tuple[Any, Any]) -> dict[str, Any]:
    return {"kind": "graduated", "tiers": [{"up_to": up_to, "rate": rate} for up_to, rate in tiers]}


FLAT = {"kind": "flat", "amount": "1"}
USED = {"basis": "meter", "meter": "tokens"}
PRICE = "items.0.price"
BAD: dict[str, tuple[Any, set[str]]] = {
    "tiers that overlap": (plan(item(graduated((10, 1), (5, 1), (None, 1)))), {f"{PRICE}.tiers.1.up_to"}),
    "the same bound twice": (plan(item(graduated((10, 1), (10, 1), (None, 1)))), {f"{PRICE}.tiers.1.up_to"}),
    "a bound of zero": (plan(item(graduated((0, 1), (None, 1)))), {f"{PRICE}.tiers.0.up_to"}),
    "the last tier ends": (plan(item(graduated((10, 1), (20, 1)))), {f"{PRICE}.tiers.1.up_to"}),
    "a tier without end in the middle": (plan(item(graduated((None, 1), (None, 1)))), {f"{PRICE}.tiers.0.up_to"}),
    "no tiers": (plan(item(graduated())), {f"{PRICE}.tiers"}),
    "a negative rate": (plan(item({"kind": "per_unit", "rate": "-0.01"})), {f"{PRICE}.rate"}),
    "a negative amount": (plan(item({"kind": "flat", "amount": -1})), {f"{PRICE}.amount"}),
    "a negative tier": (plan(item(graduated((None, -1)))), {f"{PRICE}.tiers.0.rate"}),
    "NaN as text": (plan(item({"kind": "flat", "amount": "NaN"})), {f"{PRICE}.amount"}),
    "infinity as text": (plan(item({"kind": "flat", "amount": "Infinity"})), {f"{PRICE}.amount"}),
    "an absurd amount": (plan(item({"kind": "flat", "amount": "1e400"})), {f"{PRICE}.amount"}),
    "an absurd rate": (plan(item({"kind": "per_unit", "rate": "1e-400"})), {f"{PRICE}.rate"}),
    "words as a rate": (plan(item({"kind": "per_unit", "rate": "cheap"})), {f"{PRICE}.rate"}),
    "a truth as a rate": (plan(item({"kind": "per_unit", "rate": True})), {f"{PRICE}.rate"}),
    "no rate": (plan(item({"kind": "per_unit"})), {f"{PRICE}.rate"}),
    "another model's field": (plan(item({**FLAT, "rate": "1"})), {f"{PRICE}.rate"}),
    "a misspelt field of a tier": (
        plan(item({"kind": "graduated", "tiers": [{"up_to": None, "rate": 1, "flatfee": 1}]})),
        {f"{PRICE}.tiers.0.flatfee"},
    ),
    "an unknown model": (plan(item({"kind": "stairs", "amount": 1})), {f"{PRICE}.kind"}),
    "a misspelt field of an item": (plan(item(FLAT, in_advence=False)), {"items.0.in_advence"}),
    "an unknown meter": (plan(item(FLAT, basis="meter", meter="none")), {"items.0.meter"}),
    "no meter": (plan(item(FLAT, basis="meter")), {"items.0.meter"}),
    "a meter and seats": (plan(item(FLAT, basis="seats", meter="tokens")), {"items.0.meter"}),
    "an unknown basis": (plan(item(FLAT, basis="hours")), {"items.0.basis"}),
    "an unknown currency": (plan(item(FLAT), currency="ZZZ"), {"currency"}),
    "no currency code": (plan(item(FLAT), currency="euro"), {"currency"}),
    "usage in advance": (plan(item(FLAT, **USED, in_advance=True)), {"items.0.in_advance"}),
    "usage in advance in another currency": (
        plan(item(FLAT), in_currencies=[{"currency": "USD", "items": [item(FLAT, **USED, in_advance="yes")]}]),
        {"in_currencies.0.items.0.in_advance"},
    ),
    "the same key twice": (plan(item(FLAT), item(FLAT)), {"items.0.key", "items.1.key"}),
    "no items": (plan(), {"items"}),
    "items in an object": ({**plan(), "items": {"a": item(FLAT)}}, {"items"}),
    "no interval": (plan(item(FLAT), interval={"unit": "month", "count": 0}), {"interval.count"}),
    "an endless interval": (plan(item(FLAT), interval={"unit": "year", "count": 10**6}), {"interval.count"}),
    "an unknown unit": (plan(item(FLAT), interval={"unit": "moon"}), {"interval.unit"}),
    "several at once": (
        plan(item({"kind": "flat", "amount": -1}), item(graduated((1, 1)), key="b"), currency="ZZZ"),
        {"currency", f"{PRICE}.amount", "items.1.price.tiers.0.up_to"},
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_plan_is_refused_with_each_place(front: Front, name: str) -> None:
    body, fields = BAD[name]
    refusal = await front.refused("PUT", "/v1/plans/bad", body, status=422)
    assert set(refusal["fields"]) == fields, refusal["errors"]
    await front.refused("GET", "/v1/plans/bad", status=404)


async def test_usage_is_never_in_advance_whoever_asks(front: Front) -> None:
    made = await front.put("/v1/plans/honest", plan(item(FLAT), item(FLAT, **USED, key="b")))
    for said in (made, await front.get("/v1/plans/honest")):
        assert [one["in_advance"] for one in said["items"]] == [True, False]
    again = {name: value for name, value in made.items() if name not in ("plan_id", "version")}
    assert (await front.put("/v1/plans/honest", again))["version"] == 1
    asks = item(FLAT, **USED, in_advance=True)
    own = {"customer_id": "cus", "plan_id": "honest", "currency": "EUR", "effective_from": "2026-01-01"}
    for method, path, body, field in (
        ("PUT", "/v1/overrides/honest", {**own, "items": [asks]}, "items.0"),
        ("POST", "/v1/prices/preview", {"currency": "EUR", "item": asks}, "item"),
        ("POST", "/v1/prices/preview", {"plan": plan(asks)}, "plan.items.0"),
        ("PUT", "/v1/catalog", {"offers": [{"plan": {**plan(asks), "plan_id": "x1"}}]}, "offers.0.plan.items.0"),
        ("PUT", "/v1/catalog", {"overrides": [{**own, "override_id": "o1", "items": [asks]}]}, "overrides.0.items.0"),
    ):
        refusal = await front.refused(method, path, body, status=422)
        assert refusal["fields"] == {f"{field}.in_advance": IN_ARREARS}


async def test_numbers_are_kept_to_the_last_digit(front: Front) -> None:
    """As JSON numbers or as text; a float would keep 17 digits and turn 0.1 into what it is not."""
    for written in (
        "0.0000025",
        "2.5e-6",
        "0.1",
        '"0.1"',
        "0.12345678901234567890123",
        '"1.10"',
        "123456789.123456789",
    ):
        body = json.dumps(plan(item({"kind": "per_unit", "rate": "@"}, **USED))).replace('"@"', written)
        answer = await front.api.put("/v1/plans/exact", content=body, headers={"content-type": "application/json"})
        kept = answer.json()["items"][0]["price"]["rate"]
        exact = {"2.5e-6": "0.0000025"}.get(written, written.strip('"'))
        assert kept == exact
        assert (await front.get("/v1/plans/exact"))["items"][0]["price"]["rate"] == exact


async def test_the_same_content_is_one_version_and_sold_versions_stay(front: Front) -> None:
    plan_id = f"p-{secrets.token_hex(3)}"
    path = f"/v1/plans/{plan_id}"
    first = await front.put(path, plan(item(FLAT)))
    assert (first["version"], (await front.put(path, plan(item(FLAT))))["version"]) == (1, 1)
    sold = await front.subscription(plan=plan_id)
    dearer = plan(item({"kind": "flat", "amount": "2"}))
    assert (await front.put(path, dearer))["version"] == 2
    assert (await front.put(path, dearer))["version"] == 2
    assert (await front.put(path, plan(item(FLAT))))["version"] == 3
    assert (await front.get(f"/v1/subscriptions/{sold}"))["plan_version"] == 1
    assert await front.get(f"{path}?version=1") == first
    assert (await front.get(path))["version"] == 3
    await front.refused("GET", f"{path}?version=4", status=404)
    await front.refused("GET", f"{path}?version={10**30}", status=422)
    older = await front.subscription(plan=plan_id, plan_version=2)
    assert (await front.get(f"/v1/subscriptions/{older}"))["plan_version"] == 2


async def test_publishing_at_once_gives_each_content_one_version(front: Front) -> None:
    path = f"/v1/plans/p-{secrets.token_hex(3)}"
    versions: list[tuple[int, int]] = []

    async def publish(amount: int) -> None:
        answer = await front.put(path, plan(item({"kind": "flat", "amount": amount})))
        versions.append((amount, answer["version"]))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(publish, 5)
    assert set(versions) == {(5, 1)}
    async with anyio.create_task_group() as group:
        for amount in range(10, 18):
            group.start_soon(publish, amount)
    assert sorted(version for amount, version in versions if amount >= 10) == list(range(2, 10))


async def test_a_meter_is_made_once(front: Front) -> None:
    meter = {"id": f"m-{secrets.token_hex(3)}", "name": "M", "event_type": "t", "quantity_field": "q", "unit": "q"}
    made = {
        **meter,
        "dimensions": [],
        "per_event": False,
        "resolution": "hour",
        "aggregation": "sum",
        "filters": [],
        "percent": None,
        "rate_window": None,
        "time_unit": None,
        "operation_field": "",
        "carries_over": False,
        "expression": "",
        "late": {"kind": "next_invoice"},
    }
    assert await front.post("/v1/meters", meter) == await front.post("/v1/meters", made) == made
    await front.refused("POST", "/v1/meters", {**meter, "quantity_field": "other"}, status=409, code="conflict")
    for other in ({"dimensions": ["region"]}, {"per_event": True}, {"resolution": "day"}):
        await front.refused("POST", "/v1/meters", {**meter, **other}, status=409, code="conflict")
    assert made in await front.get("/v1/meters")


async def test_a_meter_that_differs_is_refused_with_what_stands_and_the_way_to_change_it(front: Front) -> None:
    meter = {"id": f"m-{secrets.token_hex(3)}", "name": "M", "event_type": "t", "quantity_field": "q", "unit": "q"}
    made = await front.post("/v1/meters", {**meter, "filters": [{"field": "region", "among": ["eu"]}]})
    other = {**made, "unit": "tokens", "filters": [], "name": "N"}
    refusal = await front.refused("POST", "/v1/meters", other, status=409, code="conflict")
    assert refusal["fields"] == {
        "name": 'stands as "M"',
        "unit": 'stands as "q"',
        "filters": 'stands as [{"field": "region", "among": ["eu"], "without": false}]',
    }
    assert f"To change unit, filters, ask by POST /v1/meters/{meter['id']}/rebuilds" in refusal["remedy"]
    assert "once all else is as it stands: name." in refusal["remedy"]
    refusal = await front.refused("POST", "/v1/meters", {**made, "event_type": "u"}, status=409, code="conflict")
    assert refusal["fields"] == {"event_type": 'stands as "t"'}
    assert "rebuilds" not in refusal["remedy"] and "another id" in refusal["remedy"]
    assert made in await front.get("/v1/meters")
    renamed = {**made, "name": "Model calls"}
    assert await front.post("/v1/meters", renamed) == renamed
    assert renamed in await front.get("/v1/meters")
