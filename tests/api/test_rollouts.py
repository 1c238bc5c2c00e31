"""Roll-outs through the front door: a dry run is what happens, an id is one request, refusals name their fields."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from tests.api.conftest import Front

pytestmark = pytest.mark.anyio


def new(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(4)}"


def fee(amount: str, **other: Any) -> dict[str, Any]:
    item = {"key": "base", "name": "Base", "price": {"kind": "flat", "amount": amount}}
    return {"name": "P", "currency": "EUR", "items": [item], **other}


async def sold(front: Front, many: int = 2, amount: str = "125") -> tuple[str, list[str]]:
    """A plan of its own with so many subscriptions of version 1 at 100, and a version 2; it is 2 January or later."""
    plan_id = new("plan")
    await front.put(f"/v1/plans/{plan_id}", fee("100"))
    names = sorted([await front.subscription(plan=plan_id) for _ in range(many)])
    await front.advance("clk", max(datetime(2026, 1, 2, 9, tzinfo=UTC), await now(front)))
    await front.put(f"/v1/plans/{plan_id}", fee(amount))
    return plan_id, names


async def now(front: Front) -> datetime:
    return datetime.fromisoformat((await front.get("/v1/test-clocks/clk"))["now"])


def body(plan_id: str, **asked: Any) -> dict[str, Any]:
    return {
        "id": new("rol"),
        "entity": "acme",
        "plan": plan_id,
        "version": 2,
        "audience": "all",
        "on": "2026-01-02",
    } | asked


async def settled(front: Front, name: str) -> Any:
    """The roll-out once it has nothing to do by itself any more."""
    with anyio.fail_after(30):
        while True:
            found = await front.get(f"/v1/rollouts/{name}")
            row = found["rollout"]
            if row["taken_back_at"] or (row["staged_at"] and not row["take_back_at"]):
                return found
            await anyio.sleep(0.05)


async def test_a_dry_run_stores_nothing_and_is_what_happens(front: Front) -> None:
    plan_id, names = await sold(front)
    asked = body(plan_id, guard={"percent": "24.9", "action": "refuse"})
    before = front.rows("select (select count(*) from rollout), (select count(*) from amendment)")
    tried = await front.post("/v1/rollouts", {**asked, "dry_run": True})
    assert (tried["counts"], tried["open"]) == ({"refused": 2}, False)
    assert [(m["subscription_id"], m["before_minor"], m["after_minor"]) for m in tried["members"]] == [
        (name, 10_000, 12_500) for name in names
    ]
    assert "rises from 100.00 EUR to 125.00 EUR (25.0%), by more than 24.9%" in tried["members"][0]["why"]
    assert front.rows("select (select count(*) from rollout), (select count(*) from amendment)") == before
    await front.refused("GET", f"/v1/rollouts/{asked['id']}", status=404)

    made = await front.post("/v1/rollouts", asked)
    assert made["rollout"]["id"] == asked["id"] and made["members"] is None
    found = await settled(front, asked["id"])
    assert (found["counts"], found["open"]) == (tried["counts"], True), "the day has not begun everywhere"
    await front.advance("clk", max(datetime(2026, 1, 2, 13, tzinfo=UTC), await now(front)))
    found = await front.get(f"/v1/rollouts/{asked['id']}")
    assert (found["counts"], found["open"]) == (tried["counts"], False)
    listed = await front.get(f"/v1/rollouts/{asked['id']}/members")
    same = ("subscription_id", "before_minor", "after_minor", "why", "state", "move_on")
    assert [[m[key] for key in same] for m in listed] == [[m[key] for key in same] for m in tried["members"]]


async def test_the_same_id_is_one_roll_out_and_another_request_is_refused(front: Front) -> None:
    plan_id, names = await sold(front)
    asked = body(plan_id, cohort={"subscriptions": names}, audience="cohort")
    await front.post("/v1/rollouts", asked)
    await settled(front, asked["id"])
    again = await front.post("/v1/rollouts", asked)
    assert again["counts"] == {"moved": 2}
    for other in ({"version": 1}, {"audience": "all", "cohort": None}, {"guard": {"percent": 1, "action": "hold"}}):
        refusal = await front.refused("POST", "/v1/rollouts", {**asked, **other}, status=409, code="conflict")
        assert set(refusal["fields"]) == {"id"}
    stands = await front.get(f"/v1/subscriptions/{names[0]}")
    assert stands["plan_version"] == 2
    (amendment,) = stands["amendments"]
    assert amendment["requested_by"] == f"rollout/{asked['id']}" and amendment["applied_at"]
    assert await front.post(f"/v1/subscriptions/{names[0]}/amendments", {"id": amendment["id"]}) == amendment["answer"]
    assert (await front.get(f"/v1/subscriptions/{names[0]}"))["subscription"]["terms_version"] == 2


async def test_two_at_once_are_one_and_a_refusal(front: Front) -> None:
    plan_id, _ = await sold(front)
    statuses: list[int] = []

    async def attempt() -> None:
        statuses.append((await front.api.post("/v1/rollouts", json=body(plan_id, on="2027-01-02"))).status_code)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(attempt)
    assert sorted(statuses) == [201, 409, 409, 409]
    refusal = await front.refused("POST", "/v1/rollouts", body(plan_id), status=409, code="conflict")
    assert set(refusal["fields"]) == {"plan"} and "take it back" in refusal["remedy"]
    await front.refused("POST", "/v1/rollouts", body(plan_id, dry_run=True), status=409, code="conflict")


async def test_members_come_in_pages_and_by_state(front: Front) -> None:
    plan_id, names = await sold(front, 5)
    asked = body(plan_id, on="2027-01-02", audience="renewal")
    await front.post("/v1/rollouts", asked)
    found = await settled(front, asked["id"])
    assert (found["counts"], found["open"]) == ({"planned": 5}, True)
    path = f"/v1/rollouts/{asked['id']}/members"
    first = await front.get(f"{path}?limit=3")
    rest = await front.get(f"{path}?limit=3&after={first[-1]['subscription_id']}")
    assert [m["subscription_id"] for m in first + rest] == names
    assert {m["move_on"] for m in first} == {"2027-02-01"}
    assert await front.get(f"{path}?state=moved") == []
    assert len(await front.get(f"{path}?state=planned")) == 5
    await front.refused("GET", f"{path}?state=gone", status=422)
    assert asked["id"] in [row["id"] for row in await front.get("/v1/rollouts?limit=500")]


async def test_a_take_back_is_taken_once_and_the_former_version_is_sold_again(front: Front) -> None:
    plan_id, names = await sold(front)
    asked = body(plan_id)
    await front.post("/v1/rollouts", asked)
    await settled(front, asked["id"])
    for _ in range(2):
        assert (await front.post(f"/v1/rollouts/{asked['id']}/take-back", {}))["rollout"]["take_back_at"]
    found = await settled(front, asked["id"])
    assert (found["counts"], found["open"]) == ({"taken_back": 2}, False)
    assert (await front.get(f"/v1/subscriptions/{names[0]}"))["plan_version"] == 1
    members = await front.get(f"/v1/rollouts/{asked['id']}/members?state=taken_back")
    assert members[0]["back_amendment_id"] and members[0]["why"].startswith(f"moved back to {plan_id} version 1; ")
    await front.refused("POST", "/v1/rollouts/nobody/take-back", {}, status=404)


async def test_a_version_for_new_customers_moves_nobody(front: Front) -> None:
    plan_id, names = await sold(front)
    asked = body(plan_id, audience="new")
    await front.post("/v1/rollouts", asked)
    found = await settled(front, asked["id"])
    assert (found["counts"], found["open"]) == ({}, False)
    assert (await front.get(f"/v1/subscriptions/{names[0]}"))["plan_version"] == 1
    fresh = await front.subscription(plan=plan_id, starts_on="2026-02-01")
    assert (await front.get(f"/v1/subscriptions/{fresh}"))["plan_version"] == 2


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        ({"version": 9}, {"version"}),
        ({"plan": "no-such-plan"}, {"plan"}),
        ({"on": "2025-12-31"}, {"on"}),
        ({"on": "2026-02-01", "notice_days": 300}, {"on"}),
        ({"audience": "cohort"}, {"cohort"}),
        (
            {"audience": "cohort", "cohort": {"subscriptions": ["sub-x"], "customers": ["cus"]}},
            {
                "cohort.subscriptions.0",
                "cohort.customers.0",
            },
        ),
        ({"audience": "cohort", "cohort": {"percent": 0}}, {"cohort.percent"}),
        ({"audience": "some"}, {"audience"}),
        ({"guard": {"percent": "-1", "action": "hold"}}, {"guard.percent"}),
        ({"guard": {"percent": "1", "action": "pray"}}, {"guard.action"}),
        ({"gard": {}}, {"gard"}),
        ({"to_plan": "dollars-yearly", "version": 1}, {"version"}),
    ],
)
async def test_what_does_not_fit_is_refused_with_each_place(
    front: Front, asked: dict[str, Any], fields: set[str]
) -> None:
    await front.put("/v1/plans/dollars-yearly", fee("1", currency="USD", interval={"unit": "year", "count": 1}))
    plan_id, _ = await sold(front, 1)
    refusal = await front.refused("POST", "/v1/rollouts", body(plan_id, **asked), status=422)
    assert set(refusal["fields"]) == fields
    assert front.rows("select count(*) from rollout where plan_id = %s", plan_id) == [(0,)]


async def test_only_administrators_roll_out_and_take_back(front: Front) -> None:
    plan_id, _ = await sold(front, 1)
    writer = {"Authorization": f"Bearer {front.key('read', 'write')}"}
    assert (await front.api.post("/v1/rollouts", json=body(plan_id), headers=writer)).status_code == 403
    assert (await front.api.post("/v1/rollouts/any/take-back", json={}, headers=writer)).status_code == 403
    assert (await front.api.get("/v1/rollouts", headers=writer)).status_code == 200
    await front.refused("POST", "/v1/rollouts", body("team", entity="nobody"), status=404)
