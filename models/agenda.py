"""The agenda: every subject's next due moments, written in the transaction of the fact that causes them.

A subject is a workflow's id. A row is open until it is done; one that was parked waits for a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from psycopg.rows import class_row
from sqlmodel import Field, Session, SQLModel

from models.database import cursor
from models.values import moment

Kind = Literal["rollout", "activate", "amendment", "end", "collect", "close"]
SETTLED_BY = "settled by "
"""How causes begin that name what settled an invoice, so that a collection that waits looks once more."""
RANKS: dict[Kind, int] = {"rollout": 5, "activate": 10, "amendment": 10, "end": 10, "collect": 70, "close": 90}


class Agenda(SQLModel, table=True):
    """One due moment of one subject; `cause` makes it unique."""

    __tablename__ = "agenda"
    subject: str = Field(primary_key=True)
    cause: str = Field(primary_key=True)
    due_at: datetime = moment()
    rank: int
    kind: str
    entity_id: str = Field(foreign_key="legal_entity.id")
    clock_id: str | None = Field(default=None, foreign_key="test_clock.id")
    done_at: datetime | None = moment(default=None)
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """An open row of the agenda."""

    subject: str
    cause: str
    due_at: datetime
    kind: Kind


def plan_ahead(
    session: Session, subject: str, kind: Kind, cause: str, due_at: datetime, entity_id: str, clock_id: str | None
) -> None:
    """Put it on the agenda; the same cause again changes nothing."""
    cursor(session).execute(
        "insert into agenda (subject, cause, due_at, rank, kind, entity_id, clock_id)"
        " values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
        (subject, cause, due_at, RANKS[kind], kind, entity_id, clock_id),
    )


def plan_many(
    session: Session, kind: Kind, ahead: Sequence[tuple[str, str, datetime]], entity_id: str, clock_id: str | None
) -> None:
    """The same for many, as (subject, cause, due at), in one statement."""
    if ahead:
        cursor(session).execute(
            "insert into agenda (subject, cause, due_at, rank, kind, entity_id, clock_id)"
            " select a.subject, a.cause, a.due_at, %s, %s, %s, %s"
            " from unnest(%s::text[], %s::text[], %s::timestamptz[]) a (subject, cause, due_at)"
            " order by 1, 2 on conflict do nothing",
            (RANKS[kind], kind, entity_id, clock_id, *(list(column) for column in zip(*ahead, strict=True))),
        )


def open_causes(session: Session, subject: str) -> list[str]:
    """What is open for a subject, parked rows too, soonest first."""
    rows = cursor(session).execute(
        "select cause from agenda where subject = %s and done_at is null order by due_at, rank, cause", (subject,)
    )
    return [cause for (cause,) in rows]


def due_for(session: Session, subjects: Sequence[str], now: datetime) -> list[Due]:
    """What is open and due for these subjects, oldest first."""
    with cursor(session) as cur:
        return (
            cur.connection.cursor(row_factory=class_row(Due))
            .execute(
                "select subject, cause, due_at, kind from agenda where subject = any(%s) and done_at is null"
                " and due_at <= %s order by due_at, rank, subject, cause",
                (list(subjects), now),
            )
            .fetchall()
        )


def next_due(session: Session, subject: str) -> datetime | None:
    """When the subject is due next, parked rows left out."""
    row = (
        cursor(session)
        .execute(
            "select min(due_at) from agenda where subject = %s and done_at is null and outcome is null", (subject,)
        )
        .fetchone()
    )
    return row[0] if row else None


def done(session: Session, subject: str, cause: str, at: datetime, outcome: str = "done") -> None:
    cursor(session).execute(
        "update agenda set done_at = %s, outcome = %s where subject = %s and cause = %s and done_at is null",
        (at, outcome, subject, cause),
    )


def drop(session: Session, subject: str, kind: Kind, at: datetime) -> None:
    """Take what is open of that kind off the agenda: it will not happen any more."""
    cursor(session).execute(
        "update agenda set done_at = %s, outcome = 'dropped' where subject = %s and kind = %s and done_at is null",
        (at, subject, kind),
    )


def drop_many(session: Session, dropped: Sequence[tuple[str, str]], at: datetime) -> None:
    """Take these open rows, as (subject, cause), off the agenda."""
    if dropped:
        cursor(session).execute(
            "update agenda set done_at = %s, outcome = 'dropped' where done_at is null"
            " and (subject, cause) in (select * from unnest(%s::text[], %s::text[]))",
            (at, *(list(column) for column in zip(*dropped, strict=True))),
        )


def park(session: Session, subject: str, parked: bool) -> None:
    """Mark what is open as waiting for a person, or as due again. That an invoice was settled waits for nobody."""
    outcome = "parked" if parked else None
    cursor(session).execute(
        "update agenda set outcome = %s where subject = %s and done_at is null and not starts_with(cause, %s)",
        (outcome, subject, SETTLED_BY),
    )


def entity_of(session: Session, subject: str) -> str | None:
    """The legal entity for which something was last planned for it, or for whom it is part of; None if nothing ever
    was.
    """
    whole = "/".join(subject.split("/")[:2])
    row = (
        cursor(session)
        .execute(
            "select entity_id from agenda where subject in (%s, %s) order by due_at desc limit 1", (subject, whole)
        )
        .fetchone()
    )
    return row[0] if row else None


@dataclass(frozen=True, slots=True)
class Upcoming:
    """A line of "what happens next"."""

    due_at: datetime
    subject: str
    kind: str
    entity_id: str
    outcome: str | None


def upcoming(session: Session, limit: int) -> list[Upcoming]:
    """What happens next, over all subjects and billing lanes, soonest first."""
    cur = cursor(session).connection.cursor(row_factory=class_row(Upcoming))
    return cur.execute(
        "(select due_at, subject, kind, entity_id, outcome from agenda where done_at is null"
        " order by due_at, subject limit %(limit)s)"
        " union all (select next_bill_at, 'subscription/' || subscription_id, 'bill ' || lane, entity_id, null"
        " from billing_lane where next_bill_at is not null order by next_bill_at, subscription_id limit %(limit)s)"
        " order by 1, 2 limit %(limit)s",
        {"limit": limit},
    ).fetchall()


def open_subjects(session: Session, overdue_only: bool, now: datetime) -> list[tuple[str, str | None]]:
    """Subjects on the wall clock that something is planned for (or overdue), and all others if not `overdue_only`."""
    return (
        cursor(session)
        .execute(
            "select distinct subject, clock_id from agenda where done_at is null"
            " and (not %(only)s or (clock_id is null and outcome is null and due_at <= %(now)s)) order by 1",
            {"only": overdue_only, "now": now},
        )
        .fetchall()
    )


@dataclass(frozen=True, slots=True)
class ClockMoment:
    """What is due on a test clock at one moment: subjects of the lowest rank, or entities to be billed."""

    at: datetime
    subjects: tuple[str, ...]
    entities: tuple[str, ...]


_BILLABLE = """
  select l.next_bill_at, l.entity_id from billing_lane l join subscription s on s.id = l.subscription_id
  where l.clock_id = %(clock)s and l.next_bill_at <= %(until)s and s.state <> 'pending'
    and not exists (select from task t where t.subject = 'billing/' || s.root_id and t.answered_at is null)
