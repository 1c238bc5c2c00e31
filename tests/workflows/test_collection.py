"""Collecting what was not paid at once: dunning days, gateways that think it over, webhooks that get lost, people."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus

from billing.errors import Refused
from integrations.payments import ChargeOrder, Outcome, Paid
from tests.workflows.stage import Stage, at, changed, one, rows, tables

pytestmark = pytest.mark.anyio
OPEN_AFTER_A_DAY = at(2, 1)


async def billed(stage: Stage, *outcomes: str) -> str:
    """January is billed and the card was charged with these outcomes to come; the collection's workflow id."""
    await stage.january()
    stage.house.gateway.expect("cus", *outcomes)
    await stage.sign()
    await stage.house.advance("clk", OPEN_AFTER_A_DAY)
    return f"collection/{(await stage.invoices())[0]['id']}"


def attempts(stage: Stage) -> list[tuple[Any, ...]]:
    return rows(stage.house.engine, "select state, decided_at::date::text from payment_attempt order by no")


async def test_a_decline_is_tried_again_on_the_dunning_days_and_then_a_person_is_asked(stage: Stage) -> None:
    me = await billed(stage, *["insufficient_funds"] * 5, "expired_card")
    await stage.house.advance("clk", at(31))
    days = ["2025-12-31", "2026-01-03", "2026-01-05", "2026-01-07", "2026-01-14"]
    assert attempts(stage) == [("declined", day) for day in days]
    (task,) = await stage.tasks()
    assert (task["kind"], task["subject"]) == ("collection", me)
    assert "needs a person" in await stage.details(me)

    await stage.answer(task, "asked for another card; it is declined for good as well")
    (again,) = await stage.until(stage.tasks, "another task, though the clock stands still")
    assert again["id"] != task["id"]
    method = {"gateway": "pretend", "token": "pm_card_mastercard"}
    await stage.house.put("/v1/customers/cus/payment-method", method)
    await stage.answer(again, "a new card")

    async def settled() -> bool:
        return await stage.status(me) is WorkflowExecutionStatus.COMPLETED

    await stage.until(settled, "the new card to be charged")
    assert [state for state, _ in attempts(stage)] == ["declined"] * 6 + ["paid"]
    assert stage.house.gateway.charges[-1].method_token == "pm_card_mastercard"
    assert await stage.tasks() == []


async def test_a_new_card_that_is_declined_late_is_not_charged_in_a_row(stage: Stage) -> None:
    """The days of the calendar that have passed are not made up for."""
    me = await billed(stage, "expired_card", "insufficient_funds")
    await stage.house.advance("clk", at(9))
    (task,) = await stage.tasks()
    await stage.answer(task, "a new card")

    async def two() -> bool:
        return len(attempts(stage)) == 2

    await stage.until(two, "the second attempt")
    await stage.house.advance("clk", at(13))
    assert len(attempts(stage)) == 2
    await stage.house.advance("clk", at(16))
    assert attempts(stage)[2:] == [("paid", "2026-01-14")]
    assert await stage.status(me) is WorkflowExecutionStatus.COMPLETED


async def test_a_payment_under_way_is_settled_by_its_webhook_and_a_second_one_is_no_news(stage: Stage) -> None:
    await stage.january()
    house = stage.house
    house.gateway.expect("cus", "pending")
    await stage.sign()
    await house.advance("clk", at(1))
    webhook = house.gateway.settle(reference(stage))
    for _ in range(2):
        answer = await house.api.post("/webhooks/pretend", content=webhook.body, headers=dict(webhook.headers))
        assert answer.status_code == 202
    me = f"collection/{(await stage.invoices())[0]['id']}"

    async def settled() -> bool:
        return await stage.status(me) is WorkflowExecutionStatus.COMPLETED

    await stage.until(settled, "the payment to be known")
    assert [state for state, _ in attempts(stage)] == ["paid"]
    assert len(house.gateway.charges) == 1
    before = tables(house.engine)
    await stage.tick(me)
    assert changed(before, tables(house.engine)) == {}


