"""Test clocks: everyone in order, never backwards, extended on the way, and never turning on the spot for ever."""

from __future__ import annotations

import anyio
import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError

from tests.workflows.stage import Stage, at, one, rows

pytestmark = pytest.mark.anyio


async def test_at_one_moment_lifecycle_comes_before_billing_before_collection_before_the_close(stage: Stage) -> None:
    """Midnight of 5 February: an amendment, a period's end, a dunning day and January's close."""
    await stage.january()
    house = stage.house
    await stage.sign(starts_on="2026-01-05")
    await house.advance("clk", at(20))
    await house.post(
        "/v1/subscriptions/sub/amendments", {"id": "amd", "discount_percent": 50, "effective_on": "2026-02-05"}
    )
    house.gateway.expect("cus", "insufficient_funds")
    moment = one(house.engine, "select due_at from agenda where kind = 'close'")
    assert moment == one(house.engine, "select due_at from agenda where cause = 'amd'")
    await house.advance("clk", at(4, 2, hour=22))
    before = one(house.engine, "select count(*) from invoice")
    await house.advance("clk", at(5, 2))
    assert one(house.engine, "select count(*) from invoice") == before + 1
    newest = (await stage.invoices())[-1]
    assert newest["net_minor"] == 5_000  # the amendment of that day was in force when it was billed
    started = [(run.start_time, run.id) async for run in house.client.list_workflows("")]
    order = [name.split("/")[0] for when, name in sorted(started) if when and name.startswith(("close", "billing-run"))]
    assert order.index("billing-run") < order.index("close")


async def test_a_clock_does_not_go_back(stage: Stage) -> None:
    await stage.january()
    await stage.house.advance("clk", at(3))
    refused = await stage.house.api.post("/v1/test-clocks/clk/advance", json={"to": at(2).isoformat()})
    assert (refused.status_code, refused.json()["code"]) == (422, "clock_back")
    handle = stage.house.client.get_workflow_handle("clock/clk")
    with pytest.raises(Exception, match="update failed"):
        await handle.execute_update("advance", at(2))
    assert await stage.status("clock/clk") is WorkflowExecutionStatus.RUNNING
    await stage.house.advance("clk", at(4))


async def test_sent_further_while_it_moves_it_goes_all_the_way_and_never_stops_short(stage: Stage) -> None:
    await stage.january()
    await stage.sign()
    for day in (5, 12, 25):
        await stage.house.post("/v1/test-clocks/clk/advance", {"to": at(day).isoformat()})
    await stage.house.post("/v1/test-clocks/clk/advance", {"to": at(3, 2).isoformat()})
    await stage.house.post("/v1/test-clocks/clk/advance", {"to": at(20).isoformat()})  # on the way: nothing new
    await stage.house.advance("clk", at(3, 2))
    assert (await stage.house.get("/v1/test-clocks/clk"))["now"] == "2026-02-03T09:00:00Z"
    assert len(await stage.invoices()) == 2


async def test_what_stays_due_for_ever_stops_the_clock_and_is_seen_and_mended(stage: Stage) -> None:
    """An agenda row of a kind that a close does not do: it is woken, answers, and is due again."""
    await stage.january()
    house = stage.house
    await house.advance("clk", at(2))
    subject = "close/acme/2025-12"
    rows(house.engine, "insert into ledger_period (entity_id, month, state) values ('acme', '2025-12-01', 'closing')")
    rows(house.engine, "insert into month_close values ('acme', '2025-12-01', 'awaiting approval', now())")
    rows(
        house.engine,
        "insert into agenda select %s, 'a bug', due_at - interval '30 days', 90, kind, entity_id, clock_id from agenda",
        subject,
    )
    rows(house.engine, "create function forget() returns trigger language plpgsql as 'begin return null; end'")
    rows(
        house.engine,
        "create trigger forget before update on agenda for each row when (old.cause = 'a bug')"
        " execute function forget()",
    )
    await house.post("/v1/test-clocks/clk/advance", {"to": at(9).isoformat()})
    clock = house.client.get_workflow_handle("clock/clk")
    with anyio.fail_after(40), pytest.raises(WorkflowFailureError) as failure:
        await clock.result()
    assert subject in str(failure.value.cause)
    assert (await house.get("/v1/test-clocks/clk"))["moving"]

    rows(house.engine, "drop trigger forget on agenda")
    rows(house.engine, "delete from agenda where cause = 'a bug'")
    await house.advance("clk", at(9))
    assert await stage.status("clock/clk") is WorkflowExecutionStatus.RUNNING


async def test_a_root_that_was_parked_is_billed_at_the_same_moment_once_it_is_mended(stage: Stage) -> None:
    """The clock has not moved since: the run is opened again and must not answer with what it did before."""
    await stage.january()
    house = stage.house
    abroad = {"id": "abroad", "name": "Lointain", "email": "l@l.example", "country": "FR", "time_zone": "Europe/Berlin"}
    await house.post("/v1/customers", abroad)
    await house.put("/v1/customers/abroad/payment-method", {"gateway": "pretend", "token": "pm_card_visa"})
    await stage.sign("fine")
    await stage.sign("stuck", "abroad")
    await house.advance("clk", at(20))
    rows(house.engine, "create table put_aside as select * from tax_rate where country = 'FR'")
    rows(house.engine, "delete from tax_rate where country = 'FR'")
    await house.advance("clk", at(31, hour=23))
    (task,) = await stage.until(stage.tasks, "somebody to be asked for the rate")

    await stage.answer(task, "not mended yet")
    await house.post("/v1/test-clocks/clk/advance", {"to": at(31, hour=23).isoformat()})
    (again,) = await stage.until(stage.tasks, "the same question once more, at the same moment")
    assert again["id"] != task["id"] and "No tax rate is known for FR" in again["reason"]
    rows(house.engine, "insert into tax_rate select * from put_aside")
    await stage.answer(again, "the rate is there")
    await house.advance("clk", at(2, 2))
    billed = [(d["customer_id"], d["net_minor"]) for d in await stage.invoices()]
    assert sorted(billed) == [("abroad", 10_000)] * 2 + [("cus", 10_000)] * 2
    assert len(house.gateway.charges) == 4
