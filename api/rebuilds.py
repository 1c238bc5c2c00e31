"""Meters that change, and days counted anew for all customers: seen first, then applied, or dropped."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlmodel import Session
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError

from api.access import Administrator, Database, Doors, Open, Reader, mint, patiently
from api.bodies import ExactRoute
from api.catalog import MeterBody
from api.fields import CallersId, Day
from billing.aggregation import RateWindow
from billing.catalog import Filter, Resolution
from billing.portion import Aggregation, TimeUnit
from models import meter_version, rebuild
from models.rebuild import Asked, Differing, MeterRebuild
from workflows.policies import LIFECYCLE
from workflows.rebuild import Rebuild

router = APIRouter(prefix="/v1/meters/{meter_id}", tags=["Catalog"], route_class=ExactRoute)

Stage = Literal["counting", "comparing", "compared", "applying", "dropping", "clearing", "applied", "dropped"]


class MeterVersionOut(BaseModel):
    """How a meter counted the days from `since` on, up to the next version's; the first one, all days before."""

    version: int
    since: date | None
    made_at: datetime
    made_with: str
    meter: MeterBody


@router.get("/versions")
def list_meter_versions(meter_id: str, session: Database, key: Reader) -> list[MeterVersionOut]:
    """Every version of a meter, the first one first."""
    meter_version.meter(session, meter_id)
    return [
        MeterVersionOut(
            version=row.version,
            since=row.since if row.since > date.min else None,
            made_at=row.made_at,
            made_with=row.made_with,
            meter=MeterBody.of(how),
        )
        for row, how in meter_version.versions(session, meter_id)
    ]


class MeterChange(BaseModel):
    """What a meter shall have otherwise; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")
    event_type: str = Field(default="", description="It never changes: make another meter.")
    quantity_field: str = ""
    unit: Annotated[str, StringConstraints(max_length=50)] = ""
    dimensions: tuple[str, ...] = ()
    per_event: bool = False
    resolution: Resolution = "hour"
    aggregation: Aggregation = "sum"
    filters: tuple[Filter, ...] = ()
    percent: Decimal | None = None
    rate_window: RateWindow | None = None
    time_unit: TimeUnit | None = None
    operation_field: str = ""
    carries_over: bool = False
    expression: str = ""

    def said(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.model_fields_set}


class RebuildIn(BaseModel):
    """Days to be counted anew: by the meter as it is, or with a `change`, which makes its next version."""

    model_config = ConfigDict(extra="forbid")
    id: CallersId | None = None
    since: Day
    until: Day | None = None
    change: MeterChange | None = None


class RebuildWorth(BaseModel):
    """What a rebuild changes in one currency, net, in minor units; below zero, customers get it back."""

    currency: str
    late_minor: int
    open_minor: int


class RebuildOut(BaseModel):
    """How a rebuild stands, and once it is compared, what it changes."""

    id: str
    meter: str
    since: date
    until: date | None
    change: bool
    stage: Stage
    events: int
    counted_events: int
    customers: int
    compared_customers: int
    differing_customers: int
    differing_days: int
    money: list[RebuildWorth]
    unrated_customers: int
    asked_at: datetime
    asked_with: str
    compared_at: datetime | None
    applied_at: datetime | None
    applied_with: str | None
    dropped_at: datetime | None
    dropped_with: str | None
    settled_at: datetime | None


class DayDifference(BaseModel):
    """A local day of a customer: what held when it was compared, and what the rebuild makes of it."""

    day: date
    before: Decimal
    after: Decimal


class CustomerDifference(BaseModel):
    """What a rebuild changes for a customer: days, and money by currency; or why the money cannot be said."""

    customer_id: str
    days: list[DayDifference]
    money: list[RebuildWorth]
    refused: list[str]


@router.post("/rebuilds", status_code=201)
async def create_rebuild(meter_id: str, body: RebuildIn, open_: Open, key: Administrator) -> RebuildOut:
    """Count days of a meter anew for all customers, beside the totals that hold. Nothing changes until it is applied.

    The same `id` again changes nothing. A meter has one rebuild at a time.
    """
    change = body.change.said() if body.change else {}
    asked = Asked(body.id or mint("reb"), meter_id, body.since, body.until, change, key)

    def store() -> tuple[RebuildOut, str]:
        with open_.transaction() as session:
            row = rebuild.ask(session, asked, datetime.now(UTC))
            return _out(session, row), row.subject

    found, subject = await run_in_threadpool(store)
    await _start(open_, found, subject)
    return found


@router.get("/rebuilds")
def list_rebuilds(
    meter_id: str,
    session: Database,
    key: Reader,
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[RebuildOut]:
    """A page of a meter's rebuilds, behind the id `after`."""
    meter_version.meter(session, meter_id)
    return [_out(session, row) for row in rebuild.rebuilds(session, meter_id, after, limit)]


