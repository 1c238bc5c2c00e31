"""Meters that keep properties and single events: what they and their events may hold, and what is shown of them."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest

from tests.api.conftest import Front
from tests.api.test_events import event, send

pytestmark = pytest.mark.anyio


def meter(**other: Any) -> dict[str, Any]:
    kind = f"t-{secrets.token_hex(3)}"
    return {"id": f"m-{secrets.token_hex(3)}", "name": "M", "event_type": kind, "quantity_field": "n", **other}


NONE = {
    "percent": None,
    "rate_window": None,
    "time_unit": None,
    "operation_field": "",
    "carries_over": False,
    "expression": "",
    "late": {"kind": "next_invoice"},
}

BAD: dict[str, tuple[list[Any], set[str]]] = {
    "six": (list("abcdef"), {"dimensions"}),
    "an empty name": (["a", ""], {"dimensions.1"}),
    "a long name": (["x" * 101], {"dimensions.0"}),
    "twice the same": (["a", "b", "a"], {"dimensions.2"}),
    "the quantity": (["a", "n"], {"dimensions.1"}),
    "more bytes than a key holds": (["€" * 50 + no for no in "123"], {"dimensions"}),
    "a number": ([1], {"dimensions.0"}),
    "several faults": (["", "n", "ok", "ok"], {"dimensions.0", "dimensions.1", "dimensions.3"}),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_dimensions_are_refused_with_their_place(front: Front, name: str) -> None:
    dimensions, fields = BAD[name]
    body = meter(dimensions=dimensions)
    refusal = await front.refused("POST", "/v1/meters", body, status=422)
    assert set(refusal["fields"]) == fields, refusal["errors"]
    assert body["id"] not in [m["id"] for m in await front.get("/v1/meters")]


async def test_the_most_that_a_meter_may_have(front: Front) -> None:
    body = meter(dimensions=["x" * 100, "a", "b", "c", "ü"], per_event=True)
    made = {**body, "unit": "", "resolution": "hour", "aggregation": "sum", "filters": [], **NONE}
    assert await front.post("/v1/meters", body) == made
    assert made in await front.get("/v1/meters")
    assert await front.get(f"/v1/meters/{made['id']}") == made


async def test_filters_are_shown_as_they_were_given_and_let_events_pass(front: Front) -> None:
    given = [
        {"field": "region", "among": ["eu"], "without": False},
        {"field": "ok", "among": ["false"], "without": True},
    ]
    made = await front.post("/v1/meters", meter(filters=given, aggregation="max", resolution="day"))
    assert (made["filters"], made["aggregation"]) == (given, "max")
    [shown] = [m for m in (await front.get("/v1/catalog"))["meters"] if m["meter_id"] == made["id"]]
    assert (shown["filters"], shown["aggregation"], shown["resolution"]) == (given, "max", "day")
    await front.api.put("/v1/catalog", json={"meters": [shown]})
    assert [m for m in await front.get("/v1/meters") if m["id"] == made["id"]] == [made]
    customer, kind = await front.customer(), made["event_type"]
    sent = [(5, "eu", True), (9, "us", True), (7, "eu", False), (3, "eu", None)]
    events = [event(subject=customer, type=kind, data={"n": n, "region": region, "ok": ok}) for n, region, ok in sent]
    assert await send(front, events) == {"accepted": 4}
    [total] = await front.get(f"/v1/customers/{customer}/usage?since=2026-01-01&until=2026-02-01")
    assert total["quantity"] == "5"


WRONG_COUNTING: dict[str, tuple[dict[str, Any], set[str]]] = {
    "count of a field": ({"aggregation": "count"}, {"quantity_field"}),
    "sum of nothing": ({"quantity_field": ""}, {"quantity_field"}),
    "single events of a maximum": ({"aggregation": "max", "per_event": True}, {"per_event"}),
    "a filter of nothing": ({"filters": [{"field": "", "among": []}]}, {"filters.0.field", "filters.0.among"}),
    "too many filters": ({"filters": [{"field": "x", "among": ["y"]}] * 11}, {"filters"}),
    "a long value": ({"filters": [{"field": "x", "among": ["y" * 101]}]}, {"filters.0.among"}),
    "no type": ({"event_type": ""}, {"event_type"}),
    "no aggregation": ({"aggregation": "median"}, {"aggregation"}),
}


@pytest.mark.parametrize("name", WRONG_COUNTING)
async def test_meters_that_cannot_count_are_refused_with_their_place(front: Front, name: str) -> None:
    other, fields = WRONG_COUNTING[name]
    refusal = await front.refused("POST", "/v1/meters", meter(**other), status=422)
    assert set(refusal["fields"]) == fields, refusal["errors"]


VALUES: dict[str, tuple[str, str | None]] = {
    "text": ('"eu"', "eu"),
    "a hundred characters": (json.dumps("Ü" * 100), "Ü" * 100),
    "empty": ('""', ""),
    "a number": ("1.50", "1.50"),
    "a large number": ("9" * 100, "9" * 100),
    "a small number": ("-1e-30", "-0." + "0" * 29 + "1"),
    "true": ("true", "true"),
    "null": ("null", None),
}


@pytest.mark.parametrize("name", VALUES)
async def test_good_values_are_kept_as_text(front: Front, name: str) -> None:
    written, kept = VALUES[name]
    made = await front.post("/v1/meters", meter(dimensions=["x"]))
    customer = await front.customer()
    body = json.dumps({"events": [event(subject=customer, type=made["event_type"], data={"n": 2, "x": "@"})]})
    answer = await front.api.post("/v1/events", content=body.replace('"@"', written).encode())
    assert answer.json()["accepted"] == 1, answer.text
    [total] = await front.get(f"/v1/customers/{customer}/usage?since=2026-01-01&until=2026-02-01")
    properties = {} if kept is None else {"x": kept}
    assert total["by_properties"] == [{"properties": properties, "quantity": "2", "events": 1}]


WRONG: dict[str, Any] = {
    "a hundred and one characters": "x" * 101,
    "a number of a hundred and one digits": int("9" * 101),
    "a list": ["eu"],
    "an object": {"is": "eu"},
}


@pytest.mark.parametrize("name", WRONG)
async def test_wrong_values_are_refused_with_their_place(front: Front, name: str) -> None:
    """Once, though two meters keep the field apart; and with a quantity or without."""
    made = await front.post("/v1/meters", meter(dimensions=["x"]))
    await front.post("/v1/meters", meter(dimensions=["y", "x"], event_type=made["event_type"], per_event=True))
    before = front.rows("select count(*) from usage_event")
    kind = made["event_type"]
    batch = [event(type=kind, data={"n": 1, "x": WRONG[name]}), event(type=kind, data={"x": WRONG[name]})]
    refusal = await front.refused("POST", "/v1/events", {"events": batch}, status=422, code="invalid_events")
    assert [e["field"] for e in refusal["errors"]] == ["events.0.data.x", "events.1.data.x"]
    assert front.rows("select count(*) from usage_event") == before


@pytest.mark.parametrize("quantity", [10**30, -(10**30), "5", True, [5]], ids=repr)
async def test_quantities_of_single_events_have_the_bounds_of_all(front: Front, quantity: Any) -> None:
    made = await front.post("/v1/meters", meter(per_event=True))
    batch = [event(type=made["event_type"], data={"n": quantity})]
    refusal = await front.refused("POST", "/v1/events", {"events": batch}, status=422, code="invalid_events")
    assert set(refusal["fields"]) == {"events.0.data.n"}


async def test_totals_are_shown_by_properties_where_a_meter_keeps_them(front: Front) -> None:
    kind = (made := await front.post("/v1/meters", meter(dimensions=["size", "region"], per_event=True)))["event_type"]
    plain = await front.post("/v1/meters", meter(event_type=kind))
    customer = await front.customer()
    sent: list[tuple[int, dict[str, Any]]] = [
        (3, {"region": "us"}),
        (5, {"region": "eu", "size": 2}),
        (5, {"region": "eu", "size": 2}),
        (7, {"region": "eu", "size": 2, "time": "2026-01-06T12:00:00Z"}),
        (11, {}),
        (100, {"region": "eu", "time": "2026-02-02T12:00:00Z"}),
    ]
    events = [
        event(subject=customer, type=kind, time=data.pop("time", "2026-01-05T12:00:00Z"), data={"n": n, **data})
        for n, data in sent
    ]
    assert (await send(front, events))["accepted"] == 6
    found = await front.get(f"/v1/customers/{customer}/usage?since=2026-01-01&until=2026-02-01")
    days = {"2026-01-05": "24", "2026-01-06": "7"}
    by_properties = [
        {"properties": {}, "quantity": "11", "events": 1},
        {"properties": {"region": "eu", "size": "2"}, "quantity": "17", "events": 3},
        {"properties": {"region": "us"}, "quantity": "3", "events": 1},
    ]
    assert sorted(found, key=lambda t: len(t["by_properties"])) == [
        {"meter": plain["id"], "quantity": "31", "days": days, "by_properties": []},
        {"meter": made["id"], "quantity": "31", "days": days, "by_properties": by_properties},
    ]


UNFIT: dict[str, tuple[dict[str, Any], set[str]]] = {
    "no percent": ({"aggregation": "percentile"}, {"percent"}),
    "all": ({"aggregation": "percentile", "percent": 100}, {"percent"}),
    "none": ({"aggregation": "percentile", "percent": "0"}, {"percent"}),
    "too fine": ({"aggregation": "percentile", "percent": "99.99999"}, {"percent"}),
    "a percent of a sum": ({"percent": 95}, {"percent"}),
    "no window": ({"aggregation": "peak_rate"}, {"rate_window"}),
    "a window of a sum": ({"rate_window": "hour"}, {"rate_window"}),
    "a window longer than what is kept": (
        {"aggregation": "peak_rate", "rate_window": "hour", "resolution": "minute"},
        {"rate_window"},
    ),
    "no such window": ({"aggregation": "peak_rate", "rate_window": "day"}, {"rate_window"}),
    "events apart": ({"aggregation": "peak_rate", "rate_window": "hour", "per_event": True}, {"per_event"}),
    "no unit of time": ({"aggregation": "weighted_sum"}, {"time_unit"}),
    "a unit of time of a sum": ({"time_unit": "hour"}, {"time_unit"}),
    "no such unit of time": ({"aggregation": "weighted_sum", "time_unit": "week"}, {"time_unit"}),
    "what carries over anyway": (
        {"aggregation": "weighted_sum", "time_unit": "hour", "carries_over": True},
        {"carries_over"},
    ),
    "a peak that carries over": ({"aggregation": "max", "carries_over": True}, {"carries_over"}),
    "values that are never removed": ({"aggregation": "unique", "carries_over": True}, {"carries_over"}),
    "single events that carry over": ({"per_event": True, "carries_over": True}, {"carries_over"}),
    "operations of a sum": ({"operation_field": "what"}, {"operation_field"}),
    "a long operation": ({"aggregation": "unique", "operation_field": "w" * 101}, {"operation_field"}),
    "an operation that is the value": ({"aggregation": "unique", "operation_field": "n"}, {"operation_field"}),
    "an operation that is a dimension": (
        {"aggregation": "unique", "operation_field": "what", "dimensions": ["what"]},
        {"operation_field"},
    ),
    "a formula beside a field": ({"expression": "2 * m"}, {"quantity_field"}),
    "a formula that is none": ({"quantity_field": "", "expression": "2 * "}, {"expression"}),
    "a formula that calls": ({"quantity_field": "", "expression": "exit(1)"}, {"expression"}),
    "a formula of no field": ({"quantity_field": "", "expression": "2 * 3"}, {"expression"}),
    "a formula that divides by zero": ({"quantity_field": "", "expression": "a / 0"}, {"expression"}),
    "a long formula": ({"quantity_field": "", "expression": " + ".join("a" * 26)}, {"expression"}),
    "a formula to count by": ({"quantity_field": "", "expression": "a", "aggregation": "count"}, {"expression"}),
    "a formula of values": ({"quantity_field": "", "expression": "a", "aggregation": "unique"}, {"expression"}),
}


@pytest.mark.parametrize("name", UNFIT)
async def test_what_does_not_go_with_the_aggregation_is_refused(front: Front, name: str) -> None:
    other, fields = UNFIT[name]
    refusal = await front.refused("POST", "/v1/meters", meter(**other), status=422)
    assert set(refusal["fields"]) == fields, refusal["errors"]


async def test_percentiles_and_peaks_are_live(front: Front) -> None:
    slow = meter(aggregation="percentile", percent="50")
    busy = meter(aggregation="peak_rate", rate_window="minute", event_type=slow["event_type"], resolution="minute")
    calls = {key: value for key, value in busy.items() if key != "quantity_field"} | {"id": f"{busy['id']}-calls"}
    for body in (slow, busy, calls):
        assert await front.post("/v1/meters", body) in await front.get("/v1/meters")
        await front.post("/v1/meters", body)
    customer = await front.customer()
    sent = [
        event(subject=customer, type=slow["event_type"], time=f"2026-01-10T10:{minute}Z", data={"n": n})
        for minute, n in (("00:01", 300), ("00:59", 5), ("01:00", 304), ("02:00", 299))
    ]
    assert await send(front, sent) == {"accepted": 4}
    totals = await front.get(f"/v1/customers/{customer}/usage?since=2026-01-01&until=2026-02-01")
    assert {total["meter"]: total["quantity"] for total in totals} == {
        slow["id"]: "298",
        busy["id"]: "305",
        calls["id"]: "2",
    }
    windows = f"/v1/customers/{customer}/usage/windows?since=2026-01-01&until=2026-02-01"
    [hour] = await front.get(f"{windows}&meter={busy['id']}&window=hour")
    assert (hour["quantity"], hour["events"]) == ("305", 4)
    [day] = await front.get(f"{windows}&meter={slow['id']}&window=day")
    assert (day["quantity"], day["events"]) == ("298", 4)
