"""What became of all that was sent, in numbers: by customer, type of event and local day."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date

from sqlmodel import Field, Session, SQLModel

from billing.catalog import Meter
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


@dataclass(frozen=True, slots=True)
class Audit:
    """What became of a customer's events of one type over some days. The first is the sum of the next three.

    received: that came. accepted: stored, each once. duplicate: came again. conflict: came under another one's name.
    stored: the stored events counted afresh, which must be those accepted, less those of months that were taken away.
    void: those that do not count any more. counted: those in the meter's totals. uncounted: all other accepted ones,
    which the meter did not count for want of a quantity, by its filters, or because it was made later.
    """

    received: int
    accepted: int
    duplicate: int
    conflict: int
    stored: int
    void: int
    counted: int
    uncounted: int


def audit(session: Session, customer_id: str, meter: Meter, since: date, until: date) -> Audit:
    """Of a meter's type of event, over local days from `since` up to, not including, `until`."""
    asked = {"customer": customer_id, "type": meter.event_type, "meter": meter.meter_id, "since": since, "until": until}
    cur = cursor(session)
    answered: dict[str, int] = dict(
        cur.execute(
            "select outcome, sum(events)::bigint from usage_answered where customer_id = %(customer)s"
            " and type = %(type)s and day >= %(since)s and day < %(until)s group by 1",
            asked,
        ).fetchall()
    )
    row = cur.execute(
        "select (select count(*) from usage_event where customer_id = %(customer)s and type = %(type)s"
        " and day >= %(since)s and day < %(until)s"
        " and occurred_at >= %(since)s::date - 1 and occurred_at < %(until)s::date + 1),"
        " (select count(*) from usage_void where customer_id = %(customer)s and type = %(type)s"
        " and day >= %(since)s and day < %(until)s),"
        " (select coalesce(sum(t.events), 0)::bigint from usage_total t"
        " join meter_span m on m.series = t.meter_id and t.day >= m.since and t.day < m.until"
        " where t.customer_id = %(customer)s"
        " and m.meter_id = %(meter)s and t.day >= %(since)s and t.day < %(until)s)",
        asked,
    ).fetchone()
    assert row is not None
    stored, void, counted = row
    accepted = answered.get("accepted", 0)
    return Audit(
        received=sum(answered.values()),
        accepted=accepted,
        duplicate=answered.get("duplicate", 0),
        conflict=answered.get("conflict", 0),
        stored=stored,
        void=void,
        counted=counted,
        uncounted=accepted - void - counted,
    )
