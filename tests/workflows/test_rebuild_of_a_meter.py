"""The Rebuild workflow in the real house: counted and compared, applied or dropped by a person, and never twice."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus

from activities.clock import Clocks
from tests.workflows.stage import Stage, at, changed, rows, tables

pytestmark = pytest.mark.anyio
ME = "rebuild/tokens"
PATH = "/v1/meters/tokens/rebuilds"


async def february(stage: Stage) -> None:
    """Three customers used tokens in January, which is billed, and in February, which is not."""
    await stage.january()
    for name in ("ada", "bob", "cy"):
        customer = {"id": name, "name": name, "email": "a@b.example", "country": "DE", "time_zone": "Europe/Berlin"}
        await stage.house.post("/v1/customers", customer)
        await stage.house.put(f"/v1/customers/{name}/payment-method", {"gateway": "pretend", "token": "pm_card_visa"})
        await stage.sign(f"sub-{name}", name)
    for name, often in (("ada", 3), ("bob", 1)):
        for no in range(often):
            await use(stage, name, f"2026-01-{10 + no}", 1000 * (no + 1), cached=no == 1)
    await stage.house.advance("clk", at(10, 2))
    for no in range(2):
        await use(stage, "ada", f"2026-02-0{no + 1}", 500, cached=no == 1)


async def use(stage: Stage, who: str, day: str, n: int, cached: bool = False) -> None:
    event = {"source": "s", "id": f"{who}-{day}-{n}", "subject": who, "type": "llm", "time": f"{day}T12:00:00Z"}
    data = {"n": n, "cached": "yes" if cached else "no"}
    await stage.house.post("/v1/events", {"events": [{**event, "data": data}]})


async def ask(stage: Stage, **body: object) -> Any:
    return await stage.house.post(PATH, {"id": "reb-1", "since": "2026-01-01"} | body)


async def reaches(stage: Stage, wanted: str, name: str = "reb-1") -> Any:
    async def there() -> Any:
        found = await stage.house.get(f"{PATH}/{name}")
        return found if found["stage"] == wanted else None

    return await stage.until(there, f"the rebuild to be {wanted}")


async def ends(stage: Stage) -> None:
    async def there() -> bool:
        return await stage.status(ME) is WorkflowExecutionStatus.COMPLETED

    await stage.until(there, "the workflow to end")


async def quantities(stage: Stage, who: str) -> dict[str, str]:
    [found] = await stage.house.get(f"/v1/customers/{who}/usage?since=2026-01-01&until=2026-03-01")
    return dict(found["days"])


NOT_CACHED = {"filters": [{"field": "cached", "among": ["yes"], "without": True}]}


async def test_a_change_is_shown_in_money_and_billed_as_shown(stage: Stage) -> None:
    await february(stage)
    await ask(stage, change=NOT_CACHED)
    found = await reaches(stage, "compared")
    assert (found["counted_events"], found["events"]) == (6, 6)
    assert (found["differing_customers"], found["differing_days"]) == (1, 2)
    assert found["money"] == [{"currency": "EUR", "late_minor": -2000, "open_minor": -500}]
    [ada] = await stage.house.get(f"{PATH}/reb-1/differences")
    assert ada["customer_id"] == "ada" and ada["money"] == found["money"]
    assert ada["days"] == [
        {"day": "2026-01-11", "before": "2000", "after": "0"},
        {"day": "2026-02-02", "before": "500", "after": "0"},
    ]
    assert (await quantities(stage, "ada"))["2026-01-11"] == "2000"
    assert "waits for a person" in await stage.details(ME)

    for _ in range(2):
        await stage.house.post(f"{PATH}/reb-1/apply", {})
    await reaches(stage, "applied")
    await ends(stage)
    assert await quantities(stage, "ada") == {"2026-01-10": "1000", "2026-01-12": "3000", "2026-02-01": "500"}
    first, second = await stage.house.get("/v1/meters/tokens/versions")
    assert (first["since"], second["since"], second["meter"]["filters"]) == (None, "2026-01-01", NOT_CACHED["filters"])
    await stage.house.advance("clk", at(2, 3))
    late = rows(stage.house.engine, "select quantity, net_minor from invoice_line where kind = 'late_usage'")
    assert late == [(Decimal(-2000), -2000)]
    again = await ask(stage, change=NOT_CACHED)
    assert again["stage"] == "applied"


async def test_dropped_it_leaves_nothing_behind(stage: Stage) -> None:
    await february(stage)
    before = tables(stage.house.engine)
    await ask(stage, change={"aggregation": "max"})
    await reaches(stage, "compared")
    refused = await stage.house.api.post(PATH, json={"id": "reb-2", "since": "2026-01-01"})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    for _ in range(2):
        await stage.house.post(f"{PATH}/reb-1/drop", {})
    await reaches(stage, "dropped")
    await ends(stage)
    assert set(changed(before, tables(stage.house.engine))) == {"meter_rebuild"}
    applied = await stage.house.api.post(f"{PATH}/reb-1/apply", json={})
    assert (applied.status_code, applied.json()["code"]) == (409, "conflict")
    await ask(stage, id="reb-2")
    assert (await reaches(stage, "compared", "reb-2"))["differing_days"] == 0


async def test_lost_at_any_stage_it_is_started_again(stage: Stage) -> None:
    """The sweep starts what has something to do; rebuilding the clocks starts what waits, and changes nothing."""
    await february(stage)
    await ask(stage, change=NOT_CACHED)
    await reaches(stage, "compared")
    handle = stage.house.client.get_workflow_handle(ME)
    await handle.terminate()
    clocks: Clocks = stage.house.hands.clocks
    before = tables(stage.house.engine)
    await clocks.rebuild()
    await stage.tick(ME)
    assert changed(before, tables(stage.house.engine)) == {}
    await handle.terminate()
    rows(stage.house.engine, "update meter_rebuild set apply_at = now(), apply_with = 'key'")
    await clocks.wake_overdue()
    await reaches(stage, "applied")
    assert (await quantities(stage, "ada"))["2026-01-12"] == "3000"


async def test_what_cannot_be_applied_any_more_waits_for_a_person_and_can_be_dropped(stage: Stage) -> None:
    """A plan that asks for a dimension is published while the rebuild without it is being looked at."""
    await february(stage)
    meter = {"id": "calls", "name": "Calls", "event_type": "llm", "quantity_field": "n", "dimensions": ["cached"]}
    await stage.house.post("/v1/meters", meter)
    path = "/v1/meters/calls/rebuilds/reb-1"
    await stage.house.post("/v1/meters/calls/rebuilds", {"id": "reb-1", "since": "2026-01-01", "change": DIMENSIONLESS})

    async def stands(wanted: str) -> bool:
        return bool((await stage.house.get(path))["stage"] == wanted)

    await stage.until(lambda: stands("compared"), "the comparison")
    price = {"kind": "matrix", "by": ["cached"], "cells": [], "default": "1"}
    cells = [{"values": ["yes"], "rate": "1"}]
    item = {"key": "calls", "name": "Calls", "basis": "meter", "meter": "calls", "price": {**price, "cells": cells}}
    await stage.house.put("/v1/plans/calls", {"name": "Calls", "currency": "EUR", "items": [item]})
    await stage.house.post(f"{path}/apply", {})

    async def asked() -> list[Any]:
        return [task for task in await stage.tasks() if task["subject"] == "rebuild/calls"]

    [task] = await stage.until(asked, "a task")
    assert "would not fit" in task["reason"]
    await stage.answer(task, "we keep the dimension")
    await stage.until(asked, "the next task")
    await stage.house.post(f"{path}/drop", {})
    await stage.until(lambda: stands("dropped"), "the rebuild to be dropped")
    assert [one["version"] for one in await stage.house.get("/v1/meters/calls/versions")] == [1]


DIMENSIONLESS = {"dimensions": []}


async def test_a_meter_that_was_made_late_is_backfilled_for_everybody(stage: Stage) -> None:
    await february(stage)
    await stage.house.post("/v1/meters", {"id": "calls", "name": "Calls", "event_type": "llm", "aggregation": "count"})
    path = "/v1/meters/calls/rebuilds"
    await stage.house.post(path, {"id": "reb-1", "since": "2026-01-01", "until": "2026-02-01"})

    async def compared() -> Any:
        found = await stage.house.get(f"{path}/reb-1")
        return found if found["stage"] == "compared" else None

    found = await stage.until(compared, "the comparison")
    assert (found["differing_customers"], found["differing_days"], found["money"]) == (2, 4, [])
    [one] = await stage.house.get(f"{path}/reb-1/differences?limit=1")
    [other] = await stage.house.get(f"{path}/reb-1/differences?limit=1&after_customer={one['customer_id']}")
    assert (one["customer_id"], other["customer_id"], other["days"]) == (
        "ada",
        "bob",
        [{"day": "2026-01-10", "before": "0", "after": "1"}],
    )
    await stage.house.post(f"{path}/reb-1/apply", {})
    total = "/v1/customers/ada/usage?since=2026-01-01&until=2026-03-01"

    async def counted() -> bool:
        return {one["meter"]: one["quantity"] for one in await stage.house.get(total)} == {
            "calls": "3",
            "tokens": "7000",
        }

    await stage.until(counted, "the totals to hold")


@pytest.mark.parametrize(
    "body, fields",
    [
        ({"since": "2026-02-01", "until": "2026-02-01"}, {"until"}),
        ({"since": "2026-01-01", "until": "2026-02-01", "change": {"per_event": True}}, {"until"}),
        ({"since": "2026-01-01", "change": {"aggregation": "percentile"}}, {"change.percent"}),
        ({"since": "2026-01-01", "change": {"aggregation": "sum"}}, {"change"}),
    ],
)
async def test_what_cannot_be_is_refused(body: dict[str, Any], fields: set[str], stage: Stage) -> None:
    await stage.january()
    answer = await stage.house.api.post(PATH, json=body)
    assert answer.status_code == 422, answer.text
    assert {fault["field"] for fault in answer.json()["errors"]} == fields, answer.text
