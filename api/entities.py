"""Legal entities, and the test clocks that they may live on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlmodel import Session
from temporalio.client import WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from api.access import Administrator, Database, Doors, Open, Reader, mint, patiently
from api.bodies import ExactRoute
from api.fields import Country, Day, Id, KnownCurrency, LongText, Moment, Name, TimeZone, VersionBehind
from api.same_again import others, refuse_other
from billing.errors import Fault, NotFound, Refused
from billing.period import month_of
from models.closing import plan_close
from models.entity import (
    EntityVersion,
    InvoiceSeries,
    LegalEntity,
    TestClock,
    add_entity,
    change_entity,
    clocks,
    entities,
    entity,
    entity_versions,
    series_owner,
    today,
)
from models.reasons import INVOICE_PREFIX
from workflows.client import schedule_billing
from workflows.policies import LIFECYCLE
from workflows.test_clock import TestClock as ClockWorkflow

router = APIRouter(prefix="/v1", tags=["Entities and clocks"], route_class=ExactRoute)


class ClockIn(BaseModel):
    """A test clock that starts at `now`."""

    model_config = ConfigDict(extra="forbid")
    id: Id | None = None
    now: Moment


class Clock(BaseModel):
    """Where a test clock stands, and where it is heading; it has arrived when both are equal and nothing is due."""

    id: str
    now: datetime
    target: datetime
    moving: bool


class AdvanceIn(BaseModel):
    """The moment to live up to, everything due on the way included."""

    model_config = ConfigDict(extra="forbid")
    to: Moment


class EntityIn(BaseModel):
    """A legal entity. With `clock` it lives on that test clock, with all that is in it."""

    model_config = ConfigDict(extra="forbid")
    id: Id
    name: Name
    country: Country
    functional_currency: KnownCurrency
    time_zone: TimeZone = "UTC"
    address: LongText = ""
    email: LongText = ""
    vat_id: LongText | None = None
    clock: str | None = None
    payment_terms_days: Annotated[int, Field(ge=0, le=365)] = 14
    books_from: Day | None = Field(default=None, description="First month to be closed; this month if left out.")
    close_after_days: Annotated[int, Field(ge=0, le=27)] = 4
    invoice_prefix: Annotated[str, StringConstraints(pattern=INVOICE_PREFIX)] | None = None


@router.post("/test-clocks", status_code=201)
def create_clock(body: ClockIn, session: Database, key: Administrator) -> Clock:
    """Make a test clock. Legal entities made with it wait for it in everything."""
    row = TestClock(id=body.id or mint("clk"), now_at=body.now, target_at=body.now)
    standing = session.get(TestClock, row.id)
    if standing is None:
        session.add(row)
    return _clock(standing or row)


@router.get("/test-clocks")
def list_clocks(
    session: Database, key: Reader, after: str = "", limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> list[Clock]:
    """A page of test clocks, behind the id `after`."""
    return [_clock(row) for row in clocks(session, after, limit)]


@router.get("/test-clocks/{clock_id}")
def read_clock(clock_id: str, session: Database, key: Reader) -> Clock:
    """Where the clock stands."""
    row = session.get(TestClock, clock_id)
    if row is None:
        raise NotFound("test clock", clock_id)
    return _clock(row)


@router.post("/test-clocks/{clock_id}/advance", status_code=202)
async def advance_clock(clock_id: str, body: AdvanceIn, open_: Open, key: Administrator) -> Clock:
    """Send the clock to a moment. Answered at once; read the clock to see it arrive."""

    def standing() -> Clock:
        with open_.transaction() as session:
            return read_clock(clock_id, session, key)

    before = await run_in_threadpool(standing)
    if body.to < before.now:
        reason = f"must not be before {before.now.isoformat()}, where the clock stands"
        remedy = "Send it to a later moment, or make another clock."
        raise Refused("A clock does not go back.", code="clock_back", faults=[Fault("to", reason)], remedy=remedy)
    start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
        ClockWorkflow.run,
        clock_id,
        id=f"clock/{clock_id}",
        task_queue=LIFECYCLE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
    )
    async with patiently("Read the clock to see whether it moves; if not, send it again."):
        await open_.client.execute_update_with_start_workflow("advance", body.to, start_workflow_operation=start)
    return await run_in_threadpool(standing)


def _clock(row: TestClock) -> Clock:
    return Clock(
        id=row.id,
        now=row.now_at.astimezone(UTC),
        target=row.target_at.astimezone(UTC),
        moving=row.now_at < row.target_at,
    )


@router.post("/entities", status_code=201)
async def create_entity(body: EntityIn, open_: Open, key: Administrator) -> LegalEntity:
    """Make a legal entity with its number series and its first close on the agenda.

    On the wall clock its daily billing is scheduled. The same id again changes nothing.
    """
    row = await run_in_threadpool(_store, open_, body, key)
    if row.clock_id is None:
        async with patiently("The entity is stored, its daily billing is not scheduled; send it again."):
            await schedule_billing(open_.client, row.id, row.time_zone)
    return row


def _store(open_: Doors, body: EntityIn, key: str) -> LegalEntity:
    with open_.transaction() as session:
        standing = session.get(LegalEntity, body.id)
        if standing is not None:
            facts = body.model_dump(exclude={"clock", "invoice_prefix", "books_from"})
            refuse_other("a legal entity", others(standing, {**facts, "clock_id": body.clock}))
            return standing
        if body.clock is not None and session.get(TestClock, body.clock) is None:
            raise Refused(
                "The entity cannot be made.",
                faults=[Fault("clock", f"there is no test clock {body.clock!r}")],
                remedy="Make the clock first (POST /v1/test-clocks), or leave it out to live on the wall clock.",
            )
        return _new(session, body, key)


def _new(session: Session, body: EntityIn, key: str) -> LegalEntity:
    facts = body.model_dump(exclude={"clock", "invoice_prefix", "books_from"})
    row = LegalEntity(**facts, clock_id=body.clock)
    add_entity(session, row, by_key=key)
    prefix = body.invoice_prefix or f"{body.id.upper()}-"
    series = {"invoice": prefix, "credit_note": f"{prefix}CN-"}
    if owner := series_owner(session, list(series.values())):
        fault = Fault("invoice_prefix", f"{prefix!r} gives numbers that {owner} gives already")
        remedy = "Choose another `invoice_prefix`."
        raise Refused("Two entities would issue the same numbers.", code="conflict", faults=[fault], remedy=remedy)
    session.add_all(InvoiceSeries(entity_id=row.id, kind=kind, prefix=text) for kind, text in series.items())
    plan_close(session, row, month_of(body.books_from or today(session, row)).start)
    return row


class EntityChange(BaseModel):
    """What is to be otherwise from now on; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")
    name: Name = Field(default_factory=str)
    address: LongText = Field(default_factory=str)
    email: LongText = Field(default_factory=str)
    vat_id: LongText | None = None
    payment_terms_days: Annotated[int, Field(ge=0, le=365)] = Field(default_factory=int)
    close_after_days: Annotated[int, Field(ge=0, le=27)] = Field(default_factory=int)


@router.patch("/entities/{entity_id}")
def edit_entity(entity_id: str, body: EntityChange, session: Database, key: Administrator) -> LegalEntity:
    """Change a legal entity for all that is issued and agreed from now on: what it has issued keeps what it printed,
    and contracts keep their payment terms; a close that is planned already keeps its day. Its country, currency, time
    zone and clock stay.
    """
    return change_entity(session, entity_id, body.model_dump(exclude_unset=True), by_key=key)


@router.get("/entities/{entity_id}/versions")
def read_entity_versions(
    entity_id: str,
    session: Database,
    key: Reader,
    after: VersionBehind = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[EntityVersion]:
    """How the entity was printed, since when and by whose key; a page in order, behind the version `after`."""
    return entity_versions(session, entity(session, entity_id).id, after, limit)


@router.get("/entities")
def list_entities(session: Database, key: Reader) -> list[LegalEntity]:
    """All legal entities."""
    return entities(session)
