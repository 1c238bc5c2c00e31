"""Late usage at the front door: a meter's policy, what becomes of it, and a person's answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.api.conftest import Front
from tests.api.test_events import event, send
from tests.api.test_meters import meter

pytestmark = pytest.mark.anyio

FIVE = {"kind": "ignore_below", "amounts": [{"currency": "EUR", "amount": "5"}]}


async def test_what_becomes_of_late_usage_may_change_of_a_meter(front: Front) -> None:
    body = meter()
    made = await front.post("/v1/meters", body)
    assert made["late"] == {"kind": "next_invoice"}
    for late in ({"kind": "hold"}, FIVE, {"kind": "credit_and_rebill"}, FIVE):
        changed = await front.post("/v1/meters", body | {"late": late})
        assert changed == made | {"late": late}
        assert changed in await front.get("/v1/meters")
    await front.refused("POST", "/v1/meters", body | {"late": FIVE, "unit": "t"}, status=409, code="conflict")
    [shown] = [m for m in (await front.get("/v1/catalog"))["meters"] if m["meter_id"] == body["id"]]
    assert shown["late"] == FIVE
    draft = {"meters": [shown | {"late": {"kind": "hold"}}]}
    done = (await front.api.put("/v1/catalog", json=draft)).json()
    assert [(one["id"], one["what"]) for one in done] == [(body["id"], "changed")]
    assert (await front.api.put("/v1/catalog", json=draft)).json() == []


WRONG: dict[str, tuple[Any, set[str]]] = {
    "another kind": ({"kind": "forget"}, {"late"}),
    "no amounts": ({"kind": "ignore_below", "amounts": []}, {"late.amounts"}),
    "nothing": ({"kind": "ignore_below", "amounts": [{"currency": "EUR", "amount": "0"}]}, {"late.amounts.0.amount"}),
    "half a cent": (
        {"kind": "ignore_below", "amounts": [{"currency": "EUR", "amount": "0.005"}]},
        {"late.amounts.0.amount"},
    ),
    "half a yen": (
        {"kind": "ignore_below", "amounts": [{"currency": "JPY", "amount": "0.5"}]},
        {"late.amounts.0.amount"},
    ),
    "a currency twice": (
        {"kind": "ignore_below", "amounts": [FIVE["amounts"][0]] * 2},  # type: ignore[index]
        {"late.amounts.1.currency"},
    ),
    "no currency": (
        {"kind": "ignore_below", "amounts": [{"currency": "EUX", "amount": "1"}]},
        {"late.amounts.0.currency"},
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_policy_that_cannot_be_is_refused_with_its_place(front: Front, name: str) -> None:
    late, fields = WRONG[name]
    body = meter()
    refusal = await front.refused("POST", "/v1/meters", body | {"late": late}, status=422)
    assert {field.split(".")[0] for field in refusal["fields"]} == {"late"}
    if fields != {"late"}:
        assert set(refusal["fields"]) == fields
        entry = {"meter_id" if key == "id" else key: value for key, value in body.items()} | {"late": late}
        refusal = await front.refused("PUT", "/v1/catalog", {"meters": [entry]}, status=422)
        assert set(refusal["fields"]) == {f"meters.0.{field}" for field in fields}
    assert body["id"] not in [m["id"] for m in await front.get("/v1/meters")]


async def test_a_held_difference_is_shown_answered_and_billed(front: Front) -> None:
    made = await front.post("/v1/meters", meter(late={"kind": "hold"}))
    item = {
        "key": "calls",
        "name": "Calls",
        "basis": "meter",
        "meter": made["id"],
        "price": {"kind": "per_unit", "rate": "0.5"},
    }
    await front.put(f"/v1/plans/{made['id']}", {"name": "Calls", "currency": "EUR", "items": [item]})
    customer = await front.customer()
    sub = await front.subscription(customer, plan=made["id"])

    async def use(n: int) -> None:
        sent = event(subject=customer, type=made["event_type"], time="2026-01-05T00:00:00Z", data={"n": n})
        assert await send(front, [sent]) == {"accepted": 1}

    async def seen() -> list[tuple[str, str, int]]:
        found = await front.get(f"/v1/subscriptions/{sub}/late-usage")
        assert all(one["meter"] == made["id"] and one["currency"] == "EUR" for one in found)
        return [(one["state"], one["quantity"], one["net_minor"]) for one in found]

    await use(10)
    await front.advance("clk", datetime(2026, 2, 2, tzinfo=UTC))
    assert await seen() == []
    await use(4)
    assert await seen() == [("to_be_asked", "4", 200)]
    await front.advance("clk", datetime(2026, 3, 2, tzinfo=UTC))
    await use(2)
    assert await seen() == [("asked", "4", 200), ("to_be_asked", "2", 100)]
    [asked] = [one for one in await front.get(f"/v1/subscriptions/{sub}/late-usage") if one["task_id"]]
    [question] = [one for one in await front.get("/v1/tasks") if one["id"] == asked["task_id"]]
    assert question["kind"] == "late usage" and customer in question["reason"] and "+4" in question["reason"]
    path = f"/v1/tasks/{question['id']}/answer"
    unclear = {"by": "Carla", "answer": "yes, billed"}
    refusal = await front.refused("POST", path, unclear, status=422, code="unclear_answer")
    assert set(refusal["fields"]) == {"answer"}
    for _ in range(2):
        answered = await front.post(path, {"by": "Carla", "answer": "bill: they know"})
        assert answered["answer"] == "bill: they know"
    refusal = await front.refused("POST", path, {"by": "Dora", "answer": "waive"}, status=409)
    assert refusal["fields"]["answer"].startswith("answered already: bill: they know, by Carla on 2026-03-")
    assert await seen() == [("next_invoice", "4", 200), ("to_be_asked", "2", 100)]
    await front.advance("clk", datetime(2026, 4, 2, tzinfo=UTC))
    assert await seen() == [("asked", "2", 100)]
    [waiting] = await front.get(f"/v1/subscriptions/{sub}/late-usage")
    await front.post(f"/v1/tasks/{waiting['task_id']}/answer", {"by": "Carla", "answer": "Waive"})
    assert await seen() == [("waived", "2", 100)]
    await front.advance("clk", datetime(2026, 5, 2, tzinfo=UTC))
    late = front.rows(
        "select quantity::int, net_minor::int from invoice_line where subscription_id = %s and kind = 'late_usage'", sub
    )
    assert late == [(4, 200)]
    for invoice in await front.get(f"/v1/invoices?subscription={sub}"):
        replayed = await front.get(f"/v1/invoices/{invoice['id']}/replay")
        assert replayed["same"], replayed
    await front.refused("GET", "/v1/subscriptions/nobody/late-usage", status=404)


@pytest.mark.parametrize(("late", "year"), [("next_invoice", 2026), ("credit_and_rebill", 2027)])
async def test_an_amount_off_comes_back_with_the_usage_that_it_reduced(front: Front, late: str, year: int) -> None:
    """10 calls at 0.50 less 3 EUR; then 8 of them are taken back, and 6 come."""
    made = await front.post("/v1/meters", meter(late={"kind": late}))
    item = {"key": "calls", "name": "Calls", "basis": "meter", "meter": made["id"]}
    plan = {"name": "Calls", "currency": "EUR", "items": [item | {"price": {"kind": "per_unit", "rate": "0.5"}}]}
    off = {"kind": "amount", "value": "3", "name": "Welcome"}
    await front.put(f"/v1/plans/{made['id']}", plan | {"discounts": [off]})
    customer = await front.customer()
    await front.advance("clk", datetime(year, 7, 2, tzinfo=UTC))
    sub = await front.subscription(customer, plan=made["id"], starts_on=f"{year}-07-02")
    nets = []
    for month, n in ((8, 10), (9, -8), (10, 6)):
        sent = event(subject=customer, type=made["event_type"], time=f"{year}-07-05T00:00:00Z", data={"n": n})
        assert await send(front, [sent]) == {"accepted": 1}
        await front.advance("clk", datetime(year, month, 3, tzinfo=UTC))
        [(net,)] = front.rows(
            "select sum(gross_minor - discount_minor)::int from invoice_line where subscription_id = %s", sub
        )
        nets.append(net)
    assert nets == [200, 0, 100]