@router.get("/rebuilds/{rebuild_id}")
def read_rebuild(meter_id: str, rebuild_id: str, session: Database, key: Reader) -> RebuildOut:
    """How a rebuild stands."""
    return _out(session, rebuild.rebuild(session, meter_id, rebuild_id))


@router.get("/rebuilds/{rebuild_id}/differences")
def list_differences(
    meter_id: str,
    rebuild_id: str,
    session: Database,
    key: Reader,
    after_customer: str = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[CustomerDifference]:
    """A page of customers whose totals it changes, with their money, behind `after_customer`."""
    rebuild.rebuild(session, meter_id, rebuild_id)
    return [_difference(one) for one in rebuild.differing(session, rebuild_id, after_customer, limit)]


@router.post("/rebuilds/{rebuild_id}/apply", status_code=202)
async def apply_rebuild(meter_id: str, rebuild_id: str, open_: Open, key: Administrator) -> RebuildOut:
    """Let its totals hold, for all customers at once; read the rebuild to see it done. Again, it changes nothing."""
    return await _decide(open_, meter_id, rebuild_id, key, apply=True)


@router.post("/rebuilds/{rebuild_id}/drop", status_code=202)
async def drop_rebuild(meter_id: str, rebuild_id: str, open_: Open, key: Administrator) -> RebuildOut:
    """Give it up: nothing has changed, and what it counted is taken away. Again, it changes nothing."""
    return await _decide(open_, meter_id, rebuild_id, key, apply=False)


async def _decide(open_: Doors, meter_id: str, rebuild_id: str, key: str, *, apply: bool) -> RebuildOut:
    def store() -> tuple[RebuildOut, str]:
        with open_.transaction() as session:
            row = rebuild.rebuild(session, meter_id, rebuild_id, locked=True)
            rebuild.decide(session, row, apply=apply, key=key, at=datetime.now(UTC))
            return _out(session, row), row.subject

    found, subject = await run_in_threadpool(store)
    if not found.settled_at:
        await _start(open_, found, subject)
        with suppress(RPCError):  # One that is parked has something else to do now; one that is done needs no telling.
            await open_.client.get_workflow_handle(subject).signal("resume")
    return found


def _out(session: Session, row: MeterRebuild) -> RebuildOut:
    sums = rebuild.sums(session, row.id)
    return RebuildOut(
        id=row.id,
        meter=row.meter_id,
        since=row.since,
        until=row.until if row.until < date.max else None,
        change=row.changes,
        stage=_stage(row),
        events=row.events,
        counted_events=row.counted,
        customers=row.customers,
        compared_customers=row.compared,
        differing_customers=sums.customers,
        differing_days=sums.days,
        money=[
            RebuildWorth(currency=currency, late_minor=late, open_minor=sums.open[currency])
            for currency, late in sums.late.items()
        ],
        unrated_customers=sums.refused,
        asked_at=row.asked_at,
        asked_with=row.asked_with,
        compared_at=row.compared_at,
        applied_at=row.applied_at,
        applied_with=row.apply_with,
        dropped_at=row.dropped_at,
        dropped_with=row.drop_with,
        settled_at=row.settled_at,
    )


def _stage(row: MeterRebuild) -> Stage:
    stages: dict[str, Stage] = {
        "open": "counting",
        "count": "counting",
        "compare": "comparing",
        "apply": "applying",
        "drop": "dropping",
        "clear": "clearing",
    }
    if row.to_do:
        return stages[row.to_do]
    return "applied" if row.applied_at else "dropped" if row.dropped_at else "compared"


def _difference(one: Differing) -> CustomerDifference:
    return CustomerDifference(
        customer_id=one.customer_id,
        days=[DayDifference(day=d.day, before=d.before, after=d.after) for d in one.days],
        money=[
            RebuildWorth(currency=w.currency, late_minor=w.late_minor, open_minor=w.open_minor)
            for w in one.worth
            if not w.refused
        ],
        refused=[w.refused for w in one.worth if w.refused],
    )


async def _start(open_: Doors, found: RebuildOut, subject: str) -> None:
    """Have what its row says done now; one that runs already looks again."""
    async with patiently(f"The request is stored as {found.id!r}. Send it again with this id to carry it out."):
        await open_.client.start_workflow(
            Rebuild.run,
            found.meter,
            id=subject,
            task_queue=LIFECYCLE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_signal="agenda_changed",
            static_summary=f"{found.id}: {found.meter} from {found.since} on",
        )
