"""Months of events: which wait for a partition, and what those that were taken away add up to.

What events are is in event.py; how a month is made and taken away, in the migrations.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from decimal import Decimal

from sqlmodel import Field, Session, SQLModel

from billing.errors import Refused
from models.database import cursor


class UsageTaken(SQLModel, table=True):
    """What one meter counted of one customer's events in a month that was taken away: the sum, where it adds
    quantities up, else their number.
    """

    __tablename__ = "usage_taken"
    month: date = Field(primary_key=True)
    customer_id: str = Field(primary_key=True)
    meter_id: str = Field(primary_key=True)
    quantity: Decimal
    events: int


def crowded(session: Session, most: int) -> list[date]:
    """Months (in UTC) without a partition of which more than `most` events have come.

    Those of a month whose partition was taken away and kept beside stay where they are.
    """
    rows = cursor(session).execute(
        "select month from ("
        "select date_trunc('month', occurred_at at time zone 'UTC')::date as month, count(*) as events"
        " from usage_event_other group by 1) m"
        " where events > %s and to_regclass('usage_event_' || to_char(month, 'YYYY_MM')) is null order by 1",
        (most,),
    )
    return [month for (month,) in rows]


def refuse_taken(session: Session, customer_ids: Collection[str], first: date, last: date) -> None:
    """Refuse to count local days anew of which events lie, or may lie, in a month that was taken away."""
    row = (
        cursor(session)
        .execute(
            "select min(month) from usage_taken where customer_id = any(%s)"
            " and month >= date_trunc('month', %s::date - 1) and month <= %s::date + 1",
            (list(customer_ids), first, last),
        )
        .fetchone()
    )
    if row and row[0]:
        raise Refused(
            f"Events of {row[0]:%Y-%m} were taken away, so these days cannot be counted anew.",
            code="month_taken_away",
            remedy="Credit the difference on an invoice, or choose other days.",
        )