"""


def next_moment(session: Session, clock_id: str, until: datetime) -> datetime | None:
    """The next moment up to `until` at which anything is due on the clock."""
    row = (
        cursor(session)
        .execute(
            "select least((select min(due_at) from agenda where clock_id = %(clock)s and done_at is null"
            " and outcome is null and due_at <= %(until)s),"
            f" (select min(next_bill_at) from ({_BILLABLE}) b))",
            {"clock": clock_id, "until": until},
        )
        .fetchone()
    )
    return row[0] if row else None


def due_on_clock(session: Session, clock_id: str, now: datetime) -> ClockMoment:
    """What to do first of all that is due: lifecycle, then billing, then collection, then the close."""
    cur = cursor(session)
    rows = cur.execute(
        "select subject, min(rank) from agenda where clock_id = %s and done_at is null and outcome is null"
        " and due_at <= %s group by subject order by 2, 1",
        (clock_id, now),
    ).fetchall()
    entities = cur.execute(
        f"select distinct entity_id from ({_BILLABLE}) b order by 1", {"clock": clock_id, "until": now}
    ).fetchall()
    lowest = rows[0][1] if rows else 100
    if entities and lowest > 50:
        return ClockMoment(now, (), tuple(entity for (entity,) in entities))
    return ClockMoment(now, tuple(subject for subject, rank in rows if rank == lowest), ())
