"""Meters of levels and of formulas at the door: what is asked, what is wrong, and what they show."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest

from tests.api.conftest import Front
from tests.api.test_events import event, send
from tests.api.test_meters import meter

pytestmark = pytest.mark.anyio

JANUARY = "since=2026-01-01&until=2026-02-01"
SHOWN = [
    meter(aggregation="weighted_sum", time_unit="hour"),
    meter(aggregation="unique", operation_field="what", carries_over=True),
    meter(aggregation="unique", operation_field="what"),
    meter(carries_over=True, dimensions=["region"]),
    meter(aggregation="latest", carries_over=True),
    meter(quantity_field="", expression="(input + 4 * output) / 1000", aggregation="max"),
]


@pytest.mark.parametrize("body", SHOWN, ids=lambda body: str(sorted(body)))
async def test_they_are_shown_and_published_as_they_were_made(front: Front, body: dict[str, Any]) -> None:
    body = {**body, "id": f"m-{secrets.token_hex(3)}"}
    made = await front.post("/v1/meters", body)
    assert body.items() <= made.items()
    assert await front.post("/v1/meters", body) == made
    assert made in await front.get("/v1/meters")
    [shown] = [m for m in (await front.get("/v1/catalog"))["meters"] if m["meter_id"] == made["id"]]
    again = {**shown, "meter_id": f"m-{secrets.token_hex(3)}"}
    assert (await front.api.put("/v1/catalog", json={"meters": [again]})).json() == [
        {"kind": "meter", "id": again["meter_id"], "what": "new", "version": None}
    ]
    [published] = [m for m in await front.get("/v1/meters") if m["id"] == again["meter_id"]]
    assert {**published, "id": made["id"]} == made


async def used(front: Front, made: dict[str, Any], *sent: tuple[str, dict[str, Any]]) -> str:
    customer = await front.customer()
    events = [event(subject=customer, type=made["event_type"], time=f"{at}+01:00", data=data) for at, data in sent]
    assert await send(front, events) == {"accepted": len(sent)}
    return customer


async def test_a_level_is_shown_where_nothing_happened(front: Front) -> None:
    """10 GB from Christmas on; on the 2nd 2 more at six in the morning, at noon everything goes."""
    made = await front.post("/v1/meters", meter(aggregation="weighted_sum", time_unit="hour", resolution="minute"))
    customer = await used(
        front,
        made,
        ("2025-12-24T18:00:00", {"n": 10}),
        ("2026-01-02T06:00:00", {"n": 2}),
        ("2026-01-02T12:00:00", {"n": -12}),
    )
    [total] = await front.get(f"/v1/customers/{customer}/usage?{JANUARY}")
    assert (total["quantity"], total["days"]) == ("372", {"2026-01-02": "132"})
    at = f"/v1/customers/{customer}/usage/windows?meter={made['id']}"
    days = await front.get(f"{at}&{JANUARY}&window=day")
    assert [(w["starts_at"], w["quantity"], w["events"]) for w in days] == [
        ("2025-12-31T23:00:00Z", "240", 0),
        ("2026-01-01T23:00:00Z", "132", 2),
    ]
    [month] = await front.get(f"{at}&{JANUARY}&window=month")
    assert (month["quantity"], month["events"]) == ("372", 2)
    hours = await front.get(f"{at}&since=2026-01-02&until=2026-01-04&window=hour")
    assert [(w["quantity"], w["events"]) for w in hours] == [("10", 0)] * 6 + [("12", 1)] + [("12", 0)] * 5 + [("0", 1)]
    minutes = await front.get(f"{at}&since=2026-01-02&until=2026-01-03&window=minute")
    assert len(minutes) == 12 * 60 + 1
    assert minutes[0]["quantity"] == "0.166666667"
    [week, _] = await front.get(f"{at}&since=2025-12-27&until=2026-01-04&window=week")
    assert (week["starts_at"], week["quantity"]) == ("2025-12-21T23:00:00Z", "480")


async def test_seats_are_told_apart_and_carried_over(front: Front) -> None:
    made = await front.post(
        "/v1/meters",
        meter(aggregation="unique", operation_field="what", carries_over=True, dimensions=["plan"]),
    )
    pro, free = {"plan": "pro"}, {"plan": "free"}
    customer = await used(
        front,
        made,
        ("2025-12-30T08:00:00", {"n": "anna", "what": "add", **pro}),
        ("2025-12-30T09:00:00", {"n": "ben", "what": "add", **free}),
        ("2026-01-05T08:00:00", {"n": "cem", "what": "add", **pro}),
        ("2026-01-06T08:00:00", {"n": "ben", "what": "remove", **free}),
        ("2026-01-06T08:30:00", {"n": "ben", **free}),
    )
    [total] = await front.get(f"/v1/customers/{customer}/usage?{JANUARY}")
    assert (total["quantity"], total["days"]) == ("2", {"2026-01-05": "3", "2026-01-06": "2"})
    assert total["by_properties"] == [
        {"properties": free, "quantity": "0", "events": 1},
        {"properties": pro, "quantity": "2", "events": 1},
    ]
    at = f"/v1/customers/{customer}/usage/windows?meter={made['id']}&since=2026-01-04&until=2026-01-08&window=day"
    assert [w["quantity"] for w in await front.get(at)] == ["2", "3", "2", "2"]
    apart = [(w["properties"], w["quantity"], w["events"]) for w in await front.get(at + "&by=plan")]
    first, second, third, fourth = (free, "1", 0), (pro, "1", 0), (free, "0", 1), (pro, "2", 0)
    assert apart == [first, second, first, (pro, "2", 1), third, fourth, fourth]
    audit = await front.get(f"/v1/customers/{customer}/usage/audit?meter={made['id']}&{JANUARY}")
    assert (audit["accepted"], audit["counted"], audit["uncounted"]) == (3, 2, 1)


async def test_an_operation_that_is_none_is_told_to_the_sender(front: Front) -> None:
    made = await front.post("/v1/meters", meter(aggregation="unique", operation_field="what"))
    batch = [event(type=made["event_type"], data={"n": "a", "what": what}) for what in ("added", 1, True, ["add"], "")]
    refusal = await front.refused("POST", "/v1/events", {"events": batch}, status=422, code="invalid_events")
    assert [e["field"] for e in refusal["errors"]] == [f"events.{no}.data.what" for no in range(5)]
    assert {e["reason"] for e in refusal["errors"]} == {f"must be add or remove (meter {made['id']})"}


WRONG: dict[str, tuple[str, str]] = {
    "divided by nothing": ('{"a": 1, "b": 0}', "data"),
    "too large": ('{"a": 1e29, "b": 0.01}', "data"),
    "text": ('{"a": 1, "b": "2"}', "data.b"),
    "truth, though another field is missing": ('{"a": true}', "data.a"),
    "a number out of bounds": (f'{{"a": {10**30}, "b": 1}}', "data.a"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_a_formula_cannot_do_is_told_to_the_sender(front: Front, name: str) -> None:
    data, field = WRONG[name]
    made = await front.post("/v1/meters", meter(quantity_field="", expression="a / b"))
    raw = json.dumps(event(type=made["event_type"], data="@")).replace('"@"', data).encode()
    if name == "a number out of bounds":
        refusal = await front.refused("POST", "/v1/events", raw, status=422)
        assert set(refusal["fields"]) == {f"events.0.{field}"}, refusal
        return
    refusal = await front.refused("POST", "/v1/events", raw, status=422, code="invalid_events")
    assert [e["field"] for e in refusal["errors"]] == [f"events.0.{field}"]


async def test_a_formula_counts_what_has_all_its_fields(front: Front) -> None:
    """Two thirds have no end: fifteen decimals, ties away from zero."""
    made = await front.post("/v1/meters", meter(quantity_field="", expression="(a + 4 * b) / 3"))
    customer = await used(
        front,
        made,
        ("2026-01-05T08:00:00", {"a": 1, "b": 1}),
        ("2026-01-05T08:00:00", {"a": 1}),
        ("2026-01-06T08:00:00", {"a": 2, "b": 0}),
    )
    [total] = await front.get(f"/v1/customers/{customer}/usage?{JANUARY}")
    assert total["days"] == {"2026-01-05": "1.666666666666667", "2026-01-06": "0.666666666666667"}
    audit = await front.get(f"/v1/customers/{customer}/usage/audit?meter={made['id']}&{JANUARY}")
    assert (audit["counted"], audit["uncounted"]) == (2, 1)


def gigabytes(meter_id: str) -> dict[str, object]:
    """An item of 2 a unit."""
    price = {"kind": "per_unit", "rate": "2"}
    return {"key": "gb", "name": "GB", "basis": "meter", "meter": meter_id, "price": price}


async def test_a_price_is_not_tried_with_events_of_which_the_time_is_missing(front: Front) -> None:
    made = await front.post("/v1/meters", meter(aggregation="weighted_sum", time_unit="hour"))
    events = [{"type": made["event_type"], "data": {"n": 1}}]
    body = {"item": gigabytes(made["id"]), "currency": "EUR", "events": events}
    refusal = await front.refused("POST", "/v1/prices/preview", body, status=422, code="invalid_usage")
    assert set(refusal["fields"]) == {"events"}
    priced = await front.post(
        "/v1/prices/preview", {**body, "events": [], "usage": [{"meter": made["id"], "quantity": "720"}]}
    )
    assert priced["net"] == "1440.00"


async def test_a_price_is_tried_with_events_that_say_when_they_happened(front: Front) -> None:
    """One gigabyte of before for all of January and two more for its last day; of February nothing counts."""
    made = await front.post("/v1/meters", meter(aggregation="weighted_sum", time_unit="hour"))
    moments = (("2025-06-01T00:00:00Z", 1), ("2026-01-31T00:00:00Z", 2), ("2026-02-01T00:00:00Z", 99))
    events = [{"type": made["event_type"], "data": {"n": n}, "time": at} for at, n in moments]
    body = {"item": gigabytes(made["id"]), "currency": "EUR", "starts_on": "2026-01-01", "events": events}
    priced = await front.post("/v1/prices/preview", body)
    [line] = priced["lines"]
    assert (line["quantity"], priced["net"]) == (str(31 * 24 + 2 * 24), "1584.00")
    assert "Level 1 at the start, changed by 2 in 1 event, 3 at the end" in " ".join(line["explanation"])
    body |= {"usage": [{"meter": made["id"], "quantity": "720"}]}
    refusal = await front.refused("POST", "/v1/prices/preview", body, status=422, code="invalid_usage")
    assert set(refusal["fields"]) == {f"usage.{made['id']}"}
