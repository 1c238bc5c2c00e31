"""Every refusal is a problem document that names the field; no request, however odd, is answered by a bug."""

from __future__ import annotations

import json
import random
import re
from typing import Any
from urllib.parse import quote

import pytest

from billing.errors import NotFound
from tests.api.conftest import Front, problem
from tests.conftest import application

pytestmark = pytest.mark.anyio

DOCUMENT = application().openapi()
SCHEMAS = DOCUMENT["components"]["schemas"]
CHANGES = [(m, path) for path, by in DOCUMENT["paths"].items() for m in by if m in ("post", "put", "patch")]
OF_METER = "/v1/meters/{meter_id}"
FROM_MEMORY = {"/v1/schemas/{name}.json", OF_METER, f"{OF_METER}/versions", f"{OF_METER}/rebuilds"}
"""Where the database is not asked for what cannot be a name."""
READS = [path for path, by in DOCUMENT["paths"].items() if "get" in by]


DAYS = "since=2026-01-01&until=2026-02-01"
SAID = {"since": "2026-01-01", "until": "2026-02-01", "meter": "tokens", "format": "csv"}


def said_to(path: str) -> dict[str, str]:
    """What the reading of that path needs to be told."""
    needed = {p["name"] for p in DOCUMENT["paths"][path]["get"].get("parameters", ()) if p["required"]}
    return {name: said for name, said in SAID.items() if name in needed}


async def test_the_framework_speaks_in_problems_too(front: Front) -> None:
    refusal = await front.refused("GET", "/v1/nothing", status=404, code="not_found")
    assert "/v1/nothing" in refusal["detail"] and "/docs" in refusal["remedy"]
    for path, methods in (("/v1/plans", ["GET"]), ("/v1/meters", ["GET", "POST"]), ("/v1/events", ["POST"])):
        answer = await front.api.delete(path)
        refusal = problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == ", ".join(methods)
        assert refusal["remedy"].startswith(f"Use {' or '.join(methods)};") and "/docs" in refusal["remedy"]


@pytest.mark.parametrize(("kind", "several"), [("key", "keys"), ("legal entity", "legal entities")])
def test_a_plural_is_of_the_thing(kind: str, several: str) -> None:
    assert f"list the {several} to see" in NotFound(kind, "x").remedy


@pytest.mark.parametrize("path", [path for path in READS if "{" in path])
async def test_what_does_not_exist_is_not_found(front: Front, path: str) -> None:
    month = path.replace("{month}", "2026-01")
    for name in ("unknown", "%00", "a%2Fb", quote("名前'\";--"), "x" * 500):
        filled = "/".join(name if part.startswith("{") else part for part in month.split("/"))
        answer = await front.api.get(filled, params=said_to(path))
        problem(answer, 422 if name == "%00" and path not in FROM_MEMORY else 404)


UNKNOWN = [
    ("POST", "/v1/test-clocks/none/advance", {"to": "2026-01-01T00:00:00Z"}),
    ("PUT", "/v1/customers/none/payment-method", {"gateway": "pretend", "token": "pm_1"}),
    ("POST", "/v1/customers/none/aliases", {"alias": "a"}),
    ("PUT", "/v1/customers/none/tax-id-verification", {"verified_on": None}),
    ("POST", "/v1/subscriptions/none/amendments/preview", {"seats": 2}),
    ("POST", "/v1/subscriptions/none/amendments", {"seats": 2}),
    ("POST", "/v1/subscriptions/none/upgrade-requests", {"seats": 2}),
    ("POST", "/v1/subscriptions/none/cancellations", {"reason": "r"}),
    ("POST", "/v1/subscriptions/none/cancellations/withdraw", None),
    ("POST", "/v1/subscriptions/none/amendments/none/withdraw", None),
    ("POST", "/v1/entities/none/closes/2026-01/approve", {"by": "Carla"}),
    ("POST", "/v1/tasks/none/answer", {"by": "Carla", "answer": "done"}),
    ("POST", "/webhooks/none", {}),
]


@pytest.mark.parametrize(("method", "path", "body"), UNKNOWN)
async def test_what_does_not_exist_cannot_be_changed(front: Front, method: str, path: str, body: Any) -> None:
    await front.refused(method, path, body, status=404, code="not_found")


