"""One id is one request: the same again changes nothing, and another one under it is refused."""

from __future__ import annotations

import secrets
from typing import Any

import anyio
import pytest

from tests.api.conftest import Front

pytestmark = pytest.mark.anyio

CUSTOMER = {"name": "Kunde", "email": "k@k.example", "country": "DE", "time_zone": "Europe/Berlin", "address": "Ulm"}
SUBSCRIPTION = {"entity": "acme", "plan": "team", "starts_on": "2026-01-01", "seats": "2", "discount_percent": "5"}
ENTITY = {"name": "Now", "country": "DE", "functional_currency": "EUR", "clock": "clk"}


async def sent_twice(front: Front, path: str, body: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """What stands; each of the others under its id is refused, with the name of what is other."""
    made: dict[str, Any] = await front.post(path, body)
    assert await front.post(path, body) == made
    for name, value in others.items():
        found = await front.refused("POST", path, {**body, name: value}, status=409, code="conflict")
        assert found["fields"] == {"id": f"belongs to {OF[path]} with another {name}"}
    assert await front.post(path, body) == made
    return made


OF = {"/v1/customers": "a customer", "/v1/subscriptions": "a subscription", "/v1/entities": "a legal entity"}


async def test_a_customer(front: Front) -> None:
    body = {"id": f"cus-{secrets.token_hex(4)}", **CUSTOMER}
    others = {"name": "Other", "email": "o@k.example", "country": "AT", "time_zone": "UTC", "address": "Bonn"}
    await sent_twice(front, "/v1/customers", body, others)
    alias = f"crm-{secrets.token_hex(4)}"
    assert (await front.post("/v1/customers", {**body, "aliases": [alias]}))["aliases"] == [alias]
    other = {**body, "id": f"cus-{secrets.token_hex(4)}"}
    refused = await front.refused("POST", "/v1/customers", {**other, "aliases": ["new", alias]}, status=409)
    assert refused["fields"] == {"aliases.1": f"belongs to {body['id']}"}
    refused = await front.refused("POST", "/v1/customers", {**other, "id": alias}, status=409)
    assert refused["fields"] == {"id": f"is an alias of {body['id']}, whose usage it would take"}
    await front.refused("GET", f"/v1/customers/{other['id']}", status=404)


async def test_a_subscription_as_it_was_signed(front: Front) -> None:
    body = {"id": f"sub-{secrets.token_hex(4)}", "customer": await front.customer(), **SUBSCRIPTION}
    others = {
        "customer": await front.customer(),
        "starts_on": "2026-01-02",
        "seats": "3",
        "discount_percent": "6",
        "plan": "another",
        "plan_version": 7,
        "purchase_order": "PO-1",
        "currency": "USD",
        "add_ons": [{"plan": "support"}],
    }
    made = await sent_twice(front, "/v1/subscriptions", body, others)
    assert (await front.post("/v1/subscriptions", {**body, "seats": 2, "plan_version": 1}))["id"] == made["id"]


async def test_a_legal_entity(front: Front) -> None:
    others = {"name": "Other", "country": "AT", "functional_currency": "USD", "address": "Bonn"}
    await sent_twice(front, "/v1/entities", {"id": "again", **ENTITY}, others)


async def test_of_two_who_want_a_name_at_once_one_has_it(front: Front) -> None:
    """A customer's id is nobody's alias, and an alias is one customer's: else usage would go astray."""
    one, other = await front.customer(), await front.customer()
    for _ in range(8):
        name = f"name-{secrets.token_hex(4)}"
        asked = (
            ("/v1/customers", {"id": name, **CUSTOMER}),
            (f"/v1/customers/{one}/aliases", {"alias": name}),
            (f"/v1/customers/{other}/aliases", {"alias": name}),
        )
        codes: list[int] = []

        async def ask(path: str, body: dict[str, Any], codes: list[int] = codes) -> None:
            codes.append((await front.api.post(path, json=body)).status_code)

        async with anyio.create_task_group() as group:
            for path, body in asked:
                group.start_soon(ask, path, body)
        assert sorted(codes) == [201, 409, 409]
