"""The ledger, the monthly close, and what waits for a person."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, StringConstraints
from sqlmodel import Session
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from api.access import Administrator, Database, Doors, Open, Reader, Writer, patiently
from api.bodies import ExactRoute
from api.fields import LongText, Person
from api.pages import behind, place
from billing.errors import Fault, Refused
from billing.late import to_be_billed
from billing.money import Money
from billing.period import month_of
from billing.rollout import to_be_moved
from billing.tieout import Item, TieOut
from models import agenda, closing, held, ledger, task
from models.agenda import Upcoming
from models.closing import MonthClose
from models.entity import entity, now_on, today
from models.ledger import JournalRow
from models.reasons import MONTH
from models.task import Task
from workflows.monthly_close import Approval, Month
from workflows.policies import LIFECYCLE

router = APIRouter(prefix="/v1", tags=["Ledger and close"], route_class=ExactRoute)

MonthText = Annotated[str, Path(pattern=MONTH, examples=["2026-01"])]


def _first(month: str) -> date:
    return date.fromisoformat(f"{month}-01")


class TrialLine(BaseModel):
    """An account's debits, credits and balance (debits less credits)."""

    account: str
    name: str
    currency: str
    debit: Decimal
    credit: Decimal
    balance: Decimal


@router.get("/entities/{entity_id}/ledger/{month}/trial-balance")
def trial_balance(entity_id: str, month: MonthText, session: Database, key: Reader) -> list[TrialLine]:
    """Every account's sums from the beginning up to the end of the month; up to now, if it is this month."""
    now = month_of(today(session, entity(session, entity_id)))
    if _first(month) > now.start:
        raise Refused(
            f"{month} has not begun.",
            code="invalid_request",
            faults=[Fault("month", f"must be {now.start:%Y-%m} or earlier")],
            remedy="Ask for a month that has begun.",
        )
    return [
        TrialLine(
            account=row.account,
            name=row.name,
            currency=row.currency,
            debit=Money(row.debit_minor, row.currency).major,
            credit=Money(row.credit_minor, row.currency).major,
            balance=Money(row.balance_minor, row.currency).major,
        )
        for row in ledger.trial_balance(session, entity_id, _first(month))
    ]


class JournalPage(BaseModel):
    """Lines of whole entries; `next` is what to send as `after` for the page behind, null if it is the last."""

    lines: list[JournalRow]
    next: str | None