CUSTOMER = {"id": "c1", "name": "N", "email": "a@b.example", "country": "DE"}
ENTITY = {"id": "e1", "name": "N", "country": "DE", "functional_currency": "EUR"}
METER = {"id": "m1", "name": "N", "event_type": "t", "quantity_field": "q"}
AGREED = {"customer": "cus", "entity": "acme", "plan": "team", "starts_on": "2026-01-01"}
FIELDS = [
    ("/v1/customers", {**CUSTOMER, "more": 1}, "more"),
    ("/v1/customers", {**CUSTOMER, "country": "Germany"}, "country"),
    ("/v1/customers", {**CUSTOMER, "time_zone": "Europe/Bielefeld"}, "time_zone"),
    ("/v1/customers", {**CUSTOMER, "time_zone": "../../etc/passwd"}, "time_zone"),
    ("/v1/customers", {**CUSTOMER, "vat_id": "DE136695977"}, "vat_id"),
    ("/v1/customers", {**CUSTOMER, "aliases": ["a", ""]}, "aliases.1"),
    ("/v1/customers", {**CUSTOMER, "aliases": "a"}, "aliases"),
    ("/v1/customers", {**CUSTOMER, "name": "   "}, "name"),
    ("/v1/customers", {**CUSTOMER, "id": ".."}, "id"),
    ("/v1/customers", {k: v for k, v in CUSTOMER.items() if k != "email"}, "email"),
    ("/v1/customers", [CUSTOMER], "body"),
    ("/v1/customers", b"{", "body"),
    ("/v1/customers", b"", "body"),
    ("/v1/customers", b"\xff\xfe", "body"),
    ("/v1/customers", b"\x1f\x8b\x08\x00", "body"),
    ("/v1/customers", b'{"name": "a", "name": "b"}', "body"),
    ("/v1/customers", b'{"name": "\\u0000"}', "body"),
    ("/v1/customers", b'{"name": NaN}', "body"),
    ("/v1/customers", b"[" * 100_000, "body"),
    ("/v1/customers", b'{"name": 1e99999999999999999999}', "body"),
    ("/v1/subscriptions", b'{"seats": 1, "plan_version": 1e999999999}', "body"),
    ("/v1/prices/preview", b'{"period_number": 1e1000}', "body"),
    ("/v1/prices/preview", b'{"period_number": 1e-1000}', "body"),
    ("/v1/customers", b'{"name": "\\ud800"}', "body"),
    ("/v1/customers", b'{"\\uDFFF": 1}', "body"),
    ("/v1/customers", b'{"name": ' + b"9" * 5000 + b"}", "body"),
    ("/v1/entities", {**ENTITY, "functional_currency": "EURO"}, "functional_currency"),
    ("/v1/entities", {**ENTITY, "functional_currency": "ZZZ"}, "functional_currency"),
    ("/v1/entities", {**ENTITY, "time_zone": "Mars"}, "time_zone"),
    ("/v1/entities", {**ENTITY, "clock": "none"}, "clock"),
    ("/v1/entities", {**ENTITY, "books_from": "0001-01-01"}, "books_from"),
    ("/v1/entities", {**ENTITY, "books_from": 20260101}, "books_from"),
    ("/v1/entities", {**ENTITY, "payment_terms_days": -1}, "payment_terms_days"),
    ("/v1/entities", {**ENTITY, "payment_terms_days": 1.5}, "payment_terms_days"),
    ("/v1/test-clocks", {"now": "2026-01-01T00:00:00"}, "now"),
    ("/v1/test-clocks", {"now": 1767225600}, "now"),
    ("/v1/test-clocks", {"now": "9999-12-31T23:59:59Z"}, "now"),
    ("/v1/test-clocks/clk/advance", {"to": "2000-01-01T00:00:00Z"}, "to"),
    ("/v1/test-clocks/clk/advance", {"to": "9999-12-31T00:00:00Z"}, "to"),
    ("/v1/meters", {**METER, "id": "M 1"}, "id"),
    ("/v1/meters", {**METER, "factor": 1}, "factor"),
    ("/v1/quarantine/replay", {"subjects": "a"}, "subjects"),
    ("/v1/subscriptions", {**AGREED, "seats": "1.5"}, "seats"),
    ("/v1/subscriptions", {**AGREED, "seats": -1}, "seats"),
    ("/v1/subscriptions", {**AGREED, "seats": "1e400"}, "seats"),
    ("/v1/subscriptions", {**AGREED, "seats": "NaN"}, "seats"),
    ("/v1/subscriptions", {**AGREED, "seats": True}, "seats"),
    ("/v1/subscriptions", {**AGREED, "discount_percent": 101}, "discount_percent"),
    ("/v1/subscriptions", {**AGREED, "prepaid_credit": "0.001"}, "prepaid_credit"),
    ("/v1/subscriptions", {**AGREED, "prepaid_credit": "1e30"}, "prepaid_credit"),
    ("/v1/subscriptions", {**AGREED, "starts_on": "2026-02-30"}, "starts_on"),
    ("/v1/subscriptions", {**AGREED, "starts_on": "1999-01-01"}, "starts_on"),
    ("/v1/subscriptions", {**AGREED, "starts_on": "2199-12-31"}, "starts_on"),
    ("/v1/subscriptions", {**AGREED, "starts_on": "9999-12-31"}, "starts_on"),
    ("/v1/tax-rates", {"country": "DE", "valid_from": "9999-01-01", "percent": 1, "source": "law"}, "valid_from"),
]


