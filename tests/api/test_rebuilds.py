"""Rebuilds at the door: what cannot be is refused with its place, and nothing of it is stored."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from tests.api.conftest import Front
from tests.api.test_meters import meter

pytestmark = pytest.mark.anyio
FIRST = {"since": "2026-01-01"}


def change(**some: Any) -> dict[str, Any]:
    return {**FIRST, "change": some}


BAD: dict[str, tuple[Any, set[str]]] = {
    "no day": ({}, {"since"}),
    "a day before all": ({"since": "0001-01-01"}, {"since"}),
    "a day after all": ({"since": "9999-12-31"}, {"since"}),
    "an end after all": ({**FIRST, "until": "9999-12-31"}, {"until"}),
    "a number": ({"since": 20260101}, {"since"}),
    "no such field": ({**FIRST, "to": "2026-02-01"}, {"to"}),
    "a field that is no part of a version": (change(name="Other"), {"change.name"}),
    "a type of event": (change(event_type="other"), {"change.event_type"}),
    "null": (change(quantity_field=None), {"change.quantity_field"}),
    "no number": (change(aggregation="percentile", percent="NaN"), {"change.percent"}),
    "too large a percent": (change(aggregation="percentile", percent="1e400"), {"change.percent"}),
    "too fine a percent": (change(aggregation="percentile", percent="1e-400"), {"change.percent"}),
    "no field": (change(quantity_field=""), {"change.quantity_field"}),
    "the same dimension twice": (change(dimensions=["a", "a"]), {"change.dimensions.1"}),
    "a long dimension": (change(dimensions=["a" * 101]), {"change.dimensions.0"}),
    "a filter of nothing": (change(filters=[{"field": "a", "among": []}]), {"change.filters.0.among"}),
    "a formula that divides by zero": (change(quantity_field="", expression="a / (1 - 1)"), {"change.expression"}),
    "a formula that is none": (change(quantity_field="", expression="a +"), {"change.expression"}),
    "a name that is none": ({**FIRST, "id": "../x"}, {"id"}),
    "a list": ([], {"body"}),
}


@pytest.fixture
async def path(front: Front) -> str:
    made = await front.post("/v1/meters", meter())
    return f"/v1/meters/{made['id']}/rebuilds"


@pytest.mark.parametrize("name", BAD)
async def test_what_cannot_be_is_refused_with_its_place(front: Front, path: str, name: str) -> None:
    body, fields = BAD[name]
    refusal = await front.refused("POST", path, body, status=422)
    assert set(refusal["fields"]) == fields, refusal["errors"]
    assert await front.get(path) == []


async def test_the_event_type_of_a_meter_never_changes(front: Front, path: str) -> None:
    refusal = await front.refused("POST", path, change(event_type="other"), status=422, code="invalid_rebuild")
    said = "a meter's event type never changes: make another meter"
    assert refusal["fields"] == {"change.event_type": said}


@pytest.mark.parametrize(
    "raw",
    [
        b'{"since": "2026-01-01", "change": {"unit": "\\u0000"}}',
        b"{",
        b"\xff",
        b'{"since": "2026-01-01", "change": {"dimensions": ["\\ud800"]}}',
    ],
)
async def test_what_cannot_be_read_is_refused(front: Front, path: str, raw: bytes) -> None:
    answer = await front.api.request("POST", path, headers={"content-type": "application/json"}, content=raw)
    assert 400 <= answer.status_code < 500, answer.text
    assert await front.get(path) == []


async def test_strange_names_are_not_found(front: Front, path: str) -> None:
    for way, tail in (
        ("GET", "?after=%00"),
        ("GET", "?limit=0"),
        ("GET", "/reb-none"),
        ("GET", "/%00"),
        ("GET", "/%ff/differences"),
        ("GET", "/reb-none/differences?after_customer=%00"),
        ("POST", "/reb-none/apply"),
        ("POST", "/%00/drop"),
    ):
        answer = await front.api.request(way, path + tail)
        assert 400 <= answer.status_code < 500, (way, tail, answer.text)
    assert (await front.api.get("/v1/meters/%00/versions")).status_code in (404, 422)
    assert (await front.api.get("/v1/meters/none/rebuilds")).status_code == 404


async def test_what_belongs_to_another_meter_is_not_found_under_this_one(front: Front, path: str) -> None:
    other = f"/v1/meters/{(await front.post('/v1/meters', meter()))['id']}/rebuilds"
    name = f"reb-{secrets.token_hex(3)}"
    await front.post(path, {"id": name, **FIRST})
    for way, tail in (("GET", ""), ("GET", "/differences"), ("POST", "/apply"), ("POST", "/drop")):
        await front.refused(way, f"{other}/{name}{tail}", status=404)
    await front.refused("POST", other, {"id": name, **FIRST}, status=409, code="conflict")
    again = await front.post(path, {"id": name, **FIRST})
    assert (again["id"], again["change"]) == (name, False)
    await front.post(f"{path}/{name}/drop", {})
