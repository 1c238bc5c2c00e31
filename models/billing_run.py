"""Billing runs, and what their batches have done."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import Column
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, Session, SQLModel

from models.database import cursor
from models.values import moment


class BillingRun(SQLModel, table=True):
    """One billing of an entity up to a cut-off; `posted_on` is fixed when it starts."""

    __tablename__ = "billing_run"
    id: str = Field(primary_key=True)
    entity_id: str = Field(foreign_key="legal_entity.id")
    cutoff: datetime = moment()
    posted_on: date
    finished_at: datetime | None = moment(default=None)


class BillingBatch(SQLModel, table=True):
    """What a batch of a run did; doing it again returns this."""

    __tablename__ = "billing_batch"
    run_id: str = Field(primary_key=True, foreign_key="billing_run.id")
    no: int = Field(primary_key=True)
    result: Any = Field(sa_column=Column(JSONB, nullable=False))


def batches_of(session: Session, run_id: str) -> int:
    """The highest number of a batch that the run has finished."""
    row = cursor(session).execute("select max(no) from billing_batch where run_id = %s", (run_id,)).fetchone()
    return (row and row[0]) or 0
