"""The catalog: meters and plans. A plan's content is stored whole, by version, and never edited."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Column
from sqlmodel import Field, Session, SQLModel, col, func, select

from billing.errors import NotFound
from billing.plan import Plan
from billing.plan_check import Known, MeterShape, check
from models.database import cursor
from models.values import Whole, moment, read


class Meter(SQLModel, table=True):
    """Adds up `quantity_field` of the events of one type."""

    __tablename__ = "meter"
    id: str = Field(primary_key=True)
    name: str
    event_type: str
    quantity_field: str
    unit: str


class PlanVersion(SQLModel, table=True):
    """A published version of a plan."""

    __tablename__ = "plan"
    plan_id: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    currency: str
    content: Plan = Field(sa_column=Column(Whole(Plan), nullable=False))
    published_at: datetime = moment()


def meters(session: Session) -> list[Meter]:
    return list(session.exec(select(Meter).order_by(col(Meter.id))))


def known(session: Session) -> Known:
    """What a plan may name."""
    return Known({meter.id: MeterShape() for meter in meters(session)}, {})


def publish(session: Session, draft: Plan, at: datetime) -> Plan:
    """The plan as its next version; the same content again is the version that stands."""
    check(draft, known(session))
    cursor(session).execute("select pg_advisory_xact_lock(hashtext(%s))", (f"plan/{draft.plan_id}",))
    newest = latest(session, draft.plan_id)
    if newest and newest == draft.named(draft.plan_id, newest.version):
        return newest
    plan = draft.named(draft.plan_id, newest.version + 1 if newest else 1)
    session.add(
        PlanVersion(plan_id=plan.plan_id, version=plan.version, currency=plan.currency, content=plan, published_at=at)
    )
    return plan


def latest(session: Session, plan_id: str) -> Plan | None:
    newest = select(func.max(PlanVersion.version)).where(PlanVersion.plan_id == plan_id)
    version = session.exec(newest).one()
    return None if version is None else plan(session, plan_id, version)


def plan(session: Session, plan_id: str, version: int | None = None) -> Plan:
    """That version, or the newest one."""
    if version is None:
        newest = latest(session, plan_id)
        if newest is None:
            raise NotFound("plan", plan_id)
        return newest
    row = session.get(PlanVersion, (plan_id, version))
    if row is None:
        raise NotFound("plan", f"{plan_id} version {version}")
    return row.content


def plans(session: Session) -> list[Plan]:
    rows = session.exec(select(PlanVersion).order_by(col(PlanVersion.plan_id), col(PlanVersion.version)))
    return [row.content for row in rows]


def plan_versions(session: Session, wanted: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Plan]:
    """Many versions in one read."""
    rows = cursor(session).execute(
        "select plan_id, version, content from plan where (plan_id, version) in"
        " (select * from unnest(%s::text[], %s::int[]))",
        ([p for p, _ in wanted], [v for _, v in wanted]),
    )
    return {(plan_id, version): read(Plan, content) for plan_id, version, content in rows}
