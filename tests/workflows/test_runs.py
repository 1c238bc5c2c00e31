"""Billing runs: nothing due, many batches, the same run again, and days that were missed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus

from activities import billing
from activities.billing import OpenRun
from tests.workflows.stage import Stage, changed, one, rows, tables
from workflows.billing_run import BillingRun, RunReport

pytestmark = pytest.mark.anyio


async def run(stage: Stage, name: str, cutoff: datetime | None = None) -> RunReport:
    report: RunReport = await stage.house.client.execute_workflow(
        BillingRun.run, OpenRun("acme", cutoff), id=name, task_queue="lifecycle"
    )
    return report


async def signed(stage: Stage, many: int) -> None:
    """Customers with a card and a subscription from today, none of them woken: only a run bills them."""
    await stage.company()
    today = datetime.now(UTC).date().isoformat()
    for n in range(many):
        name = f"c{n:02d}"
        await stage.house.post("/v1/customers", {"id": name, "name": name, "email": "c@c.example", "country": "DE"})
        await stage.house.put(f"/v1/customers/{name}/payment-method", {"gateway": "pretend", "token": "pm_card_visa"})
        await stage.sign(f"s{n:02d}", name, starts_on=today)


async def paid(stage: Stage) -> bool:
    found = await stage.invoices()
    return bool(found) and all(document["open_minor"] == 0 for document in found)


async def test_with_nothing_due_a_run_says_so(stage: Stage) -> None:
    await stage.company()
    assert await run(stage, "empty") == RunReport(one_run(stage), 0, 0, 0, 0, 0, 0)
    assert one(stage.house.engine, "select finished_at is not null from billing_run")


def one_run(stage: Stage) -> str:
    return str(one(stage.house.engine, "select id from billing_run order by cutoff desc limit 1"))


async def test_many_batches_in_a_window_bill_each_once_and_the_run_again_does_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two months missed: the subscriptions are put back by direct rows, as no clock on the wall can be moved."""
    monkeypatch.setattr(billing, "BATCH", 2)
    await signed(stage, 9)

    async def all_paid() -> bool:
        return len(await stage.invoices()) == 9 and await paid(stage)

    await stage.until(all_paid, "the first invoices")
    cutoff = datetime.now(UTC).replace(year=datetime.now(UTC).year + 1, day=1, month=3)
    house = stage.house
    report = await run(stage, "run-1", cutoff)
    assert report.parked == 0 and report.invoices == 9 == report.paid
    assert one(house.engine, "select count(*) from billing_batch where run_id = %s", report.run_id) == 5
    numbers = [n for (n,) in rows(house.engine, "select n from invoice_number order by n")]
    assert numbers == list(range(1, 19))
    before = tables(house.engine)
    again = await run(stage, "run-1", cutoff)
    assert (again.run_id, again.invoices, again.paid) == (report.run_id, 0, 0)
    assert changed(before, tables(house.engine)) == {}
    assert len(house.gateway.charges) == 18


async def test_two_runs_at_once_bill_each_root_once(stage: Stage) -> None:
    import asyncio

    await signed(stage, 4)

    async def all_paid() -> bool:
        return len(await stage.invoices()) == 4 and await paid(stage)

    await stage.until(all_paid, "the first invoices")
    now = datetime.now(UTC)
    cutoffs = [now.replace(year=now.year + 1, day=1, month=3, hour=hour) for hour in (1, 2, 3)]
    reports = await asyncio.gather(*(run(stage, f"run-{n}", cutoff) for n, cutoff in enumerate(cutoffs)))
    assert sum(report.invoices for report in reports) == 4
    assert one(stage.house.engine, "select count(*) from invoice") == 8
    assert len({order.invoice_id for order in stage.house.gateway.charges}) == 8


async def test_what_the_card_declines_gets_its_collection_on_the_wall_clock(stage: Stage) -> None:
    await stage.company()
    stage.house.gateway.expect("cus", "insufficient_funds")
    await stage.sign(starts_on=datetime.now(UTC).date().isoformat())

    async def collecting() -> Any:
        found = [w async for w in stage.house.client.list_workflows("WorkflowType = 'Collection'")]
        return found and found[0].status is WorkflowExecutionStatus.RUNNING and found[0]

    found = await stage.until(collecting, "the collection")
    assert "dunning" in await stage.until(lambda: stage.details(found.id), "its details")
    due = one(stage.house.engine, "select due_at - now() from agenda where kind = 'collect'")
    assert 2 <= due.days <= 3
