"""The monthly close: where it stops for a person, how it goes on, and that the ERP gets the journal once."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowUpdateFailedError

from activities.closing import Approval, Month
from billing.errors import Refused, Unavailable
from tests.workflows.stage import JANUARY, Stage, at, changed, one, rows, tables

pytestmark = pytest.mark.anyio
ME = "close/acme/2026-01"


async def stage_of(stage: Stage) -> str:
    return str(one(stage.house.engine, "select coalesce(max(stage), '') from month_close where month = '2026-01-01'"))


async def reaches(stage: Stage, wanted: str) -> None:
    async def there() -> bool:
        return await stage_of(stage) == wanted

    await stage.until(there, f"the close to be {wanted}")


async def approve(stage: Stage) -> str:
    return str((await stage.house.post("/v1/entities/acme/closes/2026-01/approve", {"by": "Carla"}))["approved_by"])


async def open_month(stage: Stage) -> None:
    await stage.january()
    await stage.sign()
    await stage.house.advance("clk", at(3, 2))


async def test_an_approval_that_comes_early_is_refused_and_the_first_one_stands(stage: Stage) -> None:
    await open_month(stage)
    house = stage.house
    too_early = await house.api.post("/v1/entities/acme/closes/2026-01/approve", json={"by": "Carla"})
    assert too_early.json()["code"] == "not_waiting"
    await house.client.start_workflow("MonthlyClose", Month("acme", JANUARY), id=ME, task_queue="lifecycle")
    handle = house.client.get_workflow_handle(ME)
    with pytest.raises(WorkflowUpdateFailedError):
        await handle.execute_update("approve", Approval(Month("acme", JANUARY), "Carla"))
    await house.advance("clk", at(6, 2))
    assert "[x] tied out" in await stage.details(ME) and "Waits for `approve`" in await stage.details(ME)
    assert await approve(stage) == "Carla"
    await reaches(stage, "locked")
    assert one(house.engine, "select approved_by from month_close") == "Carla"
    assert list(house.erp.journals) == ["acme-2026-01"]
    assert rows(
        house.engine, "select subject, due_at::date::text from agenda where kind = 'close' and done_at is null"
    ) == [("close/acme/2026-02", "2026-03-04")]
    await house.advance("clk", at(6, 3))
    assert one(house.engine, "select stage from month_close where month = '2026-02-01'") == "awaiting approval"


async def test_what_is_not_billed_parks_the_close_and_is_billed_when_it_resumes(stage: Stage) -> None:
    await open_month(stage)
    house = stage.house
    rows(house.engine, "create table put_aside as select * from tax_rate where country = 'FR'")
    rows(house.engine, "delete from tax_rate where country = 'FR'")
    abroad = {"id": "abroad", "name": "Lointain", "email": "l@l.example", "country": "FR", "time_zone": "Europe/Berlin"}
    await house.post("/v1/customers", abroad)
    await stage.sign("stuck", "abroad", plan="team")
    await house.advance("clk", at(6, 2))
    tasks = {task["kind"]: task for task in await stage.tasks()}
    assert set(tasks) == {"billing", "step"}
    assert "stuck" in tasks["step"]["reason"] and "### Parked" in await stage.details(ME)

    rows(house.engine, "insert into tax_rate select * from put_aside")
    await stage.answer(tasks["billing"], "the rate is there")
    await stage.answer(tasks["step"], "bill again")
    await reaches(stage, "awaiting approval")
    assert one(house.engine, "select count(*) from invoice where customer_id = 'abroad'") == 1


async def test_a_tie_out_that_differs_parks_until_it_is_mended(stage: Stage) -> None:
    await open_month(stage)
    house = stage.house
    rows(house.engine, "update account_total set debit_minor = debit_minor + 5 where account = '1100'")
    await house.advance("clk", at(6, 2))
    (task,) = await stage.tasks()
    assert task["kind"] == "step" and "kept totals" in task["reason"]
    assert "Tie-outs do not hold" in await stage.details(ME)
    await stage.answer(task, "looked at it, not mended")
    (again,) = await stage.until(stage.tasks, "the question once more")
    assert again["id"] != task["id"]
    rows(house.engine, "update account_total set debit_minor = debit_minor - 5 where account = '1100'")
    await stage.answer(again, "mended")
    await reaches(stage, "awaiting approval")
    assert "differences" not in await stage.details(ME)


async def test_the_erp_refuses_and_then_loses_its_answer_and_has_the_journal_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_month(stage)
    house = stage.house
    await house.advance("clk", at(6, 2))
    posted: list[Any] = []
    really = house.erp.post_journal

    def refusing(batch: Any) -> Any:
        posted.append(batch)
        if len(posted) == 1:
            raise Refused("The period is closed in the ERP.", remedy="Open it there.")
        return really(batch)

    monkeypatch.setattr(house.erp, "post_journal", refusing)
    await approve(stage)
    (task,) = await stage.until(stage.tasks, "a task about the ERP")
    assert task["reason"] == "The period is closed in the ERP."
    house.erp.lose_answer()
    await stage.answer(task, "opened")
    await reaches(stage, "locked")
    assert len(posted) == 3 and posted[1] == posted[2]
    assert list(house.erp.journals) == ["acme-2026-01"]

    async def over() -> bool:
        return await stage.status(ME) is WorkflowExecutionStatus.COMPLETED

    await stage.until(over, "the end of the close")
    before = tables(house.engine)
    await stage.tick(ME)
    await stage.until(over, "a close that is woken once more")
    assert changed(before, tables(house.engine)) == {}


async def test_a_close_that_loses_its_history_while_it_waits_is_rebuilt_and_knows_its_approval(stage: Stage) -> None:
    await open_month(stage)
    house = stage.house
    await house.advance("clk", at(6, 2))
    handle = house.client.get_workflow_handle(ME)
    await handle.terminate()
    assert await house.hands.clocks.rebuild() >= 1
    await stage.until(lambda: shows(stage, "Waits for `approve`"), "the approval to be asked for again")
    really = house.erp.post_journal
    house.erp.post_journal = lambda batch: (_ for _ in ()).throw(Unavailable("down"))
    await approve(stage)
    await house.client.get_workflow_handle(ME).terminate()
    house.erp.post_journal = really
    await house.hands.clocks.rebuild()
    await reaches(stage, "locked")
    assert one(house.engine, "select approved_by from month_close") == "Carla"
    assert list(house.erp.journals) == ["acme-2026-01"]


async def shows(stage: Stage, text: str) -> bool:
    return text in await stage.details(ME)
