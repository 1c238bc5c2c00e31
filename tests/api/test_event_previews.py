"""What a batch of events would change is said in quantity and money before it is sent, and nothing of it is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.conftest import Front
from tests.api.test_events import event, send

pytestmark = pytest.mark.anyio


async def tried(front: Front, events: list[dict[str, Any]], query: str = "?whatever_time=true") -> Any:
    headers = {"content-type": "application/json"}
    return await front.api.post(f"/v1/events/preview{query}", content=json.dumps({"events": events}), headers=headers)


async def test_days_and_outcomes_are_told_and_nothing_is_kept(front: Front) -> None:
    customer = await front.customer()
    known, new, other = event(subject=customer), event(subject=customer), event(subject=customer)
    await send(front, [known])
    events = [known, {**known, "data": {"n": 7}}, new, other, {**new, "id": "x", "data": {"n": "many"}}]
    for _ in range(2):
        said = (await tried(front, [*events, event(subject=f"no-{customer}")])).json()
        assert [said[k] for k in ("accepted", "duplicate", "conflict", "quarantined", "invalid")] == [2, 1, 1, 1, 1]
        [one] = said["customers"]
        [day] = [day for day in one["days"] if day["meter"] == "tokens"]
        assert one["customer_id"] == customer and one["money"] == []
        assert (day["day"], day["before"], day["after"]) == ("2026-01-05", "1", "3")
    assert await send(front, [new, other]) == {"accepted": 2}
    assert (await tried(front, [new])).json()["customers"] == []


async def test_what_cannot_be_read_is_refused_as_when_it_is_sent(front: Front) -> None:
    answer = await tried(front, [{**event(), "time": "yesterday"}])
    assert answer.status_code == 422 and answer.json()["errors"][0]["field"] == "events.0.time"
    assert (await tried(front, [event()], "?whatever_time=perhaps")).status_code == 422
    assert (await tried(front, [event()], "")).status_code == 200
