"""Stored events one by one: what no total has of them, why one is void, and files that are the same in every format."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import quote

import pyarrow.parquet
import pytest

from tests.api.conftest import Front
from tests.api.test_events import event, send
from tests.api.test_meters import meter

pytestmark = pytest.mark.anyio

MARCH = "since=2026-03-01&until=2026-04-01"
COLUMNS = "source id subject type time received_at day data meters void voided".split()


async def test_what_a_meter_does_not_count_is_listed_with_the_reason(front: Front) -> None:
    kind = meter()["event_type"]
    customer = await front.customer()
    at = {"subject": customer, "type": kind, "time": "2026-03-05T00:00:00Z"}
    early = event(**at, data={"n": 1})
    await send(front, [early])
    made = await front.post("/v1/meters", meter(event_type=kind, filters=[{"field": "model", "among": ["a"]}]))
    sent = {
        "data.n is missing": event(**at, data={"N": 5, "model": "a"}),
        "does not pass the filter on model": event(**at, data={"n": 5, "model": "b"}),
        "": event(**at, data={"n": 5, "model": "a"}),
        "void": event(**at, data={"N": 6, "model": "a"}),
        "another type": event(**at | {"type": "other"}, data={"N": 5}),
    }
    await send(front, [*sent.values()])
    wrong = {"source": "s", "id": sent["void"]["id"], "reason": "a test"}
    await front.post("/v1/events/corrections", {"corrections": [wrong]})
    path = f"/v1/customers/{customer}/events?{MARCH}&meter={made['id']}&uncounted=true"
    found: list[dict[str, Any]] = []
    after = ""
    while after is not None:
        page = await front.get(f"{path}&limit=2&after={quote(after)}")
        found += page["events"]
        after = page["next"]
    [before] = [one["uncounted_because"] for one in found if one["id"] == early["id"]]
    assert before == "does not pass the filter on model, for data.model is missing"
    reasons = {one["id"]: one["uncounted_because"] for one in found if one["id"] != early["id"]}
    assert reasons == {sent[why]["id"]: why for why in [*sent][:2]}
    audit = await front.get(f"/v1/customers/{customer}/usage/audit?meter={made['id']}&{MARCH}")
    assert (audit["uncounted"], audit["counted"], audit["voided"]) == (len(found), 1, 1)
    [counted] = (await front.get(path.replace("true", "false")))["events"]
    assert (counted["id"], counted["uncounted_because"]) == (sent[""]["id"], None)
    refused = await front.refused("GET", f"/v1/customers/{customer}/events?{MARCH}&uncounted=true", status=422)
    assert set(refused["fields"]) == {"uncounted"}


async def test_what_came_before_its_meter_is_said_to(front: Front) -> None:
    kind, customer = meter()["event_type"], await front.customer()
    await send(front, [event(subject=customer, type=kind, time="2026-03-05T00:00:00Z")])
    made = await front.post("/v1/meters", meter(event_type=kind))
    [one] = (await front.get(f"/v1/customers/{customer}/events?{MARCH}&meter={made['id']}&uncounted=true"))["events"]
    assert one["uncounted_because"] == "came before the meter was made, or it was another version"


async def corrected(front: Front) -> tuple[str, list[dict[str, Any]]]:
    """A customer and four events: one counts, one is void, of one another counts instead, and that one."""
    kind = (await front.post("/v1/meters", meter()))["event_type"]
    customer = await front.customer()
    await front.post(f"/v1/customers/{customer}/aliases", {"alias": f"alias-of-{customer}"})
    at = {"subject": f"alias-of-{customer}", "type": kind}
    events = [event(**at, time=f"2026-03-0{no}T00:00:00.5Z", data={"n": no, "say": 'a "b", c'}) for no in range(1, 5)]
    await send(front, events[:3])
    wrong = {"source": "s", "id": events[1]["id"], "reason": "a test call"}
    amended = {"source": "s", "id": events[2]["id"], "reason": "three were four", "instead": events[3]}
    await front.post("/v1/events/corrections", {"corrections": [wrong, amended]})
    return customer, events


async def test_a_void_event_says_why_by_whom_and_what_counts_instead(front: Front) -> None:
    customer, events = await corrected(front)
    found = (await front.get(f"/v1/customers/{customer}/events?{MARCH}"))["events"]
    assert [(one["id"], one["subject"]) for one in found] == [(one["id"], customer) for one in events]
    assert [one["void"] for one in found] == [False, True, True, False]
    assert found[0]["voided"] is found[3]["voided"] is None
    [(by,)] = front.rows("select distinct by_key from usage_void where customer_id = %s", customer)
    told = [found[no]["voided"] for no in (1, 2)]
    assert [(one["reason"], one["by"], one["instead"]) for one in told] == [
        ("a test call", by, None),
        ("three were four", by, {"source": "s", "id": events[3]["id"]}),
    ]
    assert all(datetime.fromisoformat(one["at"]) > datetime.fromisoformat(found[1]["received_at"]) for one in told)


async def test_files_have_the_same_columns_with_the_same_in_them(front: Front) -> None:
    customer, events = await corrected(front)
    at = f"/v1/customers/{customer}/events/export?{MARCH}&format="
    lines = [json.loads(line) for line in (await front.api.get(at + "ndjson")).text.splitlines()]
    assert [one["id"] for one in lines] == [one["id"] for one in events]
    assert {tuple(one) for one in lines} == {tuple(COLUMNS)}
    shown = (await front.get(f"/v1/customers/{customer}/events?{MARCH}"))["events"]
    assert lines == [{name: one[name] for name in COLUMNS} for one in shown]

    rows = list(csv.DictReader(io.StringIO((await front.api.get(at + "csv")).text)))
    assert [*rows[0]] == COLUMNS
    assert (rows[1]["time"], rows[1]["day"], rows[1]["void"]) == ("2026-03-02T00:00:00.500000Z", "2026-03-02", "true")
    assert (rows[0]["void"], rows[0]["voided"], rows[0]["meters"]) == ("false", "", " ".join(lines[0]["meters"]))
    read = {
        "data": json.loads,
        "void": json.loads,
        "meters": str.split,
        "voided": lambda cell: json.loads(cell or "null"),
    }
    assert [{name: read.get(name, str)(cell) for name, cell in row.items()} for row in rows] == lines

    table = pyarrow.parquet.read_table(io.BytesIO((await front.api.get(at + "parquet")).content))
    assert table.column_names == COLUMNS
    columns = table.to_pydict()
    assert columns["time"][1] == datetime(2026, 3, 2, 0, 0, 0, 500_000, UTC)
    assert (columns["day"][1], columns["void"], columns["voided"][0]) == (
        date(2026, 3, 2),
        [False, True, True, False],
        None,
    )
    for name in ("source", "id", "subject", "type", "data"):
        assert columns[name] == [row[name] for row in rows]
    assert [json.loads(one or "null") for one in columns["voided"]] == [one["voided"] for one in lines]
    assert columns["meters"] == [one["meters"] for one in lines]
