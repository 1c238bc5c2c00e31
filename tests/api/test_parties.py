"""Customers and legal entities change, and what documents printed of them is kept."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Front, problem

pytestmark = pytest.mark.anyio

AT_HOME = {"address": "Neue Gasse 2, 10117 Berlin", "email": "rechnung@kunde.example"}


async def change(front: Front, path: str, **wanted: Any) -> dict[str, Any]:
    response = await front.api.patch(path, json=wanted)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_a_customer_moves(front: Front) -> None:
    path = f"/v1/customers/{await front.customer()}"
    before = await front.get(path)
    after = await change(front, path, **AT_HOME)
    assert after == {**before, **AT_HOME, "version": 2} == await front.get(path)
    assert await change(front, path, **AT_HOME) == after  # The same again is no other version.
    assert await change(front, path) == after
    first, second = await front.get(f"{path}/versions")
    assert (first["address"], first["version"]) == ("", 1) and first["since"] < second["since"]
    assert second["address"] == AT_HOME["address"] and second["by_key"].startswith("key_")
    assert await front.get(f"{path}/versions?after=1") == [second]
    assert await front.get(f"{path}/versions?limit=1") == [first]


async def test_another_country_or_tax_id_is_to_be_verified_anew(front: Front) -> None:
    path = f"/v1/customers/{await front.customer()}"
    for wanted in ({"vat_id": "DE136695976"}, {"country": "AT", "vat_id": "ATU13585627"}, {"country": "CH"}):
        assert (await change(front, path, **wanted))["vat_id_verified_on"] is None
        verified = await front.put(f"{path}/tax-id-verification", {"verified_on": "2026-01-05"})
        assert verified["vat_id_verified_on"] == "2026-01-05"
        assert (await change(front, path, name=f"In {verified['country']}"))["vat_id_verified_on"] == "2026-01-05"
    other = {"verified_on": "2026-01-05", "vat_id": "DE136695976"}
    refusal = await front.refused("PUT", f"{path}/tax-id-verification", other, status=422, code="other_vat_id")
    assert "ATU13585627" in refusal["fields"]["vat_id"]
    gone = await change(front, path, vat_id=None)
    assert (gone["vat_id"], gone["vat_id_verified_on"]) == (None, None)
    refusal = await front.refused("PUT", f"{path}/tax-id-verification", {"verified_on": "2026-01-05"}, status=422)
    assert refusal["code"] == "no_vat_id"


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"email": "nobody"}, "email"),
        ({"country": "XX"}, "country"),
        ({"country": None}, "country"),
        ({"vat_id": "DE136695975"}, "vat_id"),
        ({"vat_id": ""}, "vat_id"),
        ({"time_zone": "UTC"}, "time_zone"),
        ({"id": "other"}, "id"),
        ({"version": 7}, "version"),
    ],
    ids=str,
)
async def test_what_no_customer_can_be_is_refused_and_changes_nothing(
    front: Front, wanted: dict[str, Any], field: str
) -> None:
    path = f"/v1/customers/{await front.customer('unchanged')}"
    before = await front.get(path)
    refusal = await front.refused("PATCH", path, {"address": "Elsewhere 1", **wanted}, status=422)
    assert field in refusal["fields"]
    assert await front.get(path) == before
    assert len(await front.get(f"{path}/versions")) == 1


async def test_a_country_in_which_the_tax_id_that_stands_is_none_is_refused(front: Front) -> None:
    path = f"/v1/customers/{await front.customer()}"
    await change(front, path, country="CH", vat_id="CHE-123.456.788 MWST")
    assert "vat_id" in (await front.refused("PATCH", path, {"country": "AT"}, status=422))["fields"]
    assert (await change(front, path, country="AT", vat_id=None))["country"] == "AT"


async def test_nobody_is_changed_by_an_alias_or_without_the_scope(front: Front) -> None:
    customer_id = await front.customer()
    await front.post(f"/v1/customers/{customer_id}/aliases", {"alias": f"crm-{customer_id}"})
    refusal = await front.refused("PATCH", f"/v1/customers/crm-{customer_id}", AT_HOME, status=404)
    assert customer_id in refusal["detail"] + refusal["remedy"]
    await front.refused("PATCH", "/v1/customers/none", AT_HOME, status=404)
    await front.refused("PATCH", "/v1/entities/none", {"name": "N"}, status=404)
    headers = {"Authorization": f"Bearer {front.key('write')}"}
    problem(await front.api.patch("/v1/entities/acme", json={"name": "N"}, headers=headers), 403)
    headers = {"Authorization": f"Bearer {front.key('read')}"}
    problem(await front.api.patch(f"/v1/customers/{customer_id}", json=AT_HOME, headers=headers), 403)


async def test_a_legal_entity_moves_and_agrees_otherwise(front: Front) -> None:
    made = {"id": "mover", "name": "Mover", "country": "DE", "functional_currency": "EUR", "clock": "clock"}
    clock = (await front.get("/v1/test-clocks"))[0]["id"]
    before = await front.post("/v1/entities", {**made, "clock": clock})
    path = "/v1/entities/mover"
    after = await change(front, path, address="Hafen 1, 20457 Hamburg", payment_terms_days=30)
    assert after == {**before, "address": "Hafen 1, 20457 Hamburg", "payment_terms_days": 30, "version": 2}
    later = await change(front, path, close_after_days=6)
    assert (later["close_after_days"], later["version"]) == (6, 2)  # Documents print nothing of it.
    addresses = [version["address"] for version in await front.get(f"{path}/versions")]
    assert addresses == ["", "Hafen 1, 20457 Hamburg"]
    for wanted in ({"country": "AT"}, {"payment_terms_days": None}, {"close_after_days": 28}, {"clock": None}):
        await front.refused("PATCH", path, wanted, status=422)