def reference(stage: Stage) -> str:
    return str(one(stage.house.engine, "select reference from payment_attempt"))


async def test_when_the_webhook_is_lost_the_gateway_is_asked_on_the_next_day(stage: Stage) -> None:
    me = await billed(stage, "pending")
    assert [state for state, _ in attempts(stage)] == ["pending"]
    stage.house.gateway.settle(reference(stage), "insufficient_funds")  # and its webhook is lost
    await stage.house.advance("clk", at(3))
    assert [state for state, _ in attempts(stage)] == ["declined"]
    await stage.house.advance("clk", at(8))
    assert [state for state, _ in attempts(stage)] == ["declined", "paid"]
    assert await stage.status(me) is WorkflowExecutionStatus.COMPLETED


async def test_a_card_that_the_gateway_refuses_waits_for_a_person_and_the_others_are_charged(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.january()
    house = stage.house
    await house.post("/v1/customers", {"id": "cuz", "name": "Zwei", "email": "z@z.example", "country": "DE"})
    await house.put("/v1/customers/cuz/payment-method", {"gateway": "pretend", "token": "pm_card_visa"})
    await stage.sign()
    await stage.sign("other", "cuz")
    await house.advance("clk", at(20))
    charge = house.gateway.charge

    def picky(order: ChargeOrder) -> Outcome:
        if order.method_token == "pm_detached":
            raise Refused("There is no such card.", code="not_found")
        return charge(order)

    monkeypatch.setattr(house.gateway, "charge", picky)
    await house.put("/v1/customers/cus/payment-method", {"gateway": "pretend", "token": "pm_detached"})
    await house.advance("clk", at(2, 2))
    stuck, fine = sorted(await stage.invoices(), key=lambda i: i["number"])[2:]
    if stuck["customer_id"] != "cus":
        stuck, fine = fine, stuck
    assert (fine["open_minor"], stuck["open_minor"] > 0) == (0, True)
    me = f"collection/{stuck['id']}"
    (task,) = await stage.tasks()
    assert (task["subject"], task["reason"]) == (me, "There is no such card.")
    assert "### Parked" in await stage.details(me)
    await house.put("/v1/customers/cus/payment-method", {"gateway": "pretend", "token": "pm_card_visa"})
    await stage.answer(task, "the right card")

    async def settled() -> bool:
        return await stage.status(me) is WorkflowExecutionStatus.COMPLETED

    await stage.until(settled, "the charge")
    assert len({order.attempt_id for order in house.gateway.charges}) == 4


async def completed(stage: Stage, me: str) -> None:
    async def done() -> bool:
        return await stage.status(me) is WorkflowExecutionStatus.COMPLETED

    await stage.until(done, "the collection to end")


async def test_a_webhook_for_what_was_declined_ends_the_dunning(stage: Stage) -> None:
    me = await billed(stage, "insufficient_funds")
    house = stage.house
    assert [state for state, _ in attempts(stage)] == ["declined"]
    webhook = house.gateway.settle(reference(stage))
    for _ in range(2):
        answer = await house.api.post("/webhooks/pretend", content=webhook.body, headers=dict(webhook.headers))
        assert answer.status_code == 202
    await completed(stage, me)
    assert [state for state, _ in attempts(stage)] == ["paid"]
    await house.advance("clk", at(20))
    assert len(house.gateway.charges) == 1
    assert ((await stage.invoices())[0]["open_minor"], await stage.tasks()) == (0, [])


async def test_a_webhook_for_an_invoice_that_was_paid_otherwise_is_a_persons_task(stage: Stage) -> None:
    """Its collection has ended; the webhook begins another."""
    me = await billed(stage, "insufficient_funds")
    house = stage.house
    first = reference(stage)
    await house.advance("clk", at(4))
    assert [state for state, _ in attempts(stage)] == ["declined", "paid"]
    webhook = house.gateway.settle(first)
    for _ in range(2):
        answer = await house.api.post("/webhooks/pretend", content=webhook.body, headers=dict(webhook.headers))
        assert answer.status_code == 202
    (task,) = await stage.until(stage.tasks, "the task")
    assert (task["kind"], task["subject"]) == ("overpayment", me)
    await completed(stage, me)
    assert (await house.get(f"/v1/invoices/{me.removeprefix('collection/')}"))["status"] == "overpaid"
    await stage.answer(task, "given back at the gateway")
    assert await stage.tasks() == []


@pytest.mark.parametrize("on_the_clock", [True, False])
async def test_a_new_method_ends_the_parking_that_the_old_one_caused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, on_the_clock: bool
) -> None:
    """Whether the clock wakes it or the sweep; and one that is refused as well parks it again, with one task."""
    house = stage.house
    charge = house.gateway.charge

    def picky(order: ChargeOrder) -> Outcome:
        if order.method_token.startswith("pm_gone"):
            raise Refused(f"There is no {order.method_token}.", code="not_found")
        return charge(order)

    async def wake(day: int) -> None:
        if on_the_clock:
            await house.advance("clk", at(day))
        else:
            await house.hands.clocks.rouse((me,))

    monkeypatch.setattr(house.gateway, "charge", picky)
    await stage.january()
    await house.put("/v1/customers/cus/payment-method", {"gateway": "pretend", "token": "pm_gone"})
    await stage.sign()
    await house.advance("clk", at(1))
    me = f"collection/{(await stage.invoices())[0]['id']}"
    await stage.until(stage.tasks, "the task")
    await house.put("/v1/customers/cus/payment-method", {"gateway": "pretend", "token": "pm_gone_too"})
    await wake(2)

    async def other() -> bool:
        return [task["reason"] for task in await stage.tasks()] == ["There is no pm_gone_too."]

    await stage.until(other, "the task about the second")
    await house.put("/v1/customers/cus/payment-method", {"gateway": "pretend", "token": "pm_card_visa"})
    await wake(3)
    await completed(stage, me)
    assert [state for state, _ in attempts(stage)] == ["paid"]
    assert await stage.tasks() == []


