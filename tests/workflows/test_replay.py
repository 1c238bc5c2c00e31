"""Workflows that are under way must survive a change of the code.

`histories/` holds what a month left behind; it is replayed. `frozen.json` holds the commands and messages; a month is
lived and compared. After a change that was looked at and is meant, both are written anew by

    RECORD=1 python -m pytest tests/workflows/test_replay.py

Old histories that are replaced must not be needed any more: a change to running workflows goes behind `patched`.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from integrations.crm.pretend import SAMPLE
from tests.conftest import TEAM
from tests.workflows.shape import Shape, commands, messages
from tests.workflows.stage import Stage, at
from worker import SLOTS
from workflows.registry import WORKFLOWS, runner

pytestmark = pytest.mark.anyio
HERE = Path(__file__).parent
FROZEN = HERE / "frozen.json"
HISTORIES = sorted(HERE.glob("histories/*.json"))
RECORD = bool(os.environ.get("RECORD"))


async def live_a_month(stage: Stage) -> dict[str, WorkflowHistory]:
    """A deal, an amendment, a decline, a cancellation and a close in ten days; what each kind of workflow left."""
    house = stage.house
    await house.cast("2026-01-28T09:00:00Z", date(2026, 1, 1))
    house.crm.win(replace(SAMPLE, entity="acme", plan="team", seats=Decimal(1), starts_on=date(2025, 12, 31)))
    await house.client.execute_workflow("CrmIntake", id="crm-intake", task_queue="lifecycle")
    await house.client.start_workflow("Courier", "crm", id="courier/crm", task_queue="lifecycle")
    await house.client.execute_workflow("Sweep", id="sweep", task_queue="lifecycle")
    await house.client.execute_workflow("MonthsAhead", id="months-ahead", task_queue="lifecycle")
    await house.client.execute_workflow("Forgetting", id="forgetting", task_queue="lifecycle")
    (sub,) = await stage.until(lambda: house.get("/v1/subscriptions"), "the subscription")
    method = {"gateway": "pretend", "token": "pm_card_visa"}
    await house.put(f"/v1/customers/{sub['customer_id']}/payment-method", method)
    house.gateway.expect(sub["customer_id"], "insufficient_funds", "succeeded")
    await house.advance("clk", at(30))
    path = f"/v1/subscriptions/{sub['id']}"
    await house.post(f"{path}/amendments", {"id": "amd-1", "discount_percent": 10, "effective_on": "2026-01-31"})
    await house.post(f"{path}/cancellations", {"id": "can-1", "when": "2026-02-03", "reason": "moves"})
    await stage.until(lambda: ends(stage, path), "the end")
    await roll_out_and_back(stage)
    await count_anew(stage)
    await house.advance("clk", at(6, 2))
    await house.post("/v1/entities/acme/closes/2026-01/approve", {"by": "Carla"})
    await house.client.get_workflow_handle("close/acme/2026-01").result()
    found: dict[str, WorkflowHistory] = {}
    async for run in house.client.list_workflows(""):
        history = await house.client.get_workflow_handle(run.id, run_id=run.run_id).fetch_history()
        kind = run.workflow_type
        if kind not in found or len(history.events) > len(found[kind].events):
            found[kind] = history
    return found


async def roll_out_and_back(stage: Stage) -> None:
    """A dearer version holds two subscriptions for a person, who has one moved; then all of it is taken back."""
    house = stage.house
    await stage.sign("later", starts_on="2026-03-01")
    dearer = {"key": "base", "name": "Base", "price": {"kind": "flat", "amount": "150"}}
    await house.put("/v1/plans/team", {**TEAM, "items": [dearer]})
    asked = {"id": "rol-1", "entity": "acme", "plan": "team", "version": 2, "audience": "all", "on": "2026-02-01"}
    await house.post("/v1/rollouts", {**asked, "guard": {"percent": 0, "action": "hold"}})
    await stage.until(lambda: counted(stage, held=2), "the questions")
    task = next(task for task in await stage.tasks() if task["subject"] == "rollout/rol-1/later")
    await stage.answer(task, "move")
    await stage.until(lambda: counted(stage, held=1, planned=1), "the move to be planned")
    await house.post("/v1/rollouts/rol-1/take-back", {})
    await stage.until(lambda: counted(stage, taken_back=2), "the take-back")


async def count_anew(stage: Stage) -> None:
    """The days of a meter are counted anew and compared, and then hold."""
    path = "/v1/meters/tokens/rebuilds"
    await stage.house.post(path, {"id": "reb-1", "since": "2026-01-01"})
    await stage.until(lambda: rebuilt(stage, "compared"), "the comparison")
    await stage.house.post(f"{path}/reb-1/apply", {})
    await stage.until(lambda: rebuilt(stage, "applied"), "the rebuild to hold")
    await stage.house.client.get_workflow_handle("rebuild/tokens").result()


async def rebuilt(stage: Stage, wanted: str) -> bool:
    return (await stage.house.get("/v1/meters/tokens/rebuilds/reb-1"))["stage"] == wanted


async def counted(stage: Stage, **members: int) -> bool:
    return (await stage.house.get("/v1/rollouts/rol-1"))["counts"] == members


async def ends(stage: Stage, path: str) -> object:
    return (await stage.house.get(path))["ends_on"]


async def test_commands_and_messages_are_those_that_were_looked_at(stage: Stage) -> None:
    lived = await live_a_month(stage)
    assert set(lived) == {kind.__name__ for kind in WORKFLOWS}
    activities = [act for queue in SLOTS for act in stage.house.hands.on(queue)]
    shape: Shape = {
        "commands": {kind: commands(history) for kind, history in sorted(lived.items())},
        **messages(WORKFLOWS, activities),
    }
    if RECORD:
        FROZEN.write_text(json.dumps(shape, indent=1, ensure_ascii=False) + "\n")
        for kind, history in lived.items():
            text = json.dumps(without_machine(json.loads(history.to_json())))
            (HERE / "histories" / f"{kind}.json").write_text(text + "\n")
    frozen = json.loads(FROZEN.read_text())
    assert shape == frozen, difference(frozen, shape)


def without_machine(part: Any) -> Any:
    """Without the names of the processes and machines that took part."""
    if isinstance(part, list):
        return [without_machine(one) for one in part]
    if isinstance(part, dict):
        return {key: without_machine(value) for key, value in part.items() if key not in ("identity", "stackTrace")}
    return re.sub(r"\d+@[\w.-]+", "worker", part) if isinstance(part, str) else part


def difference(frozen: Shape, shape: Shape) -> str:
    texts = [json.dumps(one, indent=1, ensure_ascii=False).splitlines() for one in (frozen, shape)]
    lines = difflib.unified_diff(*texts, "frozen.json", "now", lineterm="", n=2)
    return "\n".join(
        [
            "What workflows send has changed. Those under way were started by the old code: is the change behind",
            "workflow.patched, and can old payloads still be read? If so:",
            "RECORD=1 python -m pytest tests/workflows/test_replay.py",
            *lines,
        ]
    )


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_histories_replay(path: Path) -> None:
    replayer = Replayer(workflows=WORKFLOWS, workflow_runner=runner(), data_converter=pydantic_data_converter)
    await replayer.replay_workflow(WorkflowHistory.from_json(f"replay/{path.stem}", path.read_text()))


def test_there_is_a_history_of_every_workflow() -> None:
    assert {path.stem for path in HISTORIES} == {kind.__name__ for kind in WORKFLOWS}


async def test_the_replayer_finds_a_change_of_commands() -> None:
    """The opposite, so that the test above cannot pass by not looking: a history with another activity in it."""
    text = next(path for path in HISTORIES if path.stem == "BillingRun").read_text()
    replayer = Replayer(workflows=WORKFLOWS, workflow_runner=runner(), data_converter=pydantic_data_converter)
    other = WorkflowHistory.from_json("replay/other", text.replace('"finish_run"', '"finish_walk"'))
    with pytest.raises(Exception, match=r"finish_walk|[Nn]ondeterminis"):
        await replayer.replay_workflow(other)