@router.get("/entities/{entity_id}/ledger/{month}/journal")
def journal(
    entity_id: str,
    month: MonthText,
    session: Database,
    key: Reader,
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> JournalPage:
    """A page of the month's entries by day and id; `limit` counts entries, of which each has two lines or more."""
    entity(session, entity_id)
    rows = ledger.journal(session, entity_id, _first(month), place(after, _KEYS), limit + 1)
    entries = list(dict.fromkeys((row.posted_on, row.entry_id) for row in rows))
    if len(entries) <= limit:
        return JournalPage(lines=rows, next=None)
    shown = [row for row in rows if row.entry_id != entries[limit][1]]
    return JournalPage(lines=shown, next=behind(*map(str, entries[limit - 1])))


_KEYS = msgspec.json.Decoder(tuple[date, str])


class TieOutSeen(BaseModel):
    """Two sides that must be equal, in `unit`; it holds if nothing differs. `items` are the single things that do."""

    name: str
    left_label: str
    left: Decimal
    right_label: str
    right: Decimal
    unit: str
    difference: Decimal
    holds: bool
    items: list[Item]

    @classmethod
    def of(cls, found: TieOut) -> TieOutSeen:
        fields = {name: getattr(found, name) for name in cls.model_fields}
        return cls(**{**fields, "items": list(found.items)})


class CloseOut(BaseModel):
    """A month's close: its stage and its tie-outs with their differences."""

    close: MonthClose
    tie_outs: list[TieOutSeen]
    all_hold: bool


@router.get("/closes")
def list_closes(session: Database, key: Reader) -> list[MonthClose]:
    """Every close so far."""
    return closing.closes(session)


@router.get("/entities/{entity_id}/closes/{month}")
def read_close(entity_id: str, month: MonthText, session: Database, key: Reader) -> CloseOut:
    """How the close of a month stands."""
    row = closing.month_close(session, entity_id, _first(month))
    found = closing.tie_outs(session, entity_id, row.month)
    seen = [TieOutSeen.of(one) for one in found]
    return CloseOut(close=row, tie_outs=seen, all_hold=bool(found) and all(t.holds for t in found))


class ApprovalIn(BaseModel):
    """Who approves, and what they looked at."""

    model_config = ConfigDict(extra="forbid")
    by: Person
    note: LongText = ""


@router.post("/entities/{entity_id}/closes/{month}/approve")
async def approve_close(
    entity_id: str, month: MonthText, body: ApprovalIn, open_: Open, key: Administrator
) -> dict[str, str]:
    """Approve the close; it goes on to post the journal and lock the month. The first approval stands; whoever comes
    later is told whose it is.
    """

    def known() -> None:
        with open_.transaction() as session:
            entity(session, entity_id)
            _refuse_too_early(session, entity_id, _first(month))

    await run_in_threadpool(known)
    command = Month(entity_id, _first(month))
    handle = open_.client.get_workflow_handle(command.subject)
    approval = Approval(command, body.by, body.note, key)
    async with patiently("Read the close to see whether it is approved; if not, send it again."):
        try:
            by: str = await handle.execute_update("approve", approval, result_type=str)
        except WorkflowUpdateFailedError as error:
            raise _not_waiting(command, error.cause) from error
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            if not (earlier := await run_in_threadpool(_approved_by, open_, command)):
                raise _not_waiting(command, None) from error
            by = earlier  # It has ended since.
    if by != body.by:
        raise Refused(
            f"{by} has approved this close already.",
            code="approved_already",
            faults=[Fault("by", f"stands as {by!r}")],
            remedy="Nothing is left to approve; read the close to see its stage.",
        )
    return {"approved_by": by}


def _approved_by(open_: Doors, command: Month) -> str | None:
    with open_.transaction() as session:
        return closing.month_close(session, command.entity_id, command.month).approved_by


def _refuse_too_early(session: Session, entity_id: str, month: date) -> None:
    """A close that has not begun cannot be read either: which month comes first is said here."""
    if session.get(MonthClose, (entity_id, month)) is not None:
        return
    first = closing.comes_first(session, entity_id)
    remedy = "GET /v1/closes lists the closes of all months."
    if first is not None:
        first_month, begins = first
        when = f"its close begins at {begins.astimezone(UTC).isoformat()}" if begins else _read(entity_id, first_month)
        remedy = f"{first_month:%Y-%m} comes first: {when}."
    raise Refused(f"The close of {month:%Y-%m} has not begun.", code="not_waiting", remedy=remedy)


def _not_waiting(command: Month, cause: BaseException | None) -> Refused:
    said = str(getattr(cause, "message", "")) or "This close is not running."
    remedy = f"See its stage: {_read(command.entity_id, command.month)}."
    return Refused(said, code="not_waiting", remedy=remedy)


def _read(entity_id: str, month: date) -> str:
    return f"GET /v1/entities/{entity_id}/closes/{month:%Y-%m}"


@router.get("/agenda")
def what_happens_next(
    session: Database, key: Reader, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> list[Upcoming]:
    """Every subject's next due moments, soonest first."""
    return agenda.upcoming(session, limit)


@router.get("/tasks")
def list_tasks(session: Database, key: Reader) -> list[Task]:
    """What waits for a person."""
    return task.open_tasks(session)


class AnswerIn(BaseModel):
    """What was done about it."""

    model_config = ConfigDict(extra="forbid")
    by: Person
    answer: Annotated[str, StringConstraints(min_length=1, max_length=2000)]


@router.post("/tasks/{task_id}/answer")
async def answer_task(task_id: str, body: AnswerIn, open_: Open, key: Writer) -> Task:
    """Close a task; whoever waited for it tries again. The same answer again tells them again; another one is refused
    with 409, and says which one stands.
    """

    def store() -> Task:
        with open_.transaction() as session:
            return _answer(session, task_id, body, key)

    answered = await run_in_threadpool(store)
    if answered.kind in ("step", "collection", "rollout"):
        async with patiently("The answer is stored; send it again, so that whoever waits is told."):
            await _resume(open_.client, _waiting(answered.subject))
    return answered


def _answer(session: Session, task_id: str, body: AnswerIn, key: str) -> Task:
    row = session.get(Task, task_id)
    if row is not None and row.kind == "approval":
        _, entity_id, month = row.subject.split("/")
        remedy = f"POST /v1/entities/{entity_id}/closes/{month}/approve"
        raise Refused("A close is approved, not answered.", code="conflict", remedy=remedy)
    clock_id = entity(session, row.entity_id).clock_id if row and row.entity_id else None
    now = now_on(session, clock_id) if clock_id else datetime.now(UTC)
    if row is not None and row.kind == "rollout":
        to_be_moved(body.answer)
    if row is not None and row.kind == held.KIND:
        to_be_billed(body.answer)
        held.lock_for(session, row)
    answered = task.answer(session, task_id, body.by, body.answer, now)
    answered.answered_with = answered.answered_with or key
    agenda.park(session, answered.subject, False)
    if answered.kind == held.KIND:
        held.decide(session, answered)
    if answered.kind == "collection" and answered.entity_id:
        agenda.plan_ahead(session, answered.subject, "collect", answered.id, now, answered.entity_id, clock_id)
    if answered.kind == "rollout" and answered.entity_id and answered.answered_by != "perennial":
        subject = _waiting(answered.subject)
        agenda.plan_ahead(session, subject, "rollout", answered.id, now, answered.entity_id, clock_id)
    return answered


def _waiting(subject: str) -> str:
    """The workflow that waits for an answer; a roll-out waits for those about its members."""
    kind, _, rest = subject.partition("/")
    return f"rollout/{rest.partition('/')[0]}" if kind == "rollout" else subject


async def _resume(client: Client, subject: str) -> None:
    """Tell the workflow that waits. A collection may never have been started: a card that is declined for good at once
    leaves nothing to wait for on a test clock but the person. A roll-out may have lost its history.
    """
    kind, _, name = subject.partition("/")
    if kind in ("collection", "rollout", "rebuild"):
        await client.start_workflow(
            kind.title(),
            name,
            id=subject,
            task_queue=LIFECYCLE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_signal="agenda_changed",
        )
    try:
        await client.get_workflow_handle(subject).signal("resume")
        await client.get_workflow_handle(subject).signal("agenda_changed")
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
