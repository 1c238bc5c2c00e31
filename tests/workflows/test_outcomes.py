"""How errors cross into Temporal, and that the sandbox neither warns nor slows down."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from temporalio import activity
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from activities.outcomes import Outcomes, crossing
from billing.errors import Broken, Fault, Refused, Unavailable
from models.database import transaction
from models.ledger import journal
from tests.workflows.stage import Stage, at, rows
from workflows.client import connect, register_attributes
from workflows.policies import LIFECYCLE
from workflows.registry import WORKFLOWS, runner

pytestmark = pytest.mark.anyio


class Answers:
    """One activity that fails as it is told, and counts."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls: list[float] = []

    @activity.defn
    def wake_overdue(self) -> int:
        self.calls.append(time.monotonic())
        if self.failures:
            raise self.failures.pop(0)
        return len(self.calls)


@pytest.mark.parametrize(
    ("failures", "calls", "fails_as"),
    [
        ((Refused("no", code="c", faults=[Fault("f", "r")], remedy="do"),), 1, "Refused"),
        ((Broken("bug"),), 1, "Broken"),
        ((Unavailable("later", after=timedelta(seconds=0.5)), Unavailable("later")), 3, None),
        ((ConnectionError("gone"), ValueError("odd")), 3, None),
    ],
    ids=["refused", "broken", "unavailable", "anything else"],
)
async def test_who_is_tried_again(temporal: Any, failures: tuple[Exception, ...], calls: int, fails_as: str) -> None:
    client = await connect(temporal.address, "default")
    hands = Answers(*failures)
    with ThreadPoolExecutor(2) as pool:
        async with Worker(
            client,
            task_queue=LIFECYCLE,
            workflows=WORKFLOWS,
            activities=[hands.wake_overdue],
            activity_executor=pool,
            workflow_runner=runner(),
            interceptors=[Outcomes()],
        ):
            running = client.execute_workflow("Sweep", id="sweep", task_queue=LIFECYCLE)
            if fails_as is None:
                assert await running == calls
            else:
                with pytest.raises(WorkflowFailureError) as failure:
                    await running
                cause = failure.value.cause.cause  # type: ignore[union-attr]
                assert isinstance(cause, ApplicationError) and (cause.type, cause.non_retryable) == (fails_as, True)
                if fails_as == "Refused":
                    assert list(cause.details) == ["do", "c", ["f: r"]]
    assert len(hands.calls) == calls
    if isinstance(failures[0], Unavailable):
        assert hands.calls[1] - hands.calls[0] >= 0.5  # no sooner than the neighbour wished


async def test_an_entry_for_a_locked_month_is_refused_and_an_edit_of_the_books_is_broken(stage: Stage) -> None:
    await stage.january()
    await stage.sign()
    await stage.house.advance("clk", at(3))
    engine = stage.house.engine
    rows(engine, "insert into ledger_period values ('acme', '2026-12-01', 'locked')")
    with transaction(engine) as session:
        entry = journal(session, "acme", at(1).date().replace(day=1))[0].entry_id
    locked = crossed(engine, f"insert into journal_line {COPIED} from journal_line where entry_id = %s", entry)
    assert (locked.type, locked.non_retryable, locked.details[1]) == ("Refused", True, "month_closed")
    edited = crossed(engine, "delete from journal_line where entry_id = %s", entry)
    assert (edited.type, edited.non_retryable) == ("Broken", True)


COPIED = (
    "(entry_id, line_no, entity_id, account, side, amount_minor, currency, functional_minor, functional_currency,"
    " posted_on, cause_kind, cause_id)"
    " select entry_id, line_no + 100, entity_id, account, side, amount_minor, currency, functional_minor,"
    " functional_currency, posted_on, cause_kind, cause_id"
)


def crossed(engine: Any, sql: str, *values: object) -> ApplicationError:
    with pytest.raises(psycopg.Error) as failure:
        rows(engine, sql, *values)
    found = crossing(failure.value)
    assert isinstance(found, ApplicationError)
    return found


async def test_twenty_workflows_of_one_activity(temporal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings are errors here, so a module that the sandbox had to load again would fail this."""
    client = await connect(temporal.address, "default")
    await register_attributes(client)
    hands = Answers()
    with ThreadPoolExecutor(8) as pool:
        async with Worker(
            client,
            task_queue=LIFECYCLE,
            workflows=WORKFLOWS,
            activities=[hands.wake_overdue],
            activity_executor=pool,
            workflow_runner=runner(),
        ):
            started = time.monotonic()
            runs = (client.execute_workflow("Sweep", id=f"sweep-{n}", task_queue=LIFECYCLE) for n in range(20))
            await asyncio.gather(*runs)
            took = time.monotonic() - started
    assert len(hands.calls) == 20
    with capsys.disabled():
        print(f"\n  20 one-activity workflows in {took:.2f} s", end="")
