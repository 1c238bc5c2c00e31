"""Bad input is refused in one vocabulary, whichever library found it and wherever it stood."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from models.reasons import CALLERS_ID, PATTERNS
from tests.api.conftest import Front, problem
from tests.api.test_problems import AGREED, CUSTOMER, ENTITY, METER
from tests.conftest import application

pytestmark = pytest.mark.anyio

COUNTRY = "must be a country in two capital letters (ISO 3166-1), such as DE"
MOMENT = "must be a moment with its zone, such as 2026-01-31T12:00:00Z"
RATE = {"country": "DE", "valid_from": "2026-01-01", "percent": 1, "source": "law"}
NONE = "there is no such field"
BEGUN = "must be whole or proportional"
PREVIEW = "/v1/prices/preview"
CANCEL = "/v1/subscriptions/none/cancellations"
BODIES: list[tuple[str, Any, str, str]] = [
    ("/v1/customers", {k: v for k, v in CUSTOMER.items() if k != "email"}, "email", "is needed"),
    ("/v1/customers", {**CUSTOMER, "more": 1}, "more", "there is no such field"),
    ("/v1/customers", {**CUSTOMER, "country": "Germany"}, "country", COUNTRY),
    ("/v1/customers", {**CUSTOMER, "email": "a b"}, "email", "must be an address such as billing@example.com"),
    ("/v1/customers", {**CUSTOMER, "id": "a b"}, "id", PATTERNS[CALLERS_ID]),
    ("/v1/customers", {**CUSTOMER, "name": " "}, "name", "must not be empty"),
    ("/v1/customers", {**CUSTOMER, "name": 1}, "name", "must be text"),
    ("/v1/customers", {**CUSTOMER, "name": "x" * 201}, "name", "must have at most 200 characters"),
    ("/v1/customers", {**CUSTOMER, "aliases": "a"}, "aliases", "must be a list"),
    ("/v1/customers", [CUSTOMER], "body", "must be fields with their values"),
    ("/v1/customers", None, "body", "is empty"),
    ("/v1/customers", {**CUSTOMER, "alias": ["a"]}, "alias", "there is no such field; did you mean aliases"),
    ("/v1/customers", {**CUSTOMER, "country": "XX"}, "country", "XX is no country code in use (ISO 3166-1)"),
    (
        "/v1/customers",
        {**CUSTOMER, "country": "UK"},
        "country",
        "UK is no country code in use (ISO 3166-1); did you mean GB",
    ),
    (
        "/v1/entities",
        {**ENTITY, "functional_currency": "EURO"},
        "functional_currency",
        "must be a currency in three capital letters (ISO 4217), such as EUR",
    ),
    ("/v1/entities", {**ENTITY, "payment_terms_days": -1}, "payment_terms_days", "must be at least 0"),
    ("/v1/entities", {**ENTITY, "payment_terms_days": "x"}, "payment_terms_days", "must be a whole number"),
    ("/v1/entities", {**ENTITY, "payment_terms_days": 1.5}, "payment_terms_days", "must be a whole number"),
    (
        "/v1/entities",
        {**ENTITY, "invoice_prefix": "A1"},
        "invoice_prefix",
        "must be at most 20 letters, digits or '-', the last of them no digit",
    ),
    ("/v1/subscriptions", {**AGREED, "seats": "many"}, "seats", "must be a number"),
    ("/v1/subscriptions", {**AGREED, "seats": "NaN"}, "seats", "must be a number"),
    ("/v1/subscriptions", {**AGREED, "prepaid_credit": 10**13}, "prepaid_credit", "must be at most 1,000,000,000,000"),
    ("/v1/subscriptions", {**AGREED, "coupons": ["A1"] * 21}, "coupons", "must have at most 20 entries"),
    ("/v1/tax-rates", {**RATE, "percent": "0.00001"}, "percent", "must have at most 4 decimal places"),
    ("/v1/tax-rates", {**RATE, "source": "ab"}, "source", "must have at least 3 characters"),
    (CANCEL, {"reason": "r", "when": "soon"}, "when", "must be period_end or now, or a day such as 2026-01-31"),
    (CANCEL, {"reason": "r", "when": "9999-01-01"}, "when", "must lie in the years 1970 to 2199"),
    (
        "/v1/meters",
        {**METER, "id": "M 1"},
        "id",
        "must be 2 to 64 small letters, digits, '_', '.' or '-', beginning with a letter or digit",
    ),
    ("/v1/meters", {**METER, "dimension": []}, "dimension", "there is no such field; did you mean dimensions"),
    (PREVIEW, {"currency": "EUR", "price": {"kind": "per_unit", "rat": 1}}, "price.rat", f"{NONE}; did you mean rate"),
    (PREVIEW, {"currency": "EUR", "price": {"kind": "flat", "rate": 1}}, "price.rate", NONE),
    (PREVIEW, {"plan": {"items": [{"bases": 1}]}}, "plan.items.0.bases", f"{NONE}; did you mean basis"),
    (PREVIEW, {"currency": "EUR", "price": "free"}, "price", "must be fields with their values"),
    (PREVIEW, {"currency": "EUR", "price": {"kind": "package", "begun": "no"}}, "price.begun", BEGUN),
    (PREVIEW, {"currency": "EUR", "price": {"kind": "per_unit", "rate": []}}, "price.rate", "must be a number"),
    (PREVIEW, {"currency": "EUR", "usage": [{"quantity": 10**31}]}, "usage.0.quantity", "must be at most 10^30"),
]


@pytest.mark.parametrize(("path", "body", "field", "reason"), BODIES)
async def test_a_body_is_refused_in_our_words(front: Front, path: str, body: Any, field: str, reason: str) -> None:
    refusal = await front.refused("POST", path, body, status=422, code="invalid_request")
    assert refusal["fields"][field] == reason


PARAMETERS = [
    ("/v1/customers?limit=0", "limit", "must be at least 1"),
    ("/v1/customers?limit=501", "limit", "must be at most 500"),
    ("/v1/customers?limit=x", "limit", "must be a whole number"),
    ("/v1/customers/cus/usage?since=2026-01-01", "until", "is needed"),
    ("/v1/plans?kind=addon", "kind", "must be plan or add_on"),
    (f"/v1/plans?after={'x' * 101}", "after", "must have at most 100 characters"),
    ("/v1/tax-rates?country=Germany", "country", COUNTRY),
    ("/v1/tax-rates?country=XX", "country", "XX is no country code in use (ISO 3166-1)"),
    ("/v1/entities/acme/closes/2026-13", "month", "must be a month such as 2026-01"),
    ("/v1/plans/team?version=x", "version", "must be a whole number"),
]


@pytest.mark.parametrize(("path", "field", "reason"), PARAMETERS)
async def test_a_parameter_is_refused_in_our_words(front: Front, path: str, field: str, reason: str) -> None:
    refusal = await front.refused("GET", path, status=422, code="invalid_request")
    assert refusal["fields"] == {field: reason}


EVENT = {"source": "s", "id": "1", "subject": "cus", "type": "t", "time": "2026-01-01T00:00:00Z", "data": {}}
CLOUD = {**EVENT, "specversion": "1.0"}
EVENTS: list[tuple[Any, str, str]] = [
    ({k: v for k, v in EVENT.items() if k != "type"}, "events.0", "the field `type` is needed"),
    ({**EVENT, "typ": "t"}, "events.0", "there is no field `typ`; did you mean type"),
    ({"event": []}, "events", "there is no field `event`; did you mean events"),
    ({**EVENT, "more": 1}, "events.0", "there is no field `more`"),
    ({**EVENT, "type": 1}, "events.0.type", "must be text"),
    ({**EVENT, "type": ""}, "events.0.type", "must not be empty"),
    ({**EVENT, "type": "x" * 201}, "events.0.type", "must have at most 200 characters"),
    ({**EVENT, "time": "soon"}, "events.0.time", MOMENT),
    ({**EVENT, "time": "2026-01-01T00:00:00"}, "events.0.time", MOMENT),
    ({**EVENT, "time": 1767225600}, "events.0.time", MOMENT),
    ({**EVENT, "data": []}, "events.0.data", "must be fields with their values"),
    ({**CLOUD, "specversion": "0.3"}, "events.0.specversion", "must be 1.0"),
    ({**CLOUD, "data": []}, "events.0.data", "must be fields with their values"),
    ({**CLOUD, "dataschema": 1}, "events.0.dataschema", "must be text"),
    ({"more": []}, "events", "there is no field `more`"),
    ({}, "events", "is needed"),
    ({"events": {}}, "events", "must be a list"),
    ([], "events", "must not be empty"),
    ([1], "events.0", "must be fields with their values"),
    ([EVENT] * 10_001, "events", "must have at most 10,000 entries"),
]


@pytest.mark.parametrize(("body", "field", "reason"), EVENTS)
async def test_an_event_is_refused_in_the_same_words(front: Front, body: Any, field: str, reason: str) -> None:
    refusal = problem(await front.api.post("/v1/events", json=body), 422, "invalid_events")
    assert refusal["fields"] == {field: reason}


@pytest.mark.parametrize("body", [b"", b" \n"])
async def test_a_body_of_nothing_is_said_to_be_empty(front: Front, body: bytes) -> None:
    refusal = await front.refused("POST", "/v1/events", body, status=422, code="invalid_events")
    assert refusal["fields"] == {"body": "is empty"}
    refusal = await front.refused("POST", "/v1/customers", body, status=422)
    assert refusal["fields"]["body"] in ("is empty", "is not JSON that can be read: there is nothing but blanks in it")


def patterns(of: object) -> Iterator[str]:
    """Each pattern of the document but those of numbers, which pydantic writes and never names."""
    if isinstance(of, dict):
        if isinstance(of.get("pattern"), str) and not of["pattern"].startswith("^(?!"):
            yield of["pattern"]
        yield from (found for inner in of.values() for found in patterns(inner))
    elif isinstance(of, list):
        yield from (found for inner in of for found in patterns(inner))


def test_every_pattern_has_its_words() -> None:
    shown = set(patterns(application().openapi()))
    assert shown - {r"^application/([\w.-]+\+)?json\b"} == set(PATTERNS)
