"""Number series that cannot collide, and tax rates that are added and not edited."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.anyio

ENTITY = {"name": "One", "country": "DE", "functional_currency": "EUR", "time_zone": "UTC"}


async def test_two_entities_do_not_issue_the_same_numbers(front: Any) -> None:
    clock = {"id": "numbers", "now": "2026-01-01T00:00:00Z"}
    await front.post("/v1/test-clocks", clock)
    first = {**ENTITY, "id": "first", "clock": "numbers", "invoice_prefix": "R-"}
    await front.post("/v1/entities", first)
    other = {**ENTITY, "id": "second", "clock": "numbers", "invoice_prefix": "R-"}
    refusal = await front.refused("POST", "/v1/entities", other, status=409, code="conflict")
    assert set(refusal["fields"]) == {"invoice_prefix"}
    await front.post("/v1/entities", {**other, "invoice_prefix": "S-"})
    digits = {**ENTITY, "id": "third", "clock": "numbers", "invoice_prefix": "R-1"}
    await front.refused("POST", "/v1/entities", digits, status=422)


async def test_a_rate_ends_the_one_before_and_is_not_edited(front: Any) -> None:
    rate = {"country": "LU", "valid_from": "2027-01-01", "percent": "18", "source": "a law of 2026"}
    await front.post("/v1/tax-rates", rate)
    await front.post("/v1/tax-rates", rate)
    rows = await front.get("/v1/tax-rates?country=LU")
    assert [(r["valid_from"], r["valid_until"]) for r in rows[-2:]] == [
        ("2024-01-01", "2027-01-01"),
        ("2027-01-01", None),
    ]
    await front.refused("POST", "/v1/tax-rates", {**rate, "percent": "19"}, status=409, code="conflict")
    await front.refused("POST", "/v1/tax-rates", {**rate, "valid_from": "2020-01-01"}, status=409, code="conflict")


async def test_test_clocks_are_listed_page_by_page(front: Any) -> None:
    for name in ("page-a", "page-b", "page-c"):
        await front.post("/v1/test-clocks", {"id": name, "now": "2026-01-01T00:00:00Z"})
    refusal = await front.refused("GET", "/v1/test-clocks/none", status=404)
    assert refusal["remedy"] == "Check the id; list the test clocks to see which exist."
    pages = [
        [clock["id"] for clock in await front.get(f"/v1/test-clocks?limit=2&after={at}")] for at in ("page-", "page-b")
    ]
    assert pages[0] == ["page-a", "page-b"] and pages[1][0] == "page-c"
    assert (await front.get("/v1/test-clocks?limit=1&after=page-"))[0] == await front.get("/v1/test-clocks/page-a")


async def test_a_tax_id_outside_the_union_is_kept_as_it_is(front: Any) -> None:
    customer = {"name": "N", "email": "a@b.example", "country": "CH", "vat_id": "CHE-123.456.788 MWST"}
    assert (await front.post("/v1/customers", customer))["vat_id"] == customer["vat_id"]
    refusal = await front.refused("POST", "/v1/customers", {**customer, "country": "AT"}, status=422)
    assert (refusal["code"], set(refusal["fields"])) == ("invalid_vat_id", {"vat_id"})
    await front.post("/v1/customers", {**customer, "country": "XK"})
