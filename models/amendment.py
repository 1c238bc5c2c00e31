"""Requested changes of subscriptions: amendments and cancellations, as facts that are added."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Column
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, Session, SQLModel, col, select

from billing.catalog import ExtrasAsked
from models.values import Whole, moment


class Amendment(SQLModel, table=True):
    """New terms from a day on; what is None stays as it is then. `answer` is what the caller was told."""

    __tablename__ = "amendment"
    id: str = Field(primary_key=True)
    subscription_id: str = Field(foreign_key="subscription.id")
    effective_on: date
    plan_id: str | None = None
    plan_version: int | None = None
    seats: Decimal | None = None
    discount_percent: Decimal | None = None
    extras: ExtrasAsked | None = Field(default=None, sa_column=Column(Whole(ExtrasAsked)))
    requested_by: str
    requested_at: datetime = moment()
    preview_hash: str | None = None
    applied_at: datetime | None = moment(default=None)
    withdrawn_at: datetime | None = moment(default=None)
    answer: Any = Field(default=None, sa_column=Column(JSONB))


class Cancellation(SQLModel, table=True):
    """A wish to end; `effective_on` is the first day that is not billed. Scheduled once a workflow accepted it."""

    __tablename__ = "cancellation"
    id: str = Field(primary_key=True)
    subscription_id: str = Field(foreign_key="subscription.id")
    effective_on: date
    reason: str
    requested_by: str
    requested_at: datetime = moment()
    scheduled_at: datetime | None = moment(default=None)
    applied_at: datetime | None = moment(default=None)
    withdrawn_at: datetime | None = moment(default=None)


def open_cancellation(session: Session, subscription_id: str) -> Cancellation | None:
    """The cancellation that stands, scheduled or applied."""
    return session.exec(
        select(Cancellation).where(
            Cancellation.subscription_id == subscription_id,
            col(Cancellation.scheduled_at).is_not(None),
            col(Cancellation.withdrawn_at).is_(None),
        )
    ).first()


def amendments(session: Session, subscription_id: str) -> list[Amendment]:
    query = select(Amendment).where(Amendment.subscription_id == subscription_id)
    return list(session.exec(query.order_by(col(Amendment.requested_at), col(Amendment.id))))
