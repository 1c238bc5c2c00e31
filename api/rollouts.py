"""Roll-outs: moving subscriptions of a plan to another version, seeing first what it costs them, and taking it back."""

from __future__ import annotations

from contextlib import suppress
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError

from api.access import Administrator, Database, Doors, Open, Reader, mint, patiently
from api.bodies import ExactRoute
from api.fields import CallersId, Day
from billing.period import local_day, zone
from billing.rollout import Audience, GuardAction
from models import launch, rollout
from models.entity import entity, now_on
from models.movable import member, movable
from models.rollout import Rollout, RolloutMember
from workflows.policies import LIFECYCLE
from workflows.rollout import Rollout as RolloutWorkflow

router = APIRouter(prefix="/v1/rollouts", tags=["Roll-outs"], route_class=ExactRoute)

MOST_SHOWN = 500
ROOTS_AT_ONCE = 250
MemberState = Literal["held", "refused", "planned", "skipped", "moved", "taken_back"]


class CohortIn(BaseModel):
    """Who is moved: named subscriptions and customers, or a share of the customers, always the same ones."""

    model_config = ConfigDict(extra="forbid")
    subscriptions: Annotated[list[str], Field(max_length=5000)] = []
    customers: Annotated[list[str], Field(max_length=5000)] = []
    percent: Annotated[Decimal, Field(gt=0, le=100)] | None = None


class GuardIn(BaseModel):
    """What happens to those whose bill of the last whole period would rise by more than `percent`."""

    model_config = ConfigDict(extra="forbid")
    percent: Annotated[Decimal, Field(ge=0, le=10**6)]
    action: GuardAction


class RolloutIn(BaseModel):
    """A roll-out of a published version in one legal entity. The same `id` again changes nothing."""

    model_config = ConfigDict(extra="forbid")
    id: CallersId | None = None
    entity: str
    plan: str
    version: Annotated[int, Field(ge=1, le=10**9)]
    to_plan: str | None = None
    audience: Audience
    on: Day
    cohort: CohortIn | None = None
    notice_days: Annotated[int, Field(ge=0, le=3660)] = 0
    guard: GuardIn | None = None
    dry_run: bool = False


class RolloutOut(BaseModel):
    """A roll-out with the number of its members by state; of a dry run, who they would be, up to 500."""

    rollout: Rollout
    open: bool
    counts: dict[str, int]
    members: list[RolloutMember] | None = None


@router.post("", status_code=201)
async def create_rollout(body: RolloutIn, open_: Open, key: Administrator) -> RolloutOut:
    """Roll a version out, or see with `dry_run` what it would do: then nothing is stored."""

    def store() -> RolloutOut:
        with open_.transaction() as session:
            row, today = _row(session, body, key)
            if body.dry_run:
                launch.check(session, row, today)
                return _tried(session, row)
            return _out(session, launch.launch(session, row, today))

    found = await run_in_threadpool(store)
    if not body.dry_run:
        await _start(open_, found.rollout)
    return found


@router.get("")
def list_rollouts(
    session: Database, key: Reader, after: str = "", limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> list[Rollout]:
    """A page of roll-outs, behind the id `after`."""
    return rollout.rollouts(session, after, limit)


@router.get("/{rollout_id}")
def read_rollout(rollout_id: str, session: Database, key: Reader) -> RolloutOut:
    """How a roll-out stands."""
    return _out(session, rollout.rollout(session, rollout_id))


@router.get("/{rollout_id}/members")
def list_rollout_members(
    rollout_id: str,
    session: Database,
    key: Reader,
    state: MemberState | None = None,
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[RolloutMember]:
    """A page of members with their bills before and after, behind the subscription `after`."""
    rollout.rollout(session, rollout_id)
    return rollout.members(session, rollout_id, state, after, limit)


@router.post("/{rollout_id}/take-back", status_code=202)
async def take_back_rollout(rollout_id: str, open_: Open, key: Administrator) -> RolloutOut:
    """Move back who was moved and drop who was planned; read the roll-out to see it done. Again, it changes nothing."""

    def store() -> RolloutOut:
        with open_.transaction() as session:
            seller = entity(session, rollout.rollout(session, rollout_id).entity_id)
            return _out(session, launch.ask_back(session, rollout_id, key, now_on(session, seller.clock_id)))

    found = await run_in_threadpool(store)
    await _start(open_, found.rollout)
    with suppress(RPCError):  # One that is parked has something else to do now; one that is done needs no telling.
        await open_.client.get_workflow_handle(found.rollout.subject).signal("resume")
    return found


def _row(session: Session, body: RolloutIn, key: str) -> tuple[Rollout, date]:
    """The roll-out asked for, and what day it is there."""
    seller = entity(session, body.entity)
    now = now_on(session, seller.clock_id)
    cohort = body.cohort or CohortIn()
    row = Rollout(
        id=body.id or mint("rol"),
        entity_id=seller.id,
        plan_id=body.plan,
        to_plan_id=body.to_plan or body.plan,
        to_version=body.version,
        audience=body.audience,
        on_day=body.on,
        subscriptions=sorted(set(cohort.subscriptions)),
        customers=sorted(set(cohort.customers)),
        share_percent=cohort.percent,
        notice_days=body.notice_days,
        guard_percent=body.guard.percent if body.guard else None,
        guard_action=body.guard.action if body.guard else None,
        made_at=now,
        made_with=key,
    )
    return row, local_day(now, zone(seller.time_zone))


def _tried(session: Session, row: Rollout) -> RolloutOut:
    """Everybody judged, nothing stored."""
    counts: dict[str, int] = {}
    shown: list[RolloutMember] = []
    after = ""
    while root_ids := rollout.roots_concerned(session, row, after, ROOTS_AT_ONCE):
        for one in movable(session, row, root_ids, row.made_at):
            found = member(row, one, row.made_at)
            counts[found.state] = counts.get(found.state, 0) + 1
            shown += [found] if len(shown) < MOST_SHOWN else []
        after = root_ids[-1]
    shown.sort(key=lambda one: one.subscription_id)
    return RolloutOut(rollout=row, open=False, counts=counts, members=shown)


def _out(session: Session, row: Rollout) -> RolloutOut:
    return RolloutOut(rollout=row, open=rollout.is_open(session, row.id), counts=rollout.counts(session, row.id))


async def _start(open_: Doors, row: Rollout) -> None:
    """Have what the agenda says done now; one that runs already looks again."""
    async with patiently(f"The request is stored as {row.id!r}. Send it again with this id to carry it out."):
        await open_.client.start_workflow(
            RolloutWorkflow.run,
            row.id,
            id=row.subject,
            task_queue=LIFECYCLE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_signal="agenda_changed",
            static_summary=f"{row.plan_id} to {row.to_plan_id} version {row.to_version}",
        )