@pytest.mark.parametrize(("path", "body", "field"), FIELDS)
async def test_the_field_is_named(front: Front, path: str, body: Any, field: str) -> None:
    refusal = await front.refused("POST", path, body, status=422)
    assert set(refusal["fields"]) == {field}


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/customers?limit=0", "limit"),
        ("/v1/customers?limit=x", "limit"),
        ("/v1/customers/cus/usage?since=2026-01-01", "until"),
        ("/v1/customers/cus/usage?since=soon&until=2026-01-01", "since"),
        ("/v1/customers/cus/usage?since=0001-01-01&until=2026-01-01", "since"),
        ("/v1/entities/acme/closes/0000-01", "month"),
        ("/v1/entities/acme/closes/2026-13", "month"),
        ("/v1/entities/acme/ledger/9999-12/journal", "month"),
        ("/v1/entities/acme/ledger/٢٠٢٦-01/trial-balance", "month"),
        ("/v1/entities/acme/ledger/2199-12/trial-balance", "month"),
        ("/v1/plans/team?version=x", "version"),
    ],
)
async def test_the_parameter_is_named(front: Front, path: str, field: str) -> None:
    refusal = await front.refused("GET", path, status=422, code="invalid_request")
    assert set(refusal["fields"]) == {field}


RANGES = [
    (path, [p["name"] for p in by["get"].get("parameters", ())])
    for path, by in DOCUMENT["paths"].items()
    if {"since", "until"} <= {p["name"] for p in by.get("get", {}).get("parameters", ())}
]


@pytest.mark.parametrize(("path", "parameters"), RANGES)
@pytest.mark.parametrize("until", ["2026-01-31", "2026-02-01"])
async def test_a_range_that_holds_nothing_is_refused(
    front: Front, path: str, parameters: list[str], until: str
) -> None:
    await front.subscription("cus", id="s0")
    others = "".join(
        f"&{name}={value}" for name, value in (("meter", "tokens"), ("format", "csv")) if name in parameters
    )
    filled = path.replace("{customer_id}", "cus").replace("{subscription_id}", "s0")
    at = f"{filled}?since=2026-02-01{others}&until="
    refusal = await front.refused("GET", at + until, status=422, code="invalid_request")
    assert refusal["fields"] == {"until": "must be a later day than `since`; it is not itself part of the range"}
    if "starts_at" in parameters:
        moments = f"2026-03-01&starts_at=2026-02-01T00:00:00Z&ends_at={until}T00:00:00Z"
        refusal = await front.refused("GET", at + moments, status=422)
        assert "a later moment than `starts_at`" in refusal["fields"]["ends_at"]


async def test_a_range_that_holds_nothing_is_not_counted_anew_either(front: Front) -> None:
    days = {"since": "2026-02-01", "until": "2026-02-01"}
    for path, body in (("recounts", {"customer_id": "cus", **days}), ("rebuilds", days)):
        refusal = await front.refused("POST", f"/v1/meters/tokens/{path}", body, status=422)
        assert refusal["fields"] == {"until": "must be a later day than `since`; it is not itself part of the range"}


@pytest.mark.parametrize(
    "day",
    [
        "yesterday",
        "20260101",
        "1767225600",
        "2026-02-30",
        "2026-1-1",
        "2026-01-01T00:00:00Z",
        "2026-11-30T23:59:59Z",
        "",
    ],
)
async def test_a_day_is_written_in_one_way(front: Front, day: str) -> None:
    refusal = await front.refused("GET", f"/v1/customers/cus/usage?since={day}&until=2027-01-01", status=422)
    assert refusal["fields"] == {"since": "must be a day such as 2026-01-31"}
    refusal = await front.refused("POST", "/v1/subscriptions", {**AGREED, "starts_on": day}, status=422)
    assert refusal["fields"] == {"starts_on": "must be a day such as 2026-01-31"}
    refusal = await front.refused("GET", f"/v1/plans/team?on={day}", status=422)
    assert refusal["fields"] == {"on": "must be a day such as 2026-01-31"}


