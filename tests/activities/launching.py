"""Roll-outs as these tests make them and go on with them: as the API stores them and the workflow does their steps."""

from __future__ import annotations

from datetime import date
from typing import Any

from activities.rolling_out import NextBatch, Outlook, Rollouts
from billing.plan import Plan
from models import launch
from models.catalog import publish
from models.database import transaction
from models.rollout import Rollout
from models.values import read
from tests.activities.company import TEAM, Company
from tests.activities.twice import twice

TODAY = date(2026, 2, 10)


def dearer(amount: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
    """The plan with another base fee."""
    base, *others = (content or TEAM)["items"]
    return {**(content or TEAM), "items": [{**base, "price": {"kind": "flat", "amount": amount}}, *others]}


def publish_version(company: Company, plan_id: str, content: dict[str, Any]) -> None:
    """Published, but not sold yet."""
    with transaction(company.engine) as session:
        publish(session, read(Plan, {"plan_id": plan_id, "version": 1, **content}), company.now(), None)


def make(company: Company, name: str = "r", **asked: Any) -> Rollout:
    with transaction(company.engine) as session:
        row = Rollout(
            **{
                "id": name,
                "entity_id": "acme",
                "plan_id": "team",
                "to_plan_id": "team",
                "to_version": 2,
                "audience": "all",
                "on_day": TODAY,
                "made_at": company.now(),
                "made_with": "key",
            }
            | asked
        )
        return launch.launch(session, row, TODAY)


def hands(company: Company) -> Rollouts:
    return Rollouts(company.engine)


def go_on(company: Company, name: str = "r") -> Outlook:
    """As the workflow does it, each step twice."""
    seen: Outlook = twice(company, hands(company).look_at_rollout, name)
    steps = {"stage": hands(company).stage, "decide": hands(company).decide, "take back": hands(company).take_back}
    while seen.to_do:
        seen = twice(company, steps[seen.to_do], NextBatch(name, seen.after))
    return seen
