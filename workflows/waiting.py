"""What all long-lived workflows share: they rest until something is due, are woken by a tick, and park when refused.

On a test clock nobody uses a timer: `TestClock` ticks whoever is due and waits for the answer, which comes when the
subject has done what it could and rests again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, ChildWorkflowError, FailureError

from activities.lifecycle import Answer, Lifecycle, ParkedStep
from workflows.policies import DATABASE

T = TypeVar("T")


class Waiting:
    """A workflow that lives longer than its next step."""

    def __init__(self) -> None:
        self._asked = 0
        self._served = 0
        self._changed = False
        self._resumed = False
        self._ending = False

    @workflow.update(description="Do what is due now; answered when it is done.")
    async def tick(self) -> None:
        self._asked += 1
        mine = self._asked
        await workflow.wait_condition(lambda: self._served >= mine or self._ending)

    @workflow.signal(description="The agenda has a new row for this subject: look again.")
    def agenda_changed(self) -> None:
        self._changed = True

    @workflow.signal(description="A person has mended what was refused: try the parked step again.")
    def resume(self) -> None:
        self._resumed = True

    async def rest(self, timeout: timedelta | None = None, awake: Callable[[], bool] = lambda: False) -> None:
        """Wait for a tick, a change, `awake` or the timeout; everyone who ticked so far is answered."""
        self._served = self._asked
        with suppress(asyncio.TimeoutError):
            await workflow.wait_condition(
                lambda: self._changed or self._asked > self._served or awake(),
                timeout=timeout,
                timeout_summary="until the next due moment",
            )
        self._changed = False

    async def finish(self) -> None:
        """Answer everyone, whoever still comes too, and let running handlers end, before the workflow does.

        Who was answered without anything having been done finds the subject still due and asks again.
        """
        self._ending = True
        await workflow.wait_condition(workflow.all_handlers_finished)

    async def until_accepted(self, subject: str, entity_id: str | None, step: Callable[[], Awaitable[T]]) -> T:
        """Do a step; when it is refused, ask a person, say so in the details, and try again after `resume`."""
        while True:
            try:
                return await step()
            except (ActivityError, ChildWorkflowError) as error:
                cause = _said(error)
                if cause is None:
                    raise
                await self._park(subject, entity_id, cause)

    async def or_ask(self, subject: str, step: Callable[[], Awaitable[Answer]]) -> None:
        """For handlers of signals: do a step once; what is refused becomes a person's task, and nobody waits."""
        try:
            answer = await step()
            if answer.accepted or not workflow.patched("a refusal is asked about"):
                return
            reason, remedy = answer.words, answer.remedy
        except ActivityError as error:
            cause = _said(error)
            if cause is None:
                raise
            reason, remedy = _words(cause)
        await workflow.execute_activity_method(
            Lifecycle.ask, ParkedStep(subject, None, reason, remedy), summary="ask a person", **DATABASE
        )

    async def mended(self) -> None:
        """Wait until the parked step is to be tried again: a person says so."""
        while not self._resumed:
            await self.rest(awake=lambda: self._resumed)

    async def _park(self, subject: str, entity_id: str | None, cause: ApplicationError) -> None:
        reason, remedy = _words(cause)
        workflow.set_current_details(
            f"### Parked\n{reason}\n\n**What to do:** {remedy or 'see the task'}\n\n"
            "Then answer the task, or signal `resume`."
        )
        self._resumed = False
        await workflow.execute_activity_method(
            Lifecycle.park, ParkedStep(subject, entity_id, reason, remedy), summary="ask a person", **DATABASE
        )
        await self.mended()
        await workflow.execute_activity_method(Lifecycle.resume, subject, summary="due again", **DATABASE)


def until(due: datetime | None, now: datetime, on_clock: bool) -> timedelta | None:
    """How long to sleep; None on a test clock, where one waits to be ticked, and where nothing is planned.

    Both moments were read on one clock, so that clocks that disagree cannot make a wake come early again and again.
    """
    if on_clock or due is None:
        return None
    return max(due - now, timedelta(0))


def _words(cause: ApplicationError) -> tuple[str, str]:
    """Reason and remedy of what was refused."""
    remedy = str(cause.details[0]) if cause.details else ""
    faults = cause.details[2] if len(cause.details) > 2 else []
    return " ".join([cause.message, *(str(fault) for fault in faults)]), remedy


def _said(error: FailureError) -> ApplicationError | None:
    """What was refused or broke, behind the activity or the child workflow that failed of it."""
    cause: BaseException | None = error
    while isinstance(cause, ActivityError | ChildWorkflowError):
        cause = cause.cause
    return cause if isinstance(cause, ApplicationError) and cause.type in ("Refused", "Broken") else None
