"""The Subscription workflow on a real server: every way of telling it something, twice and at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from temporalio.client import WorkflowExecutionStatus

from tests.workflows.stage import Stage, at, changed, one, rows, tables

pytestmark = pytest.mark.anyio
ME = "subscription/sub"


async def running(stage: Stage) -> None:
    """Signed, activated and billed for January; it is the 10th."""
    await stage.january()
    await stage.sign(seats=1)
    await stage.house.advance("clk", at(10))


async def amend(stage: Stage, name: str, **change: object) -> object:
    return await stage.house.post("/v1/subscriptions/sub/amendments", {"id": name, **change})


async def test_an_amendment_sent_twice_and_a_tick_too_many_change_nothing(stage: Stage) -> None:
    await running(stage)
    first = await amend(stage, "amd-1", discount_percent=20)
    before = tables(stage.house.engine)
    assert await amend(stage, "amd-1", discount_percent=20) == first
    handle = stage.house.client.get_workflow_handle(ME)
    assert (await handle.execute_update("amend", "amd-1"))["accepted"]  # under another update id
    await stage.tick(ME)
    assert changed(before, tables(stage.house.engine)) == {}
    assert "active" in await stage.details(ME)


async def test_amendments_and_ticks_at_once_each_happen_once(stage: Stage) -> None:
    await running(stage)
    handle = stage.house.client.get_workflow_handle(ME)

    async def all_of(n: int) -> None:
        name = f"amd-{n}"
        answers = [amend(stage, name, discount_percent=10 + n), stage.tick(ME)]
        first, _ = await asyncio.gather(*answers)
        again = [handle.execute_update("amend", name) for _ in range(2)]
        assert await asyncio.gather(*again, stage.tick(ME)) == [first, first, None]

    await asyncio.gather(*(all_of(n) for n in range(4)))
    versions = rows(stage.house.engine, "select version, cause from subscription_terms order by 1")
    assert [version for version, _ in versions] == [1, 2, 3, 4, 5]
    assert sorted(cause for _, cause in versions[1:]) == [f"amd-{n}" for n in range(4)]


async def test_an_upgrade_and_a_cancellation_come_as_signals_and_the_end_gives_back_what_was_paid(stage: Stage) -> None:
    await running(stage)
    house = stage.house
    for _ in range(2):
        await house.post("/v1/subscriptions/sub/upgrade-requests", {"id": "up-1", "discount_percent": 50})
    await stage.until(lambda: applied(stage, "up-1"), "the upgrade")
    for _ in range(2):
        await house.post("/v1/subscriptions/sub/cancellations", {"id": "can-1", "when": "2026-01-21", "reason": "x"})
    await stage.until(lambda: ends_on(stage), "the cancellation")
    await house.post("/v1/subscriptions/sub/cancellations/withdraw", {})
    assert (await house.get("/v1/subscriptions/sub"))["ends_on"] is None
    again = await house.api.post("/v1/subscriptions/sub/cancellations/withdraw", json={})
    assert again.json()["code"] == "nothing_to_withdraw"
    await house.post("/v1/subscriptions/sub/cancellations", {"id": "can-2", "when": "2026-01-21", "reason": "x"})
    await stage.until(lambda: ends_on(stage), "the second cancellation")

    await house.advance("clk", at(25))
    assert await stage.status(ME) is WorkflowExecutionStatus.COMPLETED
    assert one(house.engine, "select state from subscription") == "ended"
    net = sorted((document["net_minor"] for document in await stage.invoices()), reverse=True)
    assert net[0] == 10_000 and sum(net) == 10_000 - round(5_000 * 22 / 31) - round(5_000 * 11 / 31)
    before = tables(house.engine)
    await stage.tick(ME)
    assert changed(before, tables(house.engine)) == {}
    assert await stage.status(ME) is WorkflowExecutionStatus.COMPLETED


async def applied(stage: Stage, amendment: str) -> bool:
    return bool(one(stage.house.engine, "select applied_at is not null from amendment where id = %s", amendment))


async def ends_on(stage: Stage) -> object:
    return (await stage.house.get("/v1/subscriptions/sub"))["ends_on"]


async def test_what_was_planned_after_the_end_does_not_happen_and_holds_nobody_up(stage: Stage) -> None:
    await running(stage)
    house = stage.house
    await amend(stage, "amd-1", discount_percent=50, effective_on="2026-02-15")
    await house.post("/v1/subscriptions/sub/cancellations", {"id": "can-1", "when": "2026-01-21", "reason": "x"})
    await stage.until(lambda: ends_on(stage), "the cancellation")
    await house.advance("clk", at(20, 2))
    assert one(house.engine, "select outcome from agenda where cause = 'amd-1'") == "dropped"
    assert one(house.engine, "select count(*) from subscription_terms") == 1
    assert sorted(t["kind"] for t in await stage.tasks()) == ["approval", "credit balance"]


async def test_one_that_is_cancelled_before_its_first_day_never_begins(stage: Stage) -> None:
    await stage.january()
    await stage.sign()
    await stage.house.post("/v1/subscriptions/sub/cancellations", {"id": "can-1", "reason": "x"})
    await stage.until(lambda: ends_on(stage), "the cancellation")
    await stage.house.advance("clk", at(20))
    assert one(stage.house.engine, "select state from subscription") == "ended"
    assert await stage.invoices() == []
    assert await stage.tasks() == []
    assert await stage.status(ME) is WorkflowExecutionStatus.COMPLETED


async def test_a_request_that_is_refused_after_its_sender_has_gone_is_a_persons_task(stage: Stage) -> None:
    """Each of them one, however often it is sent, on the clock of the subscription; and the workflow lives."""
    await running(stage)
    house = stage.house
    handle = house.client.get_workflow_handle(ME)
    rows(house.engine, "insert into amendment select 'amd-x', 'sub', '2026-01-10', 'team', 1, 1, 101, 'key', now()")
    await handle.signal("upgrade_requested", "amd-x")
    await stage.until(lambda: refused(stage, "amd-x"), "the refusal")
    await handle.signal("cancellation_requested", "nobody-knows-this")
    await handle.signal("upgrade_requested", "amd-x")
    await stage.tick(ME)
    asked = "select subject || ': ' || reason, entity_id, opened_at from task where kind = 'request'"

    async def both() -> bool:
        return len(rows(house.engine, asked)) == 2

    await stage.until(both, "the tasks")
    assert sorted(rows(house.engine, asked)) == [
        (f"{ME}/amd-x: {AMISS}", "acme", at(10)),
        (f"{ME}/nobody-knows-this: There is no cancellation 'nobody-knows-this'.", "acme", at(10)),
    ]
    assert await stage.status(ME) is WorkflowExecutionStatus.RUNNING


AMISS = "The change cannot be made as asked. discount_percent: must be between 0 and 100"


async def refused(stage: Stage, amendment: str) -> bool:
    return bool(
        one(stage.house.engine, "select answer ->> 'accepted' = 'false' from amendment where id = %s", amendment)
    )


async def test_on_the_wall_clock_one_that_starts_today_is_billed_and_charged_at_once(stage: Stage) -> None:
    await stage.company()
    today = datetime.now(UTC).date()
    await stage.sign(starts_on=today.isoformat())

    async def paid() -> bool:
        return any(document["open_minor"] == 0 for document in await stage.invoices())

    await stage.until(paid, "the first invoice to be paid")
    assert len(stage.house.gateway.charges) == 1
    before = tables(stage.house.engine)
    await stage.tick(ME)
    assert changed(before, tables(stage.house.engine)) == {}


async def test_an_idle_subscription_costs_nothing_over_three_period_ends(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    await running(stage)
    length = await stage.events(ME)
    await stage.house.advance("clk", at(3, 4))
    assert len(await stage.invoices()) == 4
    assert await stage.events(ME) == length
    total = 0
    async for found in stage.house.client.list_workflows(""):
        if found.id.startswith(("billing-run", "clock", "collection")):
            total += found.history_length
    with capsys.disabled():
        print(f"\n  {length} events for the subscription, {total} for its clock and runs, 4 invoices", end="")
