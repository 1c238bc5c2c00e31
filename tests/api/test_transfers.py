"""Bank transfers are recorded for invoices through the API."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus

from tests.api.conftest import Front

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def invoice(front: Front) -> dict[str, Any]:
    """Issued on 1 January 2026 and still to be paid."""
    subscription = await front.subscription()
    await front.advance("clk", datetime(2026, 1, 2, 9, tzinfo=UTC))
    [found] = await front.get(f"/v1/invoices?subscription={subscription}")
    assert found["open_minor"] > 2_00
    return dict(found)


def came(**other: Any) -> dict[str, Any]:
    """One euro of the first of January, by an id of its own."""
    facts = {"id": f"bank-{secrets.token_hex(4)}", "amount_minor": 100, "currency": "EUR", "received_on": "2026-01-01"}
    return {**facts, "reference": "RE 1, danke", **other}


async def test_a_transfer_is_on_the_invoice(front: Front, invoice: dict[str, Any]) -> None:
    path = f"/v1/invoices/{invoice['number']}"
    before = await front.get(path)
    sent = came()
    made = await front.post(f"{path}/transfers", sent)
    assert {name: made[name] for name in sent} == sent and made["invoice_id"] == invoice["id"]
    assert await front.post(f"{path}/transfers", sent) == made
    after = await front.get(path)
    assert after["transfers"] == [*before["transfers"], made]
    assert after["invoice"]["open_minor"] == before["invoice"]["open_minor"] - 100
    assert after["status"] == "partly settled"
    back = await front.post(f"{path}/transfers", came(amount_minor=-100))
    assert back["amount_minor"] == -100
    assert (await front.get(path))["invoice"]["open_minor"] == before["invoice"]["open_minor"]
    [(account, minor)] = front.rows(
        "select account, amount_minor from journal_line where cause_id = %s and side = 'D'", made["id"]
    )
    assert (account, minor) == ("1000", 100)


async def test_another_transfer_needs_another_id(front: Front, invoice: dict[str, Any]) -> None:
    path = f"/v1/invoices/{invoice['id']}/transfers"
    sent = came()
    await front.post(path, sent)
    for other in ({"amount_minor": 101}, {"reference": ""}, {"received_on": "2026-01-02"}):
        refusal = await front.refused("POST", path, {**sent, **other}, status=409, code="conflict")
        assert next(iter(other)) in refusal["fields"]["id"]


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"amount_minor": 0}, "amount_minor"),
        ({"amount_minor": -(10**9)}, "amount_minor"),
        ({"amount_minor": 1.5}, "amount_minor"),
        ({"amount_minor": 10**15 + 1}, "amount_minor"),
        ({"amount_minor": -(10**15) - 1}, "amount_minor"),
        ({"currency": "USD"}, "currency"),
        ({"currency": "eur"}, "currency"),
        ({"received_on": "2026-02-30"}, "received_on"),
        ({"received_on": "2025-12-31"}, "received_on"),
        ({"received_on": "2199-01-01"}, "received_on"),
        ({"id": ""}, "id"),
        ({"paid": True}, "paid"),
    ],
    ids=str,
)
async def test_what_cannot_have_come_is_refused(
    front: Front, invoice: dict[str, Any], other: dict[str, Any], field: str
) -> None:
    path = f"/v1/invoices/{invoice['id']}"
    before = await front.get(path)
    refusal = await front.refused("POST", f"{path}/transfers", came(**other), status=422)
    assert field in refusal["fields"], refusal
    assert await front.get(path) == before


async def test_nothing_comes_for_what_is_not_there(front: Front) -> None:
    refusal = await front.refused("POST", "/v1/invoices/none/transfers", came(), status=404)
    assert "none" in refusal["detail"]


async def test_a_collection_that_waits_for_a_person_ends(front: Front) -> None:
    subscription = await front.subscription()
    await front.advance("clk", datetime(2026, 1, 20, 9, tzinfo=UTC))
    [owed] = await front.get(f"/v1/invoices?subscription={subscription}")
    subject = f"collection/{owed['id']}"
    collection = front.house.client.get_workflow_handle(subject)
    assert [t["kind"] for t in await front.get("/v1/tasks") if t["subject"] == subject] == ["collection"]
    assert (await collection.describe()).status == WorkflowExecutionStatus.RUNNING
    sent = came(amount_minor=owed["open_minor"], received_on="2026-01-19")
    await front.post(f"/v1/invoices/{owed['id']}/transfers", sent)
    await front.advance("clk", datetime(2026, 1, 20, 10, tzinfo=UTC))
    assert await collection.result() == "settled after 0 attempts"
    assert [t for t in await front.get("/v1/tasks") if t["subject"] == subject] == []