async def test_a_webhook_ends_the_parking_that_the_gateway_caused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.january()
    house = stage.house
    house.gateway.expect("cus", "pending")
    look_up, closed = house.gateway.look_up, True

    def shut(name: str) -> Outcome:
        if closed:
            raise Refused("This key may not look.", code="bad_credentials")
        return look_up(name)

    monkeypatch.setattr(house.gateway, "look_up", shut)
    await stage.sign()
    await house.advance("clk", at(2, hour=12))
    me = f"collection/{(await stage.invoices())[0]['id']}"
    await stage.until(stage.tasks, "the task")
    closed = False
    webhook = house.gateway.settle(reference(stage))
    answer = await house.api.post("/webhooks/pretend", content=webhook.body, headers=dict(webhook.headers))
    assert answer.status_code == 202
    await completed(stage, me)
    assert [state for state, _ in attempts(stage)] == ["paid"]
    assert await stage.tasks() == []


async def test_paid_elsewhere_meanwhile_is_not_charged_again(stage: Stage) -> None:
    """The first attempt was declined here, and is then found paid at the gateway: its second dunning day is dropped."""
    me = await billed(stage, "insufficient_funds")
    house = stage.house
    attempt = one(house.engine, "select id from payment_attempt")
    rows(house.engine, "update payment_attempt set state = 'pending', decided_at = null where id = %s", attempt)
    house.hands.payments._record(attempt, Paid(reference(stage)))
    await house.advance("clk", at(20))
    assert [state for state, _ in attempts(stage)] == ["paid"]
    assert len(house.gateway.charges) == 1
    assert (await stage.invoices())[0]["open_minor"] == 0
    await stage.tick(me)
    assert await stage.status(me) is WorkflowExecutionStatus.COMPLETED
