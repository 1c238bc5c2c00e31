"""What is agreed, changed and ended through the API: one request per id, previews that hold, refusals that say why."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import anyio
import pytest

from tests.api.conftest import Front
from tests.conftest import TEAM

pytestmark = pytest.mark.anyio


def new(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(4)}"


async def running(front: Front, **agreed: Any) -> str:
    """A subscription that began on 1 January and is billed for it, and it is the second now."""
    if (await front.get("/v1/test-clocks/clk"))["now"] < "2026-01-02":
        await front.advance("clk", datetime(2026, 1, 2, 12, tzinfo=UTC))
    path = f"/v1/subscriptions/{await front.subscription(**agreed)}"
    await until(front, path, lambda s: s["billed_through"].get("advance") == "2026-02-01")
    return path


async def test_signing_twice_is_signing_once(front: Front) -> None:
    customer, name = await front.customer(), new("sub")
    agreed = {"id": name, "customer": customer, "entity": "acme", "plan": "team", "starts_on": "2026-01-01"}
    answers: list[Any] = []

    async def sign() -> None:
        answers.append(await front.api.post("/v1/subscriptions", json=agreed))

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(sign)
    assert {a.status_code for a in answers} <= {201, 409}
    again = await front.post("/v1/subscriptions", agreed)
    assert all(a.json() == again for a in answers if a.status_code == 201)
    assert front.rows("select count(*) from contract where customer_id = %s", customer) == [(1,)]
    for unknown in ({"plan": "none"}, {"plan_version": 9}, {"customer": "none"}, {"entity": "none"}):
        body = {**agreed, "id": new("sub"), **unknown}
        await front.refused("POST", "/v1/subscriptions", body, status=404, code="not_found")
    await front.put("/v1/plans/dollars", {**TEAM, "currency": "USD"})
    body = {**agreed, "id": new("sub"), "plan": "dollars"}
    refusal = await front.refused("POST", "/v1/subscriptions", body, status=422, code="invalid_agreement")
    assert set(refusal["fields"]) == {"plan"}
    refusal = await front.refused("POST", "/v1/subscriptions", {**agreed, "id": new("sub")}, status=422)
    assert (refusal["code"], set(refusal["fields"])) == ("double_metering", {"plan"})


async def test_a_preview_is_what_happens_and_an_id_is_one_request(front: Front) -> None:
    path, amendment = await running(front), new("amd")
    change = {"seats": 3, "discount_percent": "10"}
    seen = await front.post(f"{path}/amendments/preview", change)
    assert await front.post(f"{path}/amendments/preview", {**change, "seats": "3.0"}) == seen
    asked = {**change, "id": amendment, "preview_hash": seen["preview_hash"]}
    answer = await front.post(f"{path}/amendments", asked)
    assert answer["accepted"] and answer["net_minor"] == seen["net"]["minor"]
    assert await front.post(f"{path}/amendments", asked) == answer
    assert await front.post(f"{path}/amendments", {"id": amendment}) == answer
    stands = await front.get(path)
    assert (stands["seats"], stands["discount_percent"], len(stands["amendments"])) == ("3", "10", 1)
    for other in ({"seats": 4}, {"discount_percent": 0}, {"effective_on": "2026-02-01"}, {"plan": "none"}):
        refusal = await front.refused("POST", f"{path}/amendments", {**asked, **other}, status=409, code="conflict")
        assert set(refusal["fields"]) == {"id"}
    elsewhere = await running(front)
    await front.refused("POST", f"{elsewhere}/amendments", asked, status=409, code="conflict")
    await front.refused("POST", f"{elsewhere}/upgrade-requests", asked, status=409, code="conflict")


async def test_an_outdated_preview_changes_nothing(front: Front) -> None:
    path = await running(front)
    seen = await front.post(f"{path}/amendments/preview", {"discount_percent": 20})
    await front.post(f"{path}/amendments", {"seats": 7})
    asked = {"id": new("amd"), "discount_percent": 20, "preview_hash": seen["preview_hash"]}
    for _ in range(2):
        refusal = await front.refused("POST", f"{path}/amendments", asked, status=409, code="preview_outdated")
        assert "under a new id; this one is used up" in refusal["remedy"]
    stands = await front.get(path)
    assert (stands["seats"], stands["discount_percent"]) == ("7", "0")


async def test_a_change_of_nothing_is_refused_and_its_id_stays_free(front: Front) -> None:
    path, amendment = await running(front), new("amd")
    for nothing in ({}, {"effective_on": "2026-02-01"}, {"coupons": []}, {"plan": ""}, {"seats": None}):
        asked = {**nothing, "id": amendment}
        for where, body in (("amendments", asked), ("upgrade-requests", asked), ("amendments/preview", nothing)):
            refusal = await front.refused("POST", f"{path}/{where}", body, status=422, code="invalid_amendment")
            said = "changes nothing; give at least one of plan, add_ons, coupons, seats, discount_percent"
            assert refusal["fields"] == {"body": said}
    answer = await front.post(f"{path}/amendments", {"id": amendment, "add_ons": []})
    assert answer["accepted"]


async def test_impossible_changes_are_refused_by_preview_and_amendment_alike(front: Front) -> None:
    path = await running(front)
    await front.put("/v1/plans/dollars", {**TEAM, "currency": "USD"})
    await front.put("/v1/plans/yearly", {**TEAM, "interval": {"unit": "year"}})
    for change, field in (
        ({"seats": 2, "effective_on": "2026-01-01"}, "effective_on"),
        ({"plan": "dollars"}, "plan"),
        ({"plan": "yearly"}, "plan"),
        ({"seats": "1.5"}, "seats"),
    ):
        refusal = await front.refused("POST", f"{path}/amendments/preview", change, status=422)
        assert set(refusal["fields"]) == {field}
        refusal = await front.refused("POST", f"{path}/amendments", change, status=422, code="invalid_amendment")
        assert set(refusal["fields"]) == {field} and "nothing was changed" in refusal["remedy"]
    for end in ("amendments/preview", "amendments", "upgrade-requests"):
        await front.refused("POST", f"{path}/{end}", {"plan": "none"}, status=404, code="not_found")
    assert (await front.get(path))["plan"] == "team"


async def until(front: Front, path: str, what: Any) -> Any:
    with anyio.fail_after(20):
        while not what(found := await front.get(path)):
            await anyio.sleep(0.02)
        return found


async def test_an_upgrade_is_asked_for_by_signal(front: Front) -> None:
    path, amendment = await running(front), new("amd")
    asked = {"id": amendment, "seats": 9}
    for _ in range(2):
        assert await front.post(f"{path}/upgrade-requests", asked) == {"id": amendment}
    stands = await until(front, path, lambda s: s["seats"] == "9")
    assert [a["id"] for a in stands["amendments"]] == [amendment]
    assert stands["amendments"][0]["answer"]["accepted"]


async def test_a_planned_amendment_is_withdrawn_until_it_takes_effect(front: Front) -> None:
    path, planned, done = await running(front), new("amd"), new("amd")
    await front.post(f"{path}/amendments", {"id": planned, "seats": 7, "effective_on": "2026-01-20"})
    await front.post(f"{path}/amendments", {"id": done, "seats": 4})
    for _ in range(2):
        assert (await front.post(f"{path}/amendments/{planned}/withdraw", None))["effective_on"] == "2026-01-20"
    late = await front.refused("POST", f"{path}/amendments/{done}/withdraw", status=409, code="nothing_to_withdraw")
    assert late["detail"] == "The amendment has taken effect."
    other = await running(front)
    for unknown in (f"{path}/amendments/none/withdraw", f"{other}/amendments/{planned}/withdraw"):
        await front.refused("POST", unknown, status=404, code="not_found")
    seen = await front.get(path)
    assert {one["id"]: one["withdrawn_at"] is not None for one in seen["amendments"]} == {planned: True, done: False}
    assert seen["seats"] == "4"


async def test_coupons_of_a_withdrawn_amendment_can_be_redeemed_again(front: Front) -> None:
    coupon, first, second = new("C"), new("amd"), new("amd")
    discounts = [{"kind": "percent", "value": "10"}]
    await front.put(f"/v1/coupons/{coupon}", {"name": "Tenth", "discounts": discounts, "most": 1})
    path, other = await running(front), await running(front)
    wanted = {"coupons": [coupon], "effective_on": "2026-01-20"}
    await front.post(f"{path}/amendments", {**wanted, "id": first})
    await front.refused("POST", f"{other}/amendments", wanted, status=422, code="coupon_refused")
    await front.post(f"{path}/amendments/{first}/withdraw", None)
    assert (await front.get(f"/v1/coupons/{coupon}"))["redeemed"] == 0
    await front.post(f"{path}/amendments", {**wanted, "id": second})
    assert (await front.get(f"/v1/coupons/{coupon}"))["redeemed"] == 1
    await front.refused("POST", f"{path}/amendments", wanted, status=422, code="coupon_refused")
    await front.refused("POST", f"{other}/amendments", wanted, status=422, code="coupon_refused")


async def test_a_cancellation_at_the_period_end_and_its_withdrawal(front: Front) -> None:
    path, name = await running(front), new("can")
    asked = {"id": name, "reason": "moves in-house"}
    for _ in range(2):
        assert await front.post(f"{path}/cancellations", asked) == {"id": name, "effective_on": "2026-02-01"}
    await until(front, path, lambda s: s["ends_on"] == "2026-02-01")
    await front.refused("POST", f"{path}/cancellations", {"reason": "again"}, status=409, code="already_cancelled")
    await front.refused("POST", f"{path}/cancellations", {**asked, "reason": "other"}, status=409, code="conflict")
    other = await running(front)
    await front.refused("POST", f"{other}/cancellations", asked, status=409, code="conflict")
    assert (await front.get(other))["ends_on"] is None
    assert (await front.post(f"{path}/cancellations/withdraw", None))["accepted"]
    assert (await front.get(path))["ends_on"] is None
    await front.refused("POST", f"{path}/cancellations/withdraw", status=409, code="nothing_to_withdraw")
    later = {"id": new("can"), "reason": "after all", "when": "2026-03-15"}
    assert (await front.post(f"{path}/cancellations", later))["effective_on"] == "2026-03-15"
    await until(front, path, lambda s: s["ends_on"] == "2026-03-15")
    after_the_end = {"seats": 2, "effective_on": "2026-03-15"}
    await front.refused("POST", f"{path}/amendments/preview", after_the_end, status=422, code="invalid_amendment")


async def test_an_end_today_and_what_can_no_longer_be_done(front: Front) -> None:
    path = await running(front)
    for when in ("2026-01-01", "yesterday", "9999-12-31", 5):
        body = {"reason": "r", "when": when}
        refusal = await front.refused("POST", f"{path}/cancellations", body, status=422)
        assert set(refusal["fields"]) == {"when"}
    ended = await front.post(f"{path}/cancellations", {"reason": "now", "when": "now"})
    assert ended["effective_on"] == "2026-01-02"
    await until(front, path, lambda s: s["ends_on"] == "2026-01-02")
    await front.advance("clk", datetime(2026, 1, 2, 13, tzinfo=UTC))
    await until(front, path, lambda s: s["subscription"]["state"] == "ended")
    await front.refused("POST", f"{path}/amendments/preview", {"seats": 2}, status=409)
    await front.refused("POST", f"{path}/amendments", {"seats": 2}, status=409)
    await front.refused("POST", f"{path}/cancellations", {"reason": "again"}, status=409)
    await front.refused("POST", f"{path}/cancellations/withdraw", status=409, code="nothing_to_withdraw")
    assert await front.get(f"{path}/upcoming-invoice") is None


async def pages(front: Front, path: str, cursor: Any, limit: int) -> list[Any]:
    """Every page, one after the other, each behind the last row of the one before."""
    found: list[Any] = []
    after = ""
    join = "&" if "?" in path else "?"
    while page := await front.get(f"{path}{join}limit={limit}&after={after}"):
        found += page
        after = cursor(page[-1])
    return found


async def test_lists_go_on_to_their_end(front: Front) -> None:
    for _ in range(8):
        await running(front)
    for path, key in (("/v1/customers", "id"), ("/v1/subscriptions", "id"), ("/v1/invoices", "number")):
        whole = await front.get(f"{path}?limit=500")
        assert len(whole) >= 8
        for limit in (1, 3, len(whole), 500):
            assert await pages(front, path, lambda row, key=key: row[key], limit) == whole
    for after in ("nonsense", "A-000000"):
        said = await front.refused("GET", f"/v1/invoices?after={after}", status=422, code="invalid_request")
        assert said["fields"] == {"after": "must be the number of an invoice or credit note"}


async def test_the_journal_goes_on_to_its_end_in_whole_entries(front: Front) -> None:
    for _ in range(4):
        await running(front)
    path = "/v1/entities/acme/ledger/2026-01/journal"
    whole = await front.get(f"{path}?limit=1000")
    many = len({line["entry_id"] for line in whole["lines"]})
    assert many > 3 and whole["next"] is None
    for limit in (1, 2, many, many + 1):
        lines, after = [], ""
        while after is not None:
            page = await front.get(f"{path}?limit={limit}&after={quote(after)}")
            assert 1 <= len({line["entry_id"] for line in page["lines"]}) <= limit
            lines, after = lines + page["lines"], page["next"]
        assert lines == whole["lines"]
    for wrong in ("nonsense", "2026-01-01/je_1", '["2026-01-01"]'):
        await front.refused("GET", f"{path}?after={quote(wrong)}", status=422, code="invalid_request")


async def test_what_is_announced_is_what_is_billed_and_every_figure_is_explained(front: Front) -> None:
    customer = await front.customer()
    await front.put(f"/v1/customers/{customer}/payment-method", {"gateway": "pretend", "token": "pm_card_visa"})
    path = await running(front, customer_id=customer, prepaid_credit="50", seats=2)
    used = {"source": "s", "subject": customer, "type": "llm", "time": "2026-01-05T00:00:00Z", "data": {"n": 1234.5}}
    await front.post("/v1/events", {"events": [{**used, "id": new("e")}]})
    await front.post(f"{path}/amendments", {"discount_percent": 25, "effective_on": "2026-01-20"})
    await front.advance("clk", datetime(2026, 1, 31, 12, tzinfo=UTC))
    announced = await front.get(f"{path}/upcoming-invoice")
    await front.advance("clk", datetime(2026, 2, 2, tzinfo=UTC))
    _, billed = await front.get(f"/v1/invoices?customer={customer}")
    assert [announced[x] for x in ("net", "tax", "total", "due")] == [
        f"{billed[f'{x}_minor'] / 100:.2f}" for x in ("net", "tax", "total", "due")
    ]
    whole = await front.get(f"/v1/invoices/{billed['id']}")
    assert await front.get(f"/v1/invoices/{billed['number']}") == whole
    assert len(whole["lines"]) == len(announced["lines"]) and whole["status"] == "settled"
    assert sum(line["net_minor"] for line in whole["lines"]) == billed["net_minor"]
    explained = await front.get(f"/v1/invoices/{billed['number']}/explain")
    assert [line["description"] for line in explained["lines"]] == [line["description"] for line in whole["lines"]]
    assert all(line["because"] for line in explained["lines"])
    assert "1,234.5" in str(explained) and "25%" in str(explained)
    assert [p["amount_minor"] for p in whole["payments"]] == [billed["due_minor"]]
