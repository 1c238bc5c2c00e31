"""Webhooks of gateways, and what people answer, tasks and approvals: twice, too early, or by someone else."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from integrations.payments.pretend import signed
from tests.api.conftest import Front, problem

pytestmark = pytest.mark.anyio


async def hook(front: Front, body: bytes, headers: Any, gateway: str = "pretend") -> Any:
    return await front.api.post(f"/webhooks/{gateway}", content=body, headers={**headers, "Authorization": ""})


async def settled(front: Front, invoice: str) -> Any:
    with anyio.fail_after(20):
        while (found := await front.get(f"/v1/invoices/{invoice}"))["status"] != "settled":
            await anyio.sleep(0.02)
    return found


async def test_a_webhook_settles_the_payment_that_was_under_way(front: Front) -> None:
    customer = await front.customer()
    await front.put(f"/v1/customers/{customer}/payment-method", {"gateway": "pretend", "token": "pm_sepa"})
    front.house.gateway.expect(customer, "pending")
    await front.post("/v1/entities", {"id": "now", "name": "Now", "country": "DE", "functional_currency": "EUR",
                                      "time_zone": "Europe/Berlin"})  # fmt: skip
    await front.subscription(customer, entity="now", starts_on=f"{datetime.now(UTC):%Y-%m-%d}")
    with anyio.fail_after(20):
        while not (rows := front.rows(
            "select a.id, a.reference, a.invoice_id from payment_attempt a join invoice i on i.id = a.invoice_id"
            " where i.customer_id = %s and a.state = 'pending'", customer)):  # fmt: skip
            await anyio.sleep(0.02)
    attempt, reference, invoice = rows[0]
    good = front.house.gateway.settle(reference)
    problem(await hook(front, good.body.replace(b"succeeded", b"suceeeded"), good.headers), 400, "bad_signature")
    problem(await hook(front, good.body, {}), 400, "bad_signature")
    problem(await hook(front, good.body, {"Pretend-Signature": "é".encode()}), 400, "bad_signature")
    problem(await hook(front, good.body, good.headers, "nobody"), 404, "not_found")
    assert front.rows("select count(*) from webhook_received") == [(0,)]
    for _ in range(3):
        answer = await hook(front, good.body, good.headers)
        assert (answer.status_code, answer.json()) == (202, {"outcome": "taken in"})
    found = await settled(front, invoice)
    assert [(p["id"], p["state"]) for p in found["payments"]] == [(attempt, "paid")]
    assert front.rows("select count(*) from webhook_received") == [(1,)]
    again = await hook(front, good.body, good.headers)
    assert again.status_code == 202
    assert len([c for c in front.house.gateway.charges if c.customer_id == customer]) == 1
    await front.refused("GET", f"/v1/invoices/{invoice}/pdf", status=404, code="not_found")
    await front.house.client.start_workflow("Courier", "documents", id="courier/documents", task_queue="lifecycle")
    names = (invoice, found["invoice"]["number"], invoice)
    prints = {await printed(front, name) for name in names}
    assert len(prints) == 1 and prints.pop().startswith(b"%PDF-")


async def printed(front: Front, invoice: str) -> bytes:
    """The document, once the courier has had it made; until then it is not found."""
    with anyio.fail_after(30):
        while (answer := await front.api.get(f"/v1/invoices/{invoice}/pdf")).status_code != 200:
            assert answer.json()["code"] == "not_found"
            await anyio.sleep(0.1)
    assert answer.headers["content-type"] == "application/pdf" and answer.headers["etag"]
    return answer.content


async def test_what_is_told_of_an_attempt_whose_answer_was_lost_is_kept(front: Front) -> None:
    """Nothing is decided by it; whoever takes the attempt up looks the payment up by its name."""
    subscription = await front.subscription(starts_on="2025-12-30")
    await front.advance("clk", datetime(2025, 12, 31, 9, tzinfo=UTC))
    [invoice] = await front.get(f"/v1/invoices?subscription={subscription}")
    front.rows(
        "insert into payment_attempt (id, invoice_id, no, gateway, method_token, amount_minor, currency, state,"
        " started_at) values ('pay_lost', %s, 1, 'pretend', 'pm_1', 100, 'EUR', 'started', now()) returning 1",
        invoice["id"],
    )
    for outcome, kept in (("insufficient_funds", None), ("succeeded", "r_1"), ("succeeded", "r_1")):
        told = {"kind": "payment", "event_id": f"evt_{outcome}", "attempt_id": "pay_lost", "reference": "r_1"}
        webhook = signed({**told, "outcome": outcome})
        answer = await hook(front, webhook.body, webhook.headers)
        assert answer.status_code == 202
        found = front.rows("select state, reference from payment_attempt where id = 'pay_lost'")
        assert found == [("started", kept)]


async def test_webhooks_that_concern_nobody_are_taken_in(front: Front) -> None:
    stray = signed({"kind": "payment", "event_id": "evt_1", "attempt_id": "none", "reference": "r", "outcome": "paid"})
    assert (await hook(front, stray.body, stray.headers)).json() == {"outcome": "taken in"}
    unused = signed({"kind": "payout"})
    assert (await hook(front, unused.body, unused.headers)).json() == {"outcome": "not used"}


async def test_a_method_of_a_gateway_that_is_not_here_is_refused(front: Front) -> None:
    path = f"/v1/customers/{await front.customer()}/payment-method"
    refusal = await front.refused(
        "PUT", path, {"gateway": "strpie", "token": "pm_1"}, status=422, code="unknown_gateway"
    )
    assert refusal["fields"] == {"gateway": "must be one of this installation's: pretend"}


async def test_each_new_method_is_charged_also_one_that_was_there_before(front: Front) -> None:
    """And the same once more is no new one."""
    customer = await front.customer()
    path = f"/v1/customers/{customer}/payment-method"
    a, b = ({"gateway": "pretend", "token": token} for token in ("pm_a", "pm_b"))
    first = await front.put(path, a)
    assert await front.put(path, a) == first
    front.house.gateway.expect(customer, *["insufficient_funds"] * 4)
    await front.subscription(customer)
    await front.advance("clk", datetime(2026, 1, 1, 12, tzinfo=UTC))
    for minute, body in enumerate((b, b, a, a), 1):
        stored = await front.put(path, body)
        assert stored["token"] == body["token"]
        await front.advance("clk", datetime(2026, 1, 1, 12, minute, tzinfo=UTC))
    charged = [order.method_token for order in front.house.gateway.charges if order.customer_id == customer]
    assert charged == ["pm_a", "pm_b", "pm_a"]


async def test_a_task_is_answered_once_and_the_first_answer_stands(front: Front) -> None:
    customer = await front.customer()
    await front.put(f"/v1/customers/{customer}/payment-method", {"gateway": "pretend", "token": "pm_lost"})
    front.house.gateway.expect(customer, "lost_card")
    await front.subscription(customer)
    await front.advance("clk", datetime(2026, 1, 2, tzinfo=UTC))
    with anyio.fail_after(20):
        while not (tasks := await front.get("/v1/tasks")):
            await anyio.sleep(0.02)
    path = f"/v1/tasks/{tasks[0]['id']}/answer"
    assert tasks[0]["kind"] == "collection"
    for body in ({"by": "C", "answer": "x"}, {"by": "Carla", "answer": ""}, {"by": "Carla"}):
        await front.refused("POST", path, body, status=422, code="invalid_request")
    first = await front.post(path, {"by": "Carla", "answer": "a new card is on file"})
    stands = f"answered already: a new card is on file, by Carla on {first['answered_at'][:10]}"
    for by in ("Carla", "Dora"):
        refusal = await front.refused("POST", path, {"by": by, "answer": "never mind"}, status=409)
        assert (refusal["code"], refusal["fields"]) == ("answered_already", {"answer": stands})
        again = await front.post(path, {"by": by, "answer": "a new card is on file"})
        assert again == first
    assert (first["answered_by"], first["answer"]) == ("Carla", "a new card is on file")
    assert tasks[0]["id"] not in [t["id"] for t in await front.get("/v1/tasks")]
    await front.advance("clk", datetime(2026, 1, 3, tzinfo=UTC))
    (invoice,) = await front.get(f"/v1/invoices?customer={customer}")
    assert invoice["open_minor"] == 0


async def test_a_close_is_approved_when_it_waits_and_by_whom_it_was_first(front: Front) -> None:
    path = "/v1/entities/acme/closes/2026-01"
    for _ in range(2):
        for month in ("2026-01", "2026-03"):
            later = path.replace("2026-01", month)
            refusal = await front.refused("POST", f"{later}/approve", {"by": "Carla"}, status=409, code="not_waiting")
            assert refusal["detail"] == f"The close of {month} has not begun."
            assert refusal["remedy"] == "2026-01 comes first: its close begins at 2026-02-04T23:00:00+00:00."
    await front.refused("POST", f"{path}/approve", {"by": "C"}, status=422, code="invalid_request")
    await front.advance("clk", datetime(2026, 2, 6, tzinfo=UTC))
    found = await front.get(path)
    assert (found["close"]["stage"], found["all_hold"]) == ("awaiting approval", True), found
    refusal = await front.refused("POST", path.replace("2026-01", "2026-02/approve"), {"by": "Carla"}, status=409)
    assert refusal["remedy"] == f"2026-01 comes first: GET {path}."
    [waiting] = [t for t in await front.get("/v1/tasks") if t["kind"] == "approval"]
    done = {"by": "Carla", "answer": "done"}
    refusal = await front.refused("POST", f"/v1/tasks/{waiting['id']}/answer", done, status=409, code="conflict")
    assert refusal["remedy"] == f"POST {path}/approve"
    carla = {"by": "Carla", "note": "looked"}
    answers = await asyncio.gather(*(front.post(f"{path}/approve", carla) for _ in range(2)))
    assert answers == [{"approved_by": "Carla"}] * 2
    refusal = await front.refused("POST", f"{path}/approve", {"by": "Dora"}, status=409, code="approved_already")
    assert refusal["errors"] == [{"field": "by", "reason": "stands as 'Carla'"}]
    with anyio.fail_after(20):
        while (found := await front.get(path))["close"]["stage"] != "locked":
            await anyio.sleep(0.02)
    assert found["close"]["approved_by"] == "Carla"
    answer = await front.api.post(f"{path}/approve", json={"by": "Dora"})
    assert answer.status_code == 409
    assert (await front.get(path))["close"]["approved_by"] == "Carla"
    assert [c["stage"] for c in await front.get("/v1/closes")][:1] == ["locked"]
