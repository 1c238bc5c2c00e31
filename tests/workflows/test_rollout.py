"""The Rollout workflow in the real house: staged, held for people, taken back, and nothing twice when it is lost."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus

from activities import rolling_out
from models import launch
from models.database import transaction
from models.rollout import Rollout
from tests.conftest import TEAM
from tests.workflows.stage import Stage, at, changed, rows, tables

pytestmark = pytest.mark.anyio
ME = "rollout/r-1"
BODY = {"id": "r-1", "entity": "acme", "plan": "team", "version": 2, "audience": "all", "on": "2026-02-10"}
DEARER = {**TEAM, "items": [{**TEAM["items"][0], "price": {"kind": "flat", "amount": "125"}}, TEAM["items"][1]]}  # type: ignore[dict-item, index]


async def february(stage: Stage, **sold: object) -> None:
    """Three subscriptions of version 1 since January, one of which used much; version 2 is a quarter dearer."""
    await stage.january()
    for name in ("ada", "bob", "cy"):
        customer = {"id": name, "name": name, "email": "a@b.example", "country": "DE", "time_zone": "Europe/Berlin"}
        await stage.house.post("/v1/customers", customer)
        await stage.house.put(f"/v1/customers/{name}/payment-method", {"gateway": "pretend", "token": "pm_card_visa"})
        await stage.sign(f"sub-{name}", name)
    used = {"source": "s", "id": "1", "subject": "bob", "type": "llm", "time": "2026-01-20T12:00:00Z"}
    await stage.house.post("/v1/events", {"events": [{**used, "data": {"n": 100000}}]})
    await stage.house.advance("clk", at(10, 2))
    await stage.house.put("/v1/plans/team", DEARER | sold)


async def make(stage: Stage, **asked: object) -> Any:
    return await stage.house.post("/v1/rollouts", BODY | asked)


async def counts(stage: Stage) -> dict[str, int]:
    return dict((await stage.house.get("/v1/rollouts/r-1"))["counts"])


async def settles(stage: Stage, **wanted: int) -> None:
    async def there() -> bool:
        return await counts(stage) == wanted

    await stage.until(there, f"the members to be {wanted}")


async def status_is(stage: Stage, wanted: WorkflowExecutionStatus) -> None:
    async def there() -> bool:
        return await stage.status(ME) is wanted

    await stage.until(there, f"the workflow to be {wanted.name}")


async def asked(stage: Stage) -> list[Any]:
    """What people are asked about the roll-out; the close of January waits for its approval too."""
    return [task for task in await stage.tasks() if task["subject"].startswith("rollout/")]


async def version_of(stage: Stage, name: str) -> int:
    return int((await stage.house.get(f"/v1/subscriptions/sub-{name}"))["plan_version"])


async def test_on_a_day_they_move_with_the_clock_and_the_invoice_says_so(stage: Stage) -> None:
    await february(stage)
    await make(stage, on="2026-02-20", notice_days=10)
    await settles(stage, planned=3)
    await status_is(stage, WorkflowExecutionStatus.COMPLETED)
    assert [await version_of(stage, name) for name in ("ada", "bob", "cy")] == [1, 1, 1]
    agenda = [row["subject"] for row in await stage.house.get("/v1/agenda") if row["kind"] == "amendment"]
    assert agenda == ["subscription/sub-ada", "subscription/sub-bob", "subscription/sub-cy"]
    await stage.house.advance("clk", at(2, 3))
    assert await counts(stage) == {"moved": 3}
    assert [await version_of(stage, name) for name in ("ada", "bob", "cy")] == [2, 2, 2]
    assert not (await stage.house.get("/v1/rollouts/r-1"))["open"]
    (march,) = rows(
        stage.house.engine,
        "select sum(net_minor)::int from invoice where subscription_id = 'sub-ada' and issued_on = '2026-03-01'",
    )
    assert march == (-3_214 + 4_018 + 12_500,)  # 9 of 28 days at 125 for those at 100, and March


async def test_whoever_signs_between_the_making_and_the_day_moves_on_the_day_too(stage: Stage) -> None:
    """Dan signs in time; Eve in Los Angeles when the day has begun in Berlin and not yet where she is."""
    await february(stage, sold_from=None)
    await make(stage, on="2026-02-20", notice_days=10)
    await settles(stage, planned=3)
    for name, zone, day, hour in (("dan", "Europe/Berlin", 15, 9), ("eve", "America/Los_Angeles", 20, 2)):
        await stage.house.advance("clk", at(day, 2, hour))
        customer = {"id": name, "name": name, "email": "a@b.example", "country": "DE", "time_zone": zone}
        await stage.house.post("/v1/customers", customer)
        await stage.sign(f"sub-{name}", name, starts_on=f"2026-02-{15 if name == 'dan' else 19}")
        assert await version_of(stage, name) == 1
    await stage.house.advance("clk", at(21, 2))
    assert await counts(stage) == {"moved": 5}
    moved = "select subscription_id, effective_on::text from subscription_terms where plan_version = 2 order by 1"
    assert rows(stage.house.engine, moved) == [
        (f"sub-{name}", "2026-02-20") for name in ("ada", "bob", "cy", "dan", "eve")
    ]
    await status_is(stage, WorkflowExecutionStatus.COMPLETED)
    assert not (await stage.house.get("/v1/rollouts/r-1"))["open"]
    before = tables(stage.house.engine)
    await stage.tick(ME)
    assert changed(before, tables(stage.house.engine)) == {}


async def test_held_ones_wait_for_a_person_and_the_rest_moves(stage: Stage) -> None:
    await february(stage)
    await make(stage, guard={"percent": "20", "action": "hold"})
    await settles(stage, moved=1, held=2)
    assert "held" in await stage.details(ME) and "`move` or `leave`" in await stage.details(ME)
    assert await stage.status(ME) is WorkflowExecutionStatus.RUNNING
    tasks = {task["subject"]: task for task in await asked(stage)}
    assert set(tasks) == {"rollout/r-1/sub-ada", "rollout/r-1/sub-cy"}
    unclear = await stage.house.api.post(
        f"/v1/tasks/{tasks['rollout/r-1/sub-ada']['id']}/answer", json={"by": "Carla", "answer": "fine with me"}
    )
    assert (unclear.status_code, unclear.json()["code"]) == (422, "unclear_answer")
    assert len(await asked(stage)) == 2

    for _ in range(2):
        await stage.answer(tasks["rollout/r-1/sub-ada"], "move: she agreed")
    await settles(stage, moved=2, held=1)
    await stage.answer(tasks["rollout/r-1/sub-cy"], "leave")
    await settles(stage, moved=2, refused=1)
    await status_is(stage, WorkflowExecutionStatus.COMPLETED)
    assert [await version_of(stage, name) for name in ("ada", "bob", "cy")] == [2, 2, 1]
    assert await stage.house.client.get_workflow_handle(ME).result() == (
        "0 planned, 0 held, 1 refused, 0 skipped, 2 moved, 0 taken back"
    )


async def test_a_workflow_that_is_lost_while_somebody_is_held_is_started_by_the_answer(stage: Stage) -> None:
    await february(stage)
    await make(stage, guard={"percent": "20", "action": "hold"})
    await settles(stage, moved=1, held=2)
    await stage.house.client.get_workflow_handle(ME).terminate()
    before = tables(stage.house.engine)
    await stage.tick(ME)  # started again, it finds nothing to be done
    assert changed(before, tables(stage.house.engine)) == {}
    await stage.house.client.get_workflow_handle(ME).terminate()
    for task in await asked(stage):
        await stage.answer(task, "move")
    await settles(stage, moved=3)


async def test_what_is_stored_and_was_never_started_is_found_on_the_agenda(stage: Stage) -> None:
    """The API died between its row and the workflow: the clock finds it, and whoever rebuilds the clocks."""
    await february(stage)
    row = Rollout(
        id="r-1",
        entity_id="acme",
        plan_id="team",
        to_plan_id="team",
        to_version=2,
        audience="all",
        on_day=date(2026, 2, 20),
        made_at=at(10, 2),
        made_with="key",
    )
    with transaction(stage.house.engine) as session:
        launch.launch(session, row, date(2026, 2, 10))
    await stage.house.advance("clk", at(11, 2))
    assert await counts(stage) == {"planned": 3}
    with transaction(stage.house.engine) as session:
        launch.ask_back(session, "r-1", "key", at(11, 2))
    assert await stage.house.hands.clocks.rebuild() >= 1
    await settles(stage, taken_back=3)


async def test_taken_back_scheduled_and_moved_ones_and_again_changes_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling_out, "BATCH", 2)
    await february(stage)
    await make(stage, audience="renewal", on="2026-02-20")
    await settles(stage, planned=3)
    for _ in range(2):
        await stage.house.post("/v1/rollouts/r-1/take-back", {})
    await settles(stage, taken_back=3)
    await stage.house.advance("clk", at(2, 3))
    assert [await version_of(stage, name) for name in ("ada", "bob", "cy")] == [1, 1, 1]

    await make(stage, id="r-2", on="2026-03-05")
    await stage.house.advance("clk", at(6, 3))
    assert [await version_of(stage, name) for name in ("ada", "bob", "cy")] == [2, 2, 2]
    await stage.house.post("/v1/subscriptions/sub-bob/amendments", {"id": "amd", "discount_percent": 10})
    await stage.house.post("/v1/rollouts/r-2/take-back", {})

    async def back() -> bool:
        return (await stage.house.get("/v1/rollouts/r-2"))["counts"] == {"taken_back": 3}

    await stage.until(back, "everybody to be back")
    assert [await version_of(stage, name) for name in ("ada", "bob", "cy")] == [1, 1, 1]
    assert (await stage.house.get("/v1/subscriptions/sub-bob"))["discount_percent"] == "10"
    before = tables(stage.house.engine)
    await stage.house.post("/v1/rollouts/r-2/take-back", {})
    await stage.tick("rollout/r-2")
    assert changed(before, tables(stage.house.engine)) == {}


async def parked(stage: Stage) -> Any:
    """A roll-out of which the first batch broke: the task about it."""
    rows(
        stage.house.engine,
        "create function fail() returns trigger language plpgsql as"
        " 'begin raise exception $$not today$$ using errcode = $$PB001$$; end'",
    )
    rows(stage.house.engine, "create trigger fail before insert on rollout_member execute function fail()")
    await make(stage)
    (task,) = await stage.until(lambda: asked(stage), "a task about the roll-out")
    assert (task["kind"], task["subject"], task["reason"]) == ("step", ME, "not today")
    assert "### Parked" in await stage.details(ME)
    assert await counts(stage) == {} and await version_of(stage, "ada") == 1
    return task


async def test_a_step_that_breaks_parks_and_is_tried_again(stage: Stage) -> None:
    await february(stage)
    task = await parked(stage)
    rows(stage.house.engine, "drop trigger fail on rollout_member")
    await stage.answer(task, "mended")
    await settles(stage, moved=3)
    await status_is(stage, WorkflowExecutionStatus.COMPLETED)


async def test_one_that_is_parked_can_be_taken_back_without_being_mended(stage: Stage) -> None:
    await february(stage)
    await parked(stage)
    await stage.house.post("/v1/rollouts/r-1/take-back", {})
    await status_is(stage, WorkflowExecutionStatus.COMPLETED)
    found = await stage.house.get("/v1/rollouts/r-1")
    assert (found["open"], found["counts"], await asked(stage)) == (False, {}, [])
    assert found["rollout"]["taken_back_at"] and not found["rollout"]["staged_at"]