@pytest.mark.parametrize(
    "moment", ["now", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31T12:00:00 02:00", "1767225600"]
)
async def test_a_moment_has_its_zone(front: Front, moment: str) -> None:
    refusal = await front.refused("GET", f"/v1/customers/cus/events?{DAYS}&starts_at={moment}", status=422)
    assert refusal["fields"] == {"starts_at": "must be a moment with its zone, such as 2026-01-31T12:00:00Z"}
    refusal = await front.refused("POST", "/v1/test-clocks", {"now": moment}, status=422)
    assert refusal["fields"] == {"now": "must be a moment with its zone, such as 2026-01-31T12:00:00Z"}
    await front.get(f"/v1/customers/cus/events?{DAYS}&starts_at=2026-01-31T12:00:00Z")


HOSTILE: list[Any] = [
    None, True, False, 0, -1, 2**63, 10**40, 0.5, -1e-300, "", "x", "\ud800", "a\u0000b", "NaN", "-Infinity", "1e400",
    "1e-400", "9" * 60, "0001-01-01", "9999-12-31", "2026-02-29", "9999-12-31T23:59:59-12:00", "x" * 3000, [], {},
    [None], {"kind": "flat"}, "🦄", "' or 1=1; --", "../..", "{{7*7}}",
]  # fmt: skip


class Drawn:
    """Bodies that fit the document, and are then spoilt here and there."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def value(self, schema: dict[str, Any], depth: int = 0) -> Any:
        if self.chance.random() < 0.07 or depth > 6:
            return self.chance.choice(HOSTILE)
        if "$ref" in schema:
            return self.value(SCHEMAS[schema["$ref"].rpartition("/")[2]], depth)
        if options := schema.get("anyOf") or schema.get("oneOf"):
            return self.value(self.chance.choice(options), depth + 1)
        if "enum" in schema or "const" in schema:
            return self.chance.choice(schema.get("enum", [schema.get("const")]))
        match schema.get("type"):
            case "object":
                return self.object(schema, depth)
            case "array":
                return [self.value(schema.get("items", {}), depth + 1) for _ in range(self.chance.randrange(4))]
            case "integer":
                return self.chance.choice([0, 1, 2, 13, 366])
            case "number":
                return self.chance.choice([0, 1, "2.5", 0.000001, 100, 10**12])
            case "boolean":
                return self.chance.random() < 0.5
            case "null":
                return None
        return self.text(schema)

    def object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        required = schema.get("required", ())
        made = {
            name: self.value(of, depth + 1)
            for name, of in schema.get("properties", {}).items()
            if name in required or self.chance.random() < 0.5
        }
        return {**made, "surplus": 1} if self.chance.random() < 0.03 else made

    def text(self, schema: dict[str, Any]) -> str:
        pattern, form = schema.get("pattern"), schema.get("format")
        if form in ("date", "date-time"):
            day = self.chance.choice(["2026-01-01", "2025-12-31", "2026-03-31", "2025-01-31", "2034-02-28"])
            return day if form == "date" else f"{day}T12:00:00Z"
        known = ["acme", "cus", "team", "tokens", "clk", "EUR", "DE", "Europe/Berlin", "a@b.example", "a1", "b2", "c3"]
        if pattern:
            known = [k for k in known if re.search(pattern, k)] or ["1"]
        return self.chance.choice(known)


@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_no_body_is_answered_by_a_bug(front: Front, method: str, path: str) -> None:
    """The clocks stand still here: what is made on the way is billed by no one."""
    operation = DOCUMENT["paths"][path][method]
    schema = next(iter(operation.get("requestBody", {}).get("content", {}).values()), {}).get("schema", {})
    drawn = Drawn(seed=sum(map(ord, path)))
    await front.subscription("cus", id="s0")
    ids = ["cus", "acme", "team", "clk", "none", "s0", "s0"]
    for _ in range(40 if "{" in path else 60):
        month = path.replace("{month}", drawn.chance.choice(["2026-01", "2026-12"]))
        filled = "/".join(drawn.chance.choice(ids) if part.startswith("{") else part for part in month.split("/"))
        if path.endswith("/advance"):
            filled = filled.replace("clk", "none")
        body = drawn.value(schema)
        answer = await front.api.request(
            method, filled, content=json.dumps(body).encode(), headers={"content-type": "application/json"}
        )
        assert answer.status_code < 500, f"{filled} {body} answered {answer.text}"
        if not answer.is_success:
            problem(answer, answer.status_code)


async def test_after_all_that_every_list_can_still_be_read(front: Front) -> None:
    for path in READS:
        if "{" not in path:
            answer = await front.api.get(path, params=said_to(path))
            assert answer.status_code == 200, f"{path}: {answer.text}"
