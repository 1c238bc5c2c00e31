"""Test clocks, and waking whoever is due: the agenda says who, the client tells them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import Engine
from temporalio import activity
from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from activities.closing import Month
from activities.onboarding import LIFECYCLE_QUEUE
from activities.pulse import heartbeating_async
from billing.errors import Broken, NotFound, Refused
from models import agenda, closing, rebuild
from models.agenda import ClockMoment
from models.database import transaction
from models.entity import TestClock

AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Advance:
    """Move a test clock to `to`, living through everything due on the way."""

    clock_id: str
    to: datetime


@dataclass(frozen=True, slots=True)
class Step:
    """Where a clock stands: what is due now, or that it has arrived."""

    at: datetime
    subjects: tuple[str, ...]
    entities: tuple[str, ...]
    arrived: bool


class Clocks:
    """Moves test clocks and wakes subjects."""

    def __init__(self, engine: Engine, client: Client) -> None:
        self.engine = engine
        self.client = client

    @activity.defn
    def aim(self, command: Advance) -> datetime:
        """Write down where the clock is to go; backwards is refused."""
        with transaction(self.engine) as session:
            clock = session.get(TestClock, command.clock_id, with_for_update=True)
            if clock is None:
                raise NotFound("test clock", command.clock_id)
            if command.to < clock.now_at:
                raise Refused(
                    f"The clock is at {clock.now_at.isoformat()} and does not go back.",
                    code="clock_back",
                    remedy="Send it to a later moment, or make another clock.",
                )
            clock.target_at = max(clock.target_at, command.to)
            return clock.target_at

    @activity.defn
    def due_now(self, clock_id: str) -> Step:
        """What is due at the clock's present moment, first things first."""
        with transaction(self.engine) as session:
            clock = session.get_one(TestClock, clock_id)
            return _step(agenda.due_on_clock(session, clock_id, clock.now_at), clock)

    @activity.defn
    def move_on(self, clock_id: str) -> Step:
        """Go to the next moment at which anything is due, or to the target. Whoever repeats it finds the same."""
        with transaction(self.engine) as session:
            clock = session.get(TestClock, clock_id, with_for_update=True)
            if clock is None:
                raise Broken(f"test clock {clock_id} is gone")
            following = agenda.next_moment(session, clock_id, clock.target_at)
            clock.now_at = max(clock.now_at, following or clock.target_at)
            return _step(agenda.due_on_clock(session, clock_id, clock.now_at), clock)

    @activity.defn
    async def tick(self, subjects: tuple[str, ...]) -> int:
        """Wake subjects and wait until each has done what is due; some at a time."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(subject: str) -> None:
            async with gate:
                await wake(self.client, subject)

        async with heartbeating_async():
            await asyncio.gather(*(one(subject) for subject in subjects))
        return len(subjects)

    @activity.defn
    async def rouse(self, subjects: tuple[str, ...]) -> int:
        """Tell subjects on the wall clock to look what is due; nobody is waited for, so that none holds up others."""
        async with heartbeating_async():
            for subject in subjects:
                workflow, argument = who(subject)
                await self.client.start_workflow(
                    workflow,
                    argument,
                    id=subject,
                    task_queue=LIFECYCLE_QUEUE,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    start_signal="agenda_changed",
                )
        return len(subjects)

    @activity.defn
    async def wake_overdue(self) -> int:
        """Rouse everyone on the wall clock who should have woken by now."""
        return await self.rouse(await asyncio.to_thread(self._overdue))

    async def rebuild(self) -> int:
        """Start everyone who has something to wait for and does not run; looking changes nothing that is not due."""
        subjects = await asyncio.to_thread(self._planned)
        for subject in subjects:
            workflow, argument = who(subject)
            await self.client.start_workflow(
                workflow,
                argument,
                id=subject,
                task_queue=LIFECYCLE_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            )
        return len(subjects)

    def _overdue(self) -> tuple[str, ...]:
        with transaction(self.engine) as session:
            found = agenda.open_subjects(session, overdue_only=True, now=datetime.now(UTC))
            begun = rebuild.subjects(session, to_do_only=True)
        return (*(subject for subject, _ in found), *begun)

    def _planned(self) -> list[str]:
        with transaction(self.engine) as session:
            planned = agenda.open_subjects(session, overdue_only=False, now=datetime.now(UTC))
            begun = [Month(c.entity_id, c.month).subject for c in closing.closes(session) if c.locked_at is None]
            begun += rebuild.subjects(session, to_do_only=False)
        return sorted({*begun, *(subject for subject, _ in planned)})


def _step(due: ClockMoment, clock: TestClock) -> Step:
    arrived = not due.subjects and not due.entities and clock.now_at >= clock.target_at
    return Step(clock.now_at, due.subjects, due.entities, arrived)


async def wake(client: Client, subject: str) -> None:
    """Start the subject's workflow if it does not run, and wait until it has done what is due."""
    workflow, argument = who(subject)
    start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
        workflow,
        argument,
        id=subject,
        task_queue=LIFECYCLE_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
    )
    await client.execute_update_with_start_workflow("tick", start_workflow_operation=start, result_type=type(None))


def who(subject: str) -> tuple[str, str | Month]:
    """The workflow behind a subject and what it is started with; both follow from the subject's id."""
    kind, _, rest = subject.partition("/")
    match kind:
        case "subscription":
            return "Subscription", rest
        case "collection":
            return "Collection", rest
        case "rollout":
            return "Rollout", rest
        case "rebuild":
            return "Rebuild", rest
        case "close":
            entity_id, _, month = rest.rpartition("/")
            return "MonthlyClose", Month(entity_id, date.fromisoformat(f"{month}-01"))
        case _:
            raise Broken(f"nobody knows how to wake {subject!r}")
