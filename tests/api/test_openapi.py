"""The OpenAPI document: whole, unambiguous, and with words where a user needs them; the reference page shows it all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api.document import read_words
from tests.conftest import application

pytestmark = pytest.mark.anyio

DOCUMENT = application().openapi()
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = [(m, p, o) for p, by in DOCUMENT["paths"].items() for m, o in by.items()]


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


def test_every_reference_leads_somewhere() -> None:
    found = {n["$ref"] for n in nodes(DOCUMENT) if isinstance(n.get("$ref"), str)}
    assert len(found) > 30
    assert {ref for ref in found if ref.rpartition("/")[2] not in SCHEMAS} == set()
    assert all(ref.startswith("#/components/schemas/") for ref in found)


def test_the_schemas_are_schemas() -> None:
    kinds = {"object", "array", "string", "number", "integer", "boolean", "null"}
    for node in nodes(SCHEMAS):
        if isinstance(node.get("type"), str) and ("properties" in node or "description" in node or "title" in node):
            assert node["type"] in kinds, node
    for name, schema in SCHEMAS.items():
        assert set(schema.get("required", ())) <= set(schema.get("properties", ())), name


def test_operation_ids_are_unique_and_can_be_function_names() -> None:
    ids = [o["operationId"] for _, _, o in OPERATIONS]
    assert len(set(ids)) == len(ids)
    assert all(i.isidentifier() and len(i) < 40 for i in ids), ids


def test_every_operation_says_what_it_does_and_how_it_fails() -> None:
    for method, path, operation in OPERATIONS:
        assert len(operation["description"]) > 10, (method, path)
        problem = operation["responses"]["default"]["content"]["application/problem+json"]["schema"]
        assert problem == {"$ref": "#/components/schemas/Problem"}
        assert "422" not in operation["responses"], (method, path)
        if method in ("post", "put") and operation.get("requestBody"):
            assert operation["requestBody"]["content"]["application/json"]["schema"], (method, path)


def test_every_parameter_and_every_field_has_words() -> None:
    silent = [
        (p, parameter["name"])
        for _, p, o in OPERATIONS
        for parameter in o.get("parameters", ())
        if not (parameter.get("description") or parameter["schema"].get("description"))
    ]
    assert silent == []
    wordless = [
        f"{name}.{field}"
        for name, schema in SCHEMAS.items()
        for field, inner in schema.get("properties", {}).items()
        if not inner.get("description")
    ]
    assert wordless == []
    assert [name for name in SCHEMAS if not SCHEMAS[name].get("description")] == []


def test_a_word_for_many_shapes_holds_in_each() -> None:
    """What may be null says so itself; what cannot be must not say it."""
    for name, field in (("Because", "plan_id"), ("PlanOut", "plan_id"), ("MeterEntry", "meter_id")):
        assert "null" not in SCHEMAS[name]["properties"][field]["description"], (name, field)
    assert "null if it stays" in SCHEMAS["Amendment"]["properties"]["plan_id"]["description"]
    assert "invoices" not in SCHEMAS["TieOutSeen"]["properties"]["unit"]["description"]


def test_no_words_are_left_over() -> None:
    words = read_words()
    parameters = {p["name"] for _, _, o in OPERATIONS for p in o.get("parameters", ())}
    fields = {(name, field) for name, schema in SCHEMAS.items() for field in schema.get("properties", ())}
    assert set(words["parameters"]) <= parameters
    assert set(words["fields"]) <= {field for _, field in fields}
    assert {(shape, field) for shape, by in words["of"].items() for field in by} <= fields


def test_money_says_its_unit() -> None:
    for name, schema in SCHEMAS.items():
        fields = schema.get("properties", {})
        for field in fields:
            if field.endswith("_minor") or field == "minor":
                about = schema["description"] + fields[field].get("description", "")
                assert "minor unit" in about or "_minor" in about, (name, field)


def test_each_operation_says_which_scope_its_key_needs() -> None:
    asked = {path: one for _, path, one in OPERATIONS if one.get("security")}
    assert len(asked) > 50
    for path, operation in asked.items():
        [[scope]] = [scopes for said in operation["security"] for scopes in said.values()]
        assert scope in ("ingest", "read", "write", "admin"), path


async def test_the_reference_shows_everything_and_loads_nothing() -> None:
    transport = httpx.ASGITransport(application())
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
        page = (await client.get("/docs")).text
        document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    for _, path, operation in OPERATIONS:
        assert f'id="{operation["operationId"]}"' in page and path in page
    for name in SCHEMAS:
        assert f'id="{name}"' in page
    assert "Key: <code>ingest</code>." in page and "`" not in page
    assert "<script" not in page and "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
