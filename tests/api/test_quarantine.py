"""Quarantine at the door: times out of bounds wait and say so, and count once somebody says that they are meant."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import anyio
import pytest

from api.access import Doors
from billing.time_bounds import TimeBounds
from tests.api.conftest import Front
from tests.api.test_events import event, send, total

pytestmark = pytest.mark.anyio

BACK, AHEAD = "lies more than 400 days back", "lies more than 24 hours ahead"


@pytest.fixture
async def bounded(front: Front) -> AsyncIterator[Front]:
    """With the bounds that are the default."""
    before = front.house.app.state.doors
    bounds = TimeBounds(timedelta(days=400), timedelta(hours=24))
    front.house.app.state.doors = Doors.open(front.house.engine, front.house.client, bounds)
    yield front
    front.house.app.state.doors.close()
    front.house.app.state.doors = before


def ago(**length: float) -> str:
    return (datetime.now(UTC) - timedelta(**length)).isoformat()


async def waiting(front: Front, **asked: str) -> list[Any]:
    found = await front.get("/v1/quarantine?limit=1000" + "".join(f"&{k}={v}" for k, v in asked.items()))
    return list(found["events"])


async def test_times_out_of_bounds_wait_until_they_are_said_to_be_meant(bounded: Front) -> None:
    customer = await bounded.customer()
    events = [
        event(subject=customer, time=ago(days=3 * 365), data={"n": 1}),
        event(subject=customer, time=ago(minutes=1), data={"n": 2}),
        event(subject=customer, time=ago(days=-30), data={"n": 4}),
    ]
    answer = await bounded.post("/v1/events", {"events": events})
    assert (answer["accepted"], answer["quarantined"]) == (1, 2)
    assert answer["events"] == [
        {"index": 0, "outcome": "quarantined", "reason": BACK, "field": "time"},
        {"index": 2, "outcome": "quarantined", "reason": AHEAD, "field": "time"},
    ]
    assert await total(bounded, customer) == 2
    found = {one["id"]: one for one in await waiting(bounded, subject=customer, field="time")}
    assert {name: (one["reason"], one["customer_id"]) for name, one in found.items()} == {
        events[0]["id"]: (BACK, customer),
        events[2]["id"]: (AHEAD, customer),
    }
    assert await waiting(bounded, subject=customer, field="subject") == []
    [mine] = [one for one in await bounded.get("/v1/usage/of-nobody?limit=100") if one["subject"] == customer]
    assert (mine["customer_id"], mine["events"]) == (customer, 2)
    reasons = {(one["field"], one["reason"], one["events"]) for one in mine["reasons"]}
    assert reasons == {("time", BACK, 1), ("time", AHEAD, 1)}
    replay = {"subject": customer}
    again = await bounded.post("/v1/quarantine/replay", replay)
    assert (again["waiting_before"], again["quarantined"]) == (2, 2)
    meant = await bounded.post("/v1/quarantine/replay", {**replay, "whatever_time": True})
    assert (meant["waiting_before"], meant["accepted"], meant["quarantined"]) == (2, 2, 0)
    nothing = await bounded.post("/v1/quarantine/replay", {**replay, "whatever_time": True})
    assert set(nothing.values()) == {0}
    assert await total(bounded, customer) == 7
    assert await waiting(bounded, subject=customer) == []


async def test_usage_from_before_is_brought_in_at_once(bounded: Front) -> None:
    """As a batch and as a stream; requests that are stored together are not mistaken for one another."""
    customer = await bounded.customer()
    old = [event(subject=customer, time=ago(days=1000 + no)) for no in range(40)]

    async def one(no: int) -> None:
        meant = "?whatever_time=true" if no % 2 else "?whatever_time=false"
        answer = await bounded.post(f"/v1/events{meant}", old[no])
        assert answer["accepted" if no % 2 else "quarantined"] == 1

    async with anyio.create_task_group() as group:
        for no in range(40):
            group.start_soon(one, no)
    assert await total(bounded, customer) == 20
    lines = "\n".join(json.dumps(one) for one in old)
    kind = {"content-type": "application/x-ndjson"}
    answer = await bounded.api.post("/v1/events?whatever_time=true", content=lines, headers=kind)
    assert (answer.json()["accepted"], answer.json()["duplicate"]) == (20, 20)
    assert await total(bounded, customer) == 40
    assert (await bounded.post("/v1/quarantine/replay", {"subject": customer}))["duplicate"] == 20
    problem = await bounded.refused("POST", "/v1/events?whatever_time=perhaps", old[0], status=422)
    assert problem["fields"] == {"whatever_time": "must be true or false"}


async def test_another_content_under_the_name_of_one_that_waits_is_a_conflict(bounded: Front) -> None:
    stranger = f"stranger-{secrets.token_hex(3)}"
    one = event(subject=stranger, time=ago(days=2))
    assert await send(bounded, [one, one]) == {"quarantined": 1, "duplicate": 1}
    answer = await bounded.api.post("/v1/events", json={"events": [{**one, "data": {"n": 2}}]})
    assert answer.status_code == 207
    [told] = answer.json()["events"]
    assert told["outcome"] == "conflict" and "another content" in told["reason"]
    assert bounded.rows("select customer_id from usage_conflict where source = 's' and id = %s", one["id"]) == [(None,)]
    customer = await bounded.customer()
    await bounded.post(f"/v1/customers/{customer}/aliases", {"alias": stranger})
    await bounded.post("/v1/quarantine/replay", {"subject": stranger})
    asked = f"/v1/customers/{customer}/usage/audit?meter=tokens&since=2026-01-01&until=2199-01-01"
    found = await bounded.get(asked)
    numbers = {name: found[name] for name in ("received", "accepted", "duplicate", "conflict", "quarantined")}
    assert numbers == {"received": 3, "accepted": 1, "duplicate": 1, "conflict": 1, "quarantined": 0}


async def test_what_waits_comes_in_pages_while_events_come_and_go(bounded: Front) -> None:
    stranger, other = (f"stranger-{secrets.token_hex(3)}" for _ in range(2))
    names = [f"{stranger}-{no}" for no in range(7)]
    for name in names:
        await bounded.post("/v1/events", event(subject=stranger, id=name))
    await bounded.post("/v1/events", event(subject=other))
    path = f"/v1/quarantine?subject={stranger}&limit=2"
    assert [one["id"] for one in await waiting(bounded, subject=stranger)] == names
    page = await bounded.get(path)
    found = [one["id"] for one in page["events"]]
    gone = [names[0], names[1], names[4]]
    bounded.rows("update usage_quarantine set replayed_at = now() where id = any(%s) returning id", gone)
    await bounded.post("/v1/events", event(subject=stranger, id=f"{stranger}-later"))
    pages = 1
    while page["next"]:
        page = await bounded.get(f"{path}&after={quote(page['next'])}")
        found += [one["id"] for one in page["events"]]
        pages += 1
    assert (pages, found) == (4, [*names[:4], *names[5:], f"{stranger}-later"])
    assert [one["id"] for one in await waiting(bounded, subject=stranger)] == [*names[2:4], *names[5:], found[-1]]
    refusal = await bounded.refused("GET", f"{path}&after=7", status=422)
    assert refusal["fields"] == {"after": "must be `next` of the page before"}


async def test_what_shall_never_count_is_discarded_with_a_reason(bounded: Front) -> None:
    customer, stranger = await bounded.customer(), f"stranger-{secrets.token_hex(3)}"
    mine = event(subject=customer, time=ago(days=2000))
    junk = [event(subject=stranger, time=ago(minutes=1)) for _ in range(3)]
    assert await send(bounded, [mine, *junk]) == {"quarantined": 4}
    path, name = "/v1/quarantine/discard", {"source": mine["source"], "id": mine["id"]}
    for _ in range(2):
        answer = await bounded.post(path, {"events": [name], "reason": " a wrong clock "})
        assert await waiting(bounded, subject=customer) == []
    assert (answer["discarded"], answer["waiting"] >= 3) == (0, True)
    [gone] = await waiting(bounded, subject=customer, discarded="true")
    assert (gone["id"], gone["discarded_because"]) == (mine["id"], "a wrong clock")
    assert gone["discarded_at"] and gone["discarded_by"]
    [left, *_] = await waiting(bounded, subject=stranger)
    assert {left[field] for field in ("discarded_at", "discarded_by", "discarded_because")} == {None}
    assert await bounded.post(path, {"subject": stranger, "reason": "junk"}) == {"discarded": 3, "waiting": 0}
    assert await bounded.post(path, {"subject": stranger, "reason": "junk"}) == {"discarded": 0, "waiting": 0}
    assert stranger not in {one["subject"] for one in await bounded.get("/v1/usage/of-nobody?limit=100")}
    await bounded.post(f"/v1/customers/{customer}/aliases", {"alias": stranger})
    replayed = await bounded.post("/v1/quarantine/replay", {"subject": stranger, "whatever_time": True})
    assert set(replayed.values()) == {0}
    assert await send(bounded, junk) == {"duplicate": 3}
    asked = f"/v1/customers/{customer}/usage/audit?meter=tokens&since=2000-01-01&until=2199-01-01"
    found = await bounded.get(asked)
    assert {name: count for name, count in found.items() if count} == {"received": 7, "duplicate": 3, "discarded": 4}


async def test_a_discard_that_is_not_clear_is_refused(bounded: Front) -> None:
    path, name = "/v1/quarantine/discard", {"source": "s", "id": f"nothing-{secrets.token_hex(3)}"}
    why = {"reason": "junk"}
    for body, fields in (
        (why, {"subject"}),
        ({"events": [name], "subject": "x", **why}, {"subject"}),
        ({"events": [name], "field": "time", **why}, {"field"}),
        ({"events": [], **why}, {"events"}),
        ({"events": [name] * 1001, **why}, {"events"}),
        ({"events": [name], "reason": "  "}, {"reason"}),
        ({"events": [name]}, {"reason"}),
        ({"subject": "", **why}, {"subject"}),
        ({"subject": "x", "field": "type", **why}, {"field"}),
    ):
        refusal = await bounded.refused("POST", path, body, status=422)
        assert set(refusal["fields"]) == fields, body
    refusal = await bounded.refused("POST", path, {"events": [name], **why}, status=409, code="not_waiting")
    assert refusal["fields"] == {"events.0.id": "no event waits under this source and id"} and refusal["remedy"]
    refusal = await bounded.refused("POST", path, {"subject": name["id"], **why}, status=409, code="not_waiting")
    assert set(refusal["fields"]) == {"subject"} and refusal["remedy"]
