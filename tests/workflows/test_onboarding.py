"""A deal that is won becomes a subscription once, whatever the CRM does meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import ActivityEnvironment

from billing.errors import Fault, Unavailable
from integrations.crm import Deal
from integrations.crm.pretend import SAMPLE
from tests.conftest import TEAM
from tests.workflows.stage import Stage, at, changed, one, rows, tables

pytestmark = pytest.mark.anyio
ME = "onboarding/pretend/deal_1"
DEAL = replace(SAMPLE, entity="acme", plan="team", starts_on=date(2026, 1, 1), seats=Decimal(1))


async def intake(stage: Stage) -> str:
    return str(await stage.house.client.execute_workflow("CrmIntake", id="crm-intake", task_queue="lifecycle"))


async def opened(stage: Stage) -> bool:
    return bool(one(stage.house.engine, "select count(*) from subscription"))


async def won(stage: Stage, deal: Deal = DEAL) -> None:
    await stage.january()
    stage.house.crm.win(deal)


async def test_a_deal_seen_again_and_handed_over_twice_at_once_changes_nothing(stage: Stage) -> None:
    await won(stage)
    house = stage.house
    assert await intake(stage) == "1 read, 0 unreadable, 1 handed to onboarding"
    await stage.until(lambda: opened(stage), "the subscription")
    await house.advance("clk", at(2))
    before = tables(house.engine)
    await asyncio.gather(house.hands.onboarding._start(["deal_1"]), house.hands.onboarding._start(["deal_1"]))
    house.crm.win(replace(DEAL, seats=Decimal(99)))
    await intake(stage)
    ref = (await house.client.get_workflow_handle(ME).describe()).id
    assert ref == ME
    different = changed(before, tables(house.engine))
    assert set(different) <= {"crm_watermark"}, different
    assert one(house.engine, "select count(*) from contract") == 1


async def test_two_hand_overs_of_a_new_deal_at_once_open_one_account(stage: Stage) -> None:
    await won(stage)
    hands = stage.house.hands.onboarding
    ActivityEnvironment().run(hands.read_deals)
    await asyncio.gather(*(hands._start(["deal_1"]) for _ in range(4)))
    await stage.until(lambda: opened(stage), "the subscription")
    assert rows(stage.house.engine, "select (select count(*) from customer), (select count(*) from contract)") == [
        (2, 1)
    ]


async def test_a_deal_that_cannot_be_read_is_a_task_until_it_is_corrected(stage: Stage) -> None:
    await stage.january()
    house = stage.house
    house.crm.win_unreadable("deal_1", Fault("Plan__c", "is empty"))
    for _ in range(2):
        assert await intake(stage) == "1 read, 1 unreadable, 0 handed to onboarding"
    (task,) = await stage.tasks()
    assert (task["kind"], "Plan__c: is empty" in task["reason"]) == ("deal", True)
    await stage.answer(task, "told the salesperson")
    await intake(stage)
    assert await stage.tasks() == []  # it has not changed: nobody is asked the same again
    house.crm.win_unreadable("deal_1", Fault("Seats__c", "is empty"))
    await intake(stage)
    assert len(await stage.tasks()) == 1
    house.crm.win(DEAL)
    await intake(stage)
    await stage.until(lambda: opened(stage), "the subscription")
    assert await stage.tasks() == []


async def test_an_unknown_plan_parks_the_onboarding_until_it_is_published_and_the_task_answered(stage: Stage) -> None:
    await won(stage, replace(DEAL, plan="gold"))
    house = stage.house
    await intake(stage)
    (task,) = await stage.until(stage.tasks, "a task")
    assert (task["kind"], task["subject"]) == ("step", ME)
    details = await stage.details(ME)
    assert "### Parked" in details and "There is no plan 'gold'." in details and "What to do" in details
    await stage.answer(task, "too early")
    (task,) = await stage.until(stage.tasks, "the question once more")
    await house.put("/v1/plans/gold", {**TEAM, "name": "Gold"})
    await stage.answer(task, "published")
    await stage.until(lambda: opened(stage), "the subscription")
    assert await house.client.get_workflow_handle(ME).result() == one(house.engine, "select id from subscription")
    await house.advance("clk", at(2))
    assert [d["net_minor"] for d in await stage.invoices()] == [9_000]


async def test_while_the_crm_is_down_nothing_is_lost_and_what_is_told_in_the_end_is_the_last_word(stage: Stage) -> None:
    await won(stage)
    house = stage.house
    house.crm.fail(Unavailable("maintenance"))
    await intake(stage)  # retried until it is back
    await stage.until(lambda: opened(stage), "the subscription")
    for _ in range(3):
        house.crm.fail(Unavailable("maintenance"))
    await house.advance("clk", at(2))
    house.crm.lose_answer()

    def overdue() -> None:
        rows(house.engine, "update outbox set not_before = now() where delivered_at is null")

    async def delivered() -> bool:
        overdue()
        ActivityEnvironment().run(house.hands.deliveries._some, "crm")
        return not one(house.engine, "select count(*) from outbox where door = 'crm' and delivered_at is null")

    await stage.until(delivered, "everything to be delivered")
    assert house.crm.told["deal_1"].status == "active, terms 1"
    told = list(house.crm.changed_by_us)
    assert len(told) == len(set(told))
    rows(house.engine, "update outbox set delivered_at = null, not_before = now() where door = 'crm'")
    await delivered()
    assert house.crm.changed_by_us == told  # once more: nothing is changed over there


async def test_the_child_lives_on_and_the_onboarding_is_over(stage: Stage) -> None:
    await won(stage)
    await intake(stage)
    await stage.until(lambda: opened(stage), "the subscription")
    sub = await stage.house.client.get_workflow_handle(ME).result()
    assert await stage.status(ME) is WorkflowExecutionStatus.COMPLETED
    assert await stage.status(f"subscription/{sub}") is WorkflowExecutionStatus.RUNNING
