"""What became of all that was sent, in numbers: by customer, type of event and local day."""

from __future__ import annotations

from collections import Counter
from datetime import date

from sqlmodel import Field, Session, SQLModel

from models.database import columns, cursor


class UsageAnswered(SQLModel, table=True):
    """How many events of a customer's day were answered so: accepted, duplicate or conflict."""

    __tablename__ = "usage_answered"
    customer_id: str = Field(primary_key=True)
    type: str = Field(primary_key=True)
    day: date = Field(primary_key=True)
    outcome: str = Field(primary_key=True)
    events: int


def count(session: Session, answered: Counter[tuple[str, str, date, str]]) -> None:
    """Add to the numbers; in order, so that two who do never wait for each other."""
    if answered:
        cursor(session).execute(
            "insert into usage_answered as a (customer_id, type, day, outcome, events)"
            " select * from unnest(%s::text[], %s::text[], %s::date[], %s::text[], %s::bigint[]) order by 1, 2, 3, 4"
            " on conflict (customer_id, type, day, outcome) do update set events = a.events + excluded.events",
            columns([(*key, events) for key, events in answered.items()], 5),
        )
