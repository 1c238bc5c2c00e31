"""The catalog through the front door: what is published, sold with extras, billed, and what it entitles to."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from tests.api.conftest import Front
from tests.api.test_agreements import running
from tests.api.test_plans import FLAT, item, plan

pytestmark = pytest.mark.anyio


def new(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(4)}"


def flat(amount: Any, key: str = "a", **other: Any) -> dict[str, Any]:
    return item({"kind": "flat", "amount": str(amount)}, **{"key": key, "name": key, **other})


async def sold(front: Front, *items: Any, **other: Any) -> str:
    """A new plan or add-on; its id."""
    plan_id = new("p")
    await front.put(f"/v1/plans/{plan_id}", plan(*items, **other))
    return plan_id


async def invoices(front: Front, path: str) -> list[dict[str, Any]]:
    """Every invoice of a subscription with its lines: net by item, in whole units."""
    customer = (await front.get(path))["subscription"]["customer_id"]
    found = await front.get(f"/v1/invoices?customer={customer}")
    whole = [await front.get(f"/v1/invoices/{row['id']}") for row in found]
    return [{line["item"]: line["net_minor"] / 100 for line in one["lines"]} for one in whole]


# Publishing.


async def test_what_is_put_is_what_is_got(front: Front) -> None:
    made = {
        "products": (new("core"), {"name": "Core", "description": "What everyone has"}, "product_id"),
        "features": (new("seats"), {"name": "Seats", "kind": "limit", "unit": "seats"}, "feature_id"),
        "coupons": (
            new("SPRING"),
            {"name": "Spring", "discounts": [{"kind": "amount", "value": "5", "periods": 1}], "currency": "EUR"},
            "coupon_id",
        ),
        "overrides": (
            new("own"),
            {
                "customer_id": await front.customer(),
                "plan_id": "team",
                "currency": "EUR",
                "effective_from": "2026-01-01",
                "items": [flat("0.0000025", "base")],
            },
            "override_id",
        ),
    }
    for kind, (name, body, key) in made.items():
        put = await front.put(f"/v1/{kind}/{name}", body)
        assert put[key] == name
        assert put == await front.put(f"/v1/{kind}/{name}", body) == await front.get(f"/v1/{kind}/{name}")
        listed = await front.get(f"/v1/{kind}?limit=500")
        assert name in [one[key] for one in listed]
        pages, after = [], ""
        while page := await front.get(f"/v1/{kind}?limit=1&after={after}"):
            pages += page
            after = page[-1][key]
        assert pages == listed
        await front.refused("GET", f"/v1/{kind}/{new('none')}", status=404, code="not_found")
        refusal = await front.refused("PUT", f"/v1/{kind}/{name}", {**body, "more": 1}, status=422)
        assert set(refusal["fields"]) == {"more"}
    mine = made["overrides"][1]["customer_id"]
    assert [o["override_id"] for o in await front.get(f"/v1/overrides?customer={mine}")] == [made["overrides"][0]]


async def test_wrong_entries_are_refused_by_field(front: Front) -> None:
    customer, feature = await front.customer(), new("f")
    await front.put(f"/v1/features/{feature}", {"name": "F"})
    off = {"kind": "amount", "value": "5"}
    own = {"customer_id": customer, "plan_id": "team", "currency": "EUR", "effective_from": "2026-01-01"}
    cases: list[tuple[str, dict[str, Any], set[str]]] = [
        (f"features/{feature}", {"name": "F", "kind": "limit"}, {"kind"}),
        ("features/Big", {"name": "F"}, {"feature_id"}),
        ("products/p-1", {"name": ""}, {"name"}),
        ("coupons/C1", {"name": "C", "discounts": [off]}, {"currency"}),
        ("coupons/C1", {"name": "C", "discounts": []}, {"discounts"}),
        ("coupons/C1", {"name": "C", "discounts": [{"kind": "units", "value": "1"}]}, {"discounts.0.kind"}),
        ("coupons/C1", {"name": "C", "discounts": [{**off, "value": "1e12"}]}, {"discounts.0.value"}),
        ("coupons/C1", {"name": "C", "discounts": [off], "currency": "EUR", "most": 0}, {"most"}),
        ("overrides/o-1", {**own, "customer_id": "none", "plan_id": "none"}, {"customer_id", "plan_id"}),
        ("overrides/o-1", {**own, "currency": "USD"}, {"currency"}),
        ("overrides/o-1", {**own, "items": [flat(-1)]}, {"items.0.price.amount"}),
        ("overrides/o-1", {**own, "entitlements": [{"feature": "none"}]}, {"entitlements.0.feature"}),
    ]
    for path, body, fields in cases:
        refusal = await front.refused("PUT", f"/v1/{path}", body, status=422)
        assert set(refusal["fields"]) == fields, (path, refusal["errors"])
    await front.refused("GET", "/v1/coupons/C1", status=404)
    await front.refused("GET", "/v1/overrides/o-1", status=404)


async def test_figures_may_be_large_where_they_count_and_not_where_they_are_money(front: Front) -> None:
    tiers = [{"up_to": "1" + "0" * 24, "rate": "0.1"}, {"up_to": None, "rate": "1e-30"}]
    used = {"basis": "meter", "meter": "tokens"}
    await sold(front, item({"kind": "graduated", "tiers": tiers}, **used))
    for price, other, field in (
        ({"kind": "graduated", "tiers": [{"up_to": "1e25", "rate": 1}, tiers[1]]}, {}, "price.tiers.0.up_to"),
        ({"kind": "per_unit", "rate": "1e12"}, {}, "price.rate"),
        ({"kind": "per_unit", "rate": "1e-31"}, {}, "price.rate"),
        ({"kind": "per_unit", "rate": "1"}, {"bounds": {"maximum": "1e12"}}, "bounds.maximum"),
        ({"kind": "per_unit", "rate": "1"}, {"convert": {"divide": "1e25"}}, "convert.divide"),
        ({"kind": "percentage", "percent": "1", "free_transactions": 10**13}, {}, "price.free_transactions"),
    ):
        body = plan(item(price, **used, **other))
        refusal = await front.refused("PUT", "/v1/plans/bad", body, status=422, code="invalid_plan")
        assert set(refusal["fields"]) == {f"items.0.{field}"}


async def test_a_plan_is_sold_from_its_day_to_new_customers(front: Front) -> None:
    plan_id = await sold(front, flat(1))
    path = f"/v1/plans/{plan_id}"
    assert (await front.get(path))["sold_from"] <= "2025-12-30"
    later = await front.put(path, {**plan(flat(2)), "sold_from": "2026-01-15"})
    draft = await front.put(path, {**plan(flat(3)), "sold_from": None})
    assert [(p["version"], p["sold_from"]) for p in (later, draft)] == [(2, "2026-01-15"), (3, None)]
    assert (await front.get(path))["version"] == 3
    assert [(await front.get(f"{path}?on={day}"))["version"] for day in ("2026-01-14", "2026-01-15")] == [1, 2]
    refusal = await front.refused("GET", f"{path}?on=2020-01-01", status=422, code="not_sold")
    assert set(refusal["fields"]) == {"plan"}
    assert [(s["version"], s["sold_from"]) for s in (await front.get(f"{path}/sales"))[1:]] == [
        (2, "2026-01-15"),
        (3, None),
    ]
    first = await front.subscription(plan=plan_id)
    assert (await front.get(f"/v1/subscriptions/{first}"))["plan_version"] == 1
    unsold = new("p")
    await front.put(f"/v1/plans/{unsold}", {**plan(flat(1)), "sold_from": None})
    body = {"customer": await front.customer(), "entity": "acme", "plan": unsold, "starts_on": "2026-01-01"}
    await front.refused("POST", "/v1/subscriptions", body, status=422, code="not_sold")
    assert (await front.post("/v1/subscriptions", {**body, "plan_version": 1}))["state"] == "pending"


async def test_plans_and_add_ons_are_listed_by_page_and_kind(front: Front) -> None:
    plan_id = await sold(front, flat(1))
    await front.put(f"/v1/plans/{plan_id}", plan(flat(2)))
    add_on = await sold(front, flat(1), kind="add_on")
    whole = await front.get("/v1/plans?limit=500")
    keys = [(p["plan_id"], p["version"]) for p in whole]
    assert keys == sorted(keys) and {(plan_id, 1), (plan_id, 2), (add_on, 1)} <= set(keys)
    pages, after = [], ""
    while page := await front.get(f"/v1/plans?limit=2&after={after}"):
        pages += page
        after = f"{page[-1]['plan_id']}/{page[-1]['version']}"
    assert pages == whole
    kinds = {kind: await front.get(f"/v1/plans?limit=500&kind={kind}") for kind in ("plan", "add_on")}
    assert add_on in [p["plan_id"] for p in kinds["add_on"]] and len(kinds["plan"]) + len(kinds["add_on"]) == len(whole)


# The whole catalog.


async def test_the_whole_catalog_goes_in_as_it_comes_out(front: Front) -> None:
    whole = await front.get("/v1/catalog")
    assert await front.put("/v1/catalog", whole) == []
    fresh, feature = new("p"), new("f")
    content = {**plan(flat(1)), "plan_id": fresh, "entitlements": [{"feature": feature}]}
    draft = {"features": [{"feature_id": feature, "name": "F"}], "offers": [{"plan": content}]}
    done = await front.put("/v1/catalog", draft)
    assert [(d["kind"], d["id"], d["what"], d["version"]) for d in done] == [
        ("feature", feature, "new", 1),
        ("plan", fresh, "new", 1),
    ]
    assert await front.put("/v1/catalog", draft) == []
    after = await front.get("/v1/catalog")
    assert [o["plan"]["plan_id"] for o in after["offers"]] == sorted(
        [fresh, *(o["plan"]["plan_id"] for o in whole["offers"])]
    )
    assert await front.put("/v1/catalog", after) == []


async def test_a_wrong_catalog_changes_nothing(front: Front) -> None:
    before, product = await front.get("/v1/catalog"), new("core")
    good = {"plan": {**plan(flat(1)), "plan_id": new("p")}, "sold_from": "2026-01-01"}
    bad = {"plan": {**plan(flat(-1), item(FLAT, key="b", basis="meter", meter="none")), "plan_id": new("p")}}
    draft = {"products": [{"product_id": product, "name": "Core"}], "offers": [good, bad]}
    refusal = await front.refused("PUT", "/v1/catalog", draft, status=422, code="invalid_catalog")
    assert set(refusal["fields"]) == {"offers.1.plan.items.0.price.amount", "offers.1.plan.items.1.meter"}
    misspelt = {"offers": [{"plan": {**good["plan"], "items": [flat(1, pirce=1)]}}]}  # type: ignore[dict-item]
    refusal = await front.refused("PUT", "/v1/catalog", misspelt, status=422, code="invalid_request")
    assert set(refusal["fields"]) == {"offers.0.plan.items.0.pirce"}
    meters = [{**before["meters"][0], "quantity_field": "other"}]
    refusal = await front.refused("PUT", "/v1/catalog", {"meters": meters}, status=422)
    assert set(refusal["fields"]) == {"meters.0.quantity_field"}
    assert await front.get("/v1/catalog") == before


async def test_schemas_are_for_editors(front: Front) -> None:
    for name in ("plan", "product", "feature", "meter", "coupon", "override", "catalog"):
        answer = await front.api.get(f"/v1/schemas/{name}.json", headers={"Authorization": ""})
        schema = answer.json()
        assert answer.headers["content-type"] == "application/schema+json"
        assert schema["$schema"].startswith("https://json-schema.org/") and schema["additionalProperties"] is False
        assert all("description" in field for field in schema["properties"].values()), name
    kinds = {
        d["properties"]["kind"].get("const") for d in schema["$defs"].values() if "kind" in d.get("properties", {})
    }
    assert {"flat", "graduated", "matrix", "formula"} <= kinds
    await front.refused("GET", "/v1/schemas/none.json", status=404, code="not_found")


# Selling with extras.


async def test_add_ons_coupons_and_overrides_are_billed(front: Front) -> None:
    plan_id, add_on, coupon = (
        await sold(front, flat(100), flat(10, "b")),
        await sold(front, flat(7), kind="add_on"),
        new("C"),
    )
    discounts = [{"kind": "percent", "value": "50", "periods": 1}]
    await front.put(f"/v1/coupons/{coupon}", {"name": "Half", "discounts": discounts, "most": 1})
    customer = await front.customer()
    own = {"customer_id": customer, "plan_id": plan_id, "currency": "EUR", "effective_from": "2026-01-01"}
    await front.put(f"/v1/overrides/{new('own')}", {**own, "items": [flat(60)]})
    await front.put(f"/v1/overrides/{new('own')}", {**own, "effective_from": "2026-01-03", "items": [flat(40)]})
    more = {"add_ons": [{"plan": add_on, "count": 2}], "coupons": [coupon], "plan": plan_id}
    path = await running(front, customer_id=customer, **more)
    assert await invoices(front, path) == [{"a": 30.0, "b": 5.0, f"{add_on}.a": 7.0}]
    extras = (await front.get(path))["extras"]
    assert extras["add_ons"] == [{"plan_id": add_on, "version": 1, "count": "2"}]
    assert extras["override"]["items"][0]["price"]["amount"] == "60"
    assert [(r["coupon"]["coupon_id"], r["on"]) for r in extras["coupons"]] == [(coupon, "2026-01-01")]
    assert (await front.get(f"/v1/coupons/{coupon}"))["redeemed"] == 1
    body = {"customer": await front.customer(), "entity": "acme", "starts_on": "2026-01-01", **more}
    refusal = await front.refused("POST", "/v1/subscriptions", body, status=422, code="coupon_refused")
    assert set(refusal["fields"]) == {"coupons.0"}


async def test_an_amendment_replaces_add_ons_adds_coupons_and_picks_the_override_again(front: Front) -> None:
    plan_id, one, two = [
        await sold(front, flat(31, key), kind=kind) for key, kind in (("a", "plan"), ("b", "add_on"), ("c", "add_on"))
    ]
    coupon, customer = new("C"), await front.customer()
    await front.put(f"/v1/coupons/{coupon}", {"name": "Tenth", "discounts": [{"kind": "percent", "value": "10"}]})
    path = await running(front, customer_id=customer, plan=plan_id, add_ons=[{"plan": one}])
    own = {"customer_id": customer, "plan_id": plan_id, "currency": "EUR", "effective_from": "2026-01-02"}
    override = new("own")
    await front.put(f"/v1/overrides/{override}", {**own, "items": [flat(62)]})
    change = {"add_ons": [{"plan": two}], "coupons": [coupon]}
    seen = await front.post(f"{path}/amendments/preview", change)
    lines = {(line["item"], line["gross"]["minor"]) for line in seen["lines"]}
    assert lines == {("a", -3000), ("a", 6000), (f"{one}.b", -3000), (f"{two}.c", 3000)}
    assert seen["net"]["minor"] == -6000 + 9000 * 9 // 10
    asked = {"id": new("amd"), **change, "preview_hash": seen["preview_hash"]}
    answer = await front.post(f"{path}/amendments", asked)
    assert answer["accepted"] and answer["net_minor"] == seen["net"]["minor"]
    assert await front.post(f"{path}/amendments", asked) == answer
    for other in ({"add_ons": []}, {"add_ons": [{"plan": two, "count": 2}]}, {"coupons": ["OTHER"]}):
        refusal = await front.refused("POST", f"{path}/amendments", {**asked, **other}, status=409, code="conflict")
        assert set(refusal["fields"]) == {"id"}
    extras = (await front.get(path))["extras"]
    assert [a["plan_id"] for a in extras["add_ons"]] == [two] and extras["override"]["override_id"] == override
    assert [r["coupon"]["coupon_id"] for r in extras["coupons"]] == [coupon]
    refusal = await front.refused("POST", f"{path}/amendments/preview", {"coupons": [coupon]}, status=422)
    assert set(refusal["fields"]) == {"coupons.0"}
    await front.post(f"{path}/amendments", {"seats": 2})
    kept = (await front.get(path))["extras"]
    assert kept == extras
    assert [a["extras"] for a in (await front.get(path))["amendments"]][-1] is None
    wrong = {"add_ons": [{"plan": plan_id}]}
    for end in ("amendments/preview", "amendments"):
        refusal = await front.refused("POST", f"{path}/{end}", wrong, status=422, code="not_sold_together")
        assert set(refusal["fields"]) == {"add_ons.0"}


async def test_a_preview_is_outdated_when_the_override_has_changed_since(front: Front) -> None:
    plan_id, customer, override = await sold(front, flat(31)), await front.customer(), new("own")
    path = await running(front, customer_id=customer, plan=plan_id)
    seen = await front.post(f"{path}/amendments/preview", {"discount_percent": 10})
    own = {"customer_id": customer, "plan_id": plan_id, "currency": "EUR", "effective_from": "2026-01-02"}
    await front.put(f"/v1/overrides/{override}", {**own, "entitlements": [], "items": [flat(62)]})
    asked = {"id": new("amd"), "discount_percent": 10, "preview_hash": seen["preview_hash"]}
    await front.refused("POST", f"{path}/amendments", asked, status=409, code="preview_outdated")
    assert (await front.get(path))["discount_percent"] == "0"


async def test_a_plan_in_two_currencies_is_sold_in_the_sellers_own(front: Front) -> None:
    dollars = {"currency": "USD", "items": [flat(120)]}
    euro = {"currency": "EUR", "items": [flat(100)]}
    both = await sold(front, *dollars["items"], currency="USD", in_currencies=[euro])
    path = await running(front, plan=both)
    assert await invoices(front, path) == [{"a": 100.0}]
    assert (await front.get(path))["subscription"]["currency"] == "EUR"
    body = {
        "customer": await front.customer(),
        "entity": "acme",
        "plan": both,
        "starts_on": "2026-01-01",
        "currency": "USD",
    }
    refusal = await front.refused("POST", "/v1/subscriptions", body, status=422, code="invalid_agreement")
    assert set(refusal["fields"]) == {"currency"}


async def test_a_coupon_for_three_is_redeemed_by_three_of_sixteen_at_once(front: Front) -> None:
    plan_id, coupon = await sold(front, flat(1)), new("C")
    await front.put(f"/v1/coupons/{coupon}", {"name": "C", "discounts": [{"kind": "percent", "value": "5"}], "most": 3})
    customers = [await front.customer() for _ in range(16)]
    answers: list[int] = []

    async def sign(customer: str) -> None:
        body = {"customer": customer, "entity": "acme", "plan": plan_id, "starts_on": "2026-01-01", "coupons": [coupon]}
        answers.append((await front.api.post("/v1/subscriptions", json=body)).status_code)

    async with anyio.create_task_group() as group:
        for customer in customers:
            group.start_soon(sign, customer)
    assert sorted(answers) == [201] * 3 + [422] * 13
    assert (await front.get(f"/v1/coupons/{coupon}"))["redeemed"] == 3
    assert front.rows("select count(*) from contract where customer_id = any(%s)", customers) == [(3,)]


async def test_entitlements_come_from_the_terms_that_run(front: Front) -> None:
    sso, seats, support = new("sso"), new("seats"), new("support")
    for name, kind in ((sso, "switch"), (seats, "limit"), (support, "value")):
        await front.put(f"/v1/features/{name}", {"name": name, "kind": kind})
    given = [
        {"feature": seats, "limit": "10"},
        {"feature": support, "value": "mail"},
        {"feature": sso, "enabled": False},
    ]
    plan_id = await sold(front, flat(1), entitlements=given)
    add_on = await sold(
        front, flat(1), kind="add_on", entitlements=[{"feature": seats, "limit": "2.5"}, {"feature": sso}]
    )
    customer = await front.customer()
    assert await front.get(f"/v1/customers/{customer}/entitlements") == []
    first = await running(front, customer_id=customer, plan=plan_id, add_ons=[{"plan": add_on, "count": 2}])
    found = {f["feature"]: f for f in await front.get(f"/v1/customers/{customer}/entitlements")}
    assert (found[seats]["enabled"], found[seats]["limit"], found[seats]["value"]) == (True, "15.0", None)
    assert (found[sso]["enabled"], found[support]["value"]) == (True, "mail")
    [by] = found[support]["granted_by"]
    assert (by["subscription"], by["plan"], by["plan_version"]) == (first.rpartition("/")[2], plan_id, 1)
    await front.put(f"/v1/plans/{plan_id}", plan(flat(1), entitlements=[{"feature": seats, "limit": "99"}]))
    same = {f["feature"]: f for f in await front.get(f"/v1/customers/{customer}/entitlements")}
    assert same == found
    second = await running(front, customer_id=customer, plan=plan_id)
    both = {f["feature"]: f for f in await front.get(f"/v1/customers/{customer}/entitlements")}
    assert both[seats]["limit"] == "114.0" and len(both[seats]["granted_by"]) == 2
    own = {"customer_id": customer, "plan_id": plan_id, "currency": "EUR", "effective_from": "2026-01-01"}
    entitlements = [{"feature": seats, "limit": "1000"}]
    await front.put(f"/v1/overrides/{new('own')}", {**own, "entitlements": entitlements})
    await front.post(f"{second}/amendments", {"seats": 2})
    third = {f["feature"]: f for f in await front.get(f"/v1/customers/{customer}/entitlements")}
    assert third[seats]["limit"] == "1015.0"
    await front.post(f"{second}/cancellations", {"reason": "enough", "when": "now"})
    await front.advance("clk", datetime(2026, 1, 2, 12, 30, tzinfo=UTC))
    with anyio.fail_after(20):
        while (await front.get(second))["subscription"]["state"] != "ended":
            await anyio.sleep(0.05)
    last = {f["feature"]: f for f in await front.get(f"/v1/customers/{customer}/entitlements")}
    assert last == found
    await front.refused("GET", "/v1/customers/none/entitlements", status=404, code="not_found")
