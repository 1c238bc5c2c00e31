"""Roll-outs of a plan's version and their members: the rows, and what is asked of them.

A member's state follows from its moments; the database works it out. Who would be moved, and at what price, is asked
in models/movable.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from psycopg.rows import class_row
from sqlalchemy import ARRAY, Column, Text
from sqlmodel import Field, Session, SQLModel, col, select

from billing.errors import Fault, NotFound
from billing.rollout import Audience
from models.database import cursor
from models.values import large, moment


class Rollout(SQLModel, table=True):
    """Moves subscriptions of `plan_id` in one legal entity to a published version, of the same plan or of another."""

    __tablename__ = "rollout"
    id: str = Field(primary_key=True)
    entity_id: str = Field(foreign_key="legal_entity.id")
    plan_id: str
    to_plan_id: str
    to_version: int
    audience: str
    on_day: date
    subscriptions: list[str] = Field(default_factory=list, sa_column=Column(ARRAY(Text), nullable=False))
    customers: list[str] = Field(default_factory=list, sa_column=Column(ARRAY(Text), nullable=False))
    share_percent: Decimal | None = None
    notice_days: int = 0
    guard_percent: Decimal | None = None
    guard_action: str | None = None
    made_at: datetime = moment()
    made_with: str
    staged_through: str = ""
    staged_at: datetime | None = moment(default=None)
    take_back_at: datetime | None = moment(default=None)
    take_back_with: str | None = None
    take_back_through: str = ""
    taken_back_at: datetime | None = moment(default=None)

    @property
    def subject(self) -> str:
        return subject_of(self.id)


class RolloutMember(SQLModel, table=True):
    """A subscription in a roll-out. `before_minor`, `after_minor`: the bill of its last whole period before tax, in
    minor units, under its terms and under the new version. `state` is the latest of its moments, by name.
    """

    __tablename__ = "rollout_member"
    rollout_id: str = Field(primary_key=True, foreign_key="rollout.id")
    subscription_id: str = Field(primary_key=True, foreign_key="subscription.id")
    root_id: str = Field(foreign_key="account_root.id")
    from_plan_id: str
    from_version: int
    move_on: date | None = None
    currency: str
    before_minor: int | None = large(default=None)
    after_minor: int | None = large(default=None)
    why: str
    amendment_id: str | None = Field(default=None, foreign_key="amendment.id")
    back_amendment_id: str | None = Field(default=None, foreign_key="amendment.id")
    held_at: datetime | None = moment(default=None)
    refused_at: datetime | None = moment(default=None)
    planned_at: datetime | None = moment(default=None)
    skipped_at: datetime | None = moment(default=None)
    moved_at: datetime | None = moment(default=None)
    taken_back_at: datetime | None = moment(default=None)
    state: str


def subject_of(rollout_id: str) -> str:
    return f"rollout/{rollout_id}"


def task_subject(rollout_id: str, subscription_id: str) -> str:
    """What a person is asked about when a member is held."""
    return f"rollout/{rollout_id}/{subscription_id}"


def stagings(row: Rollout) -> dict[str, datetime]:
    """When members are made, by cause on the agenda: at once, and for `all` and `renewal` twice more.

    Until the day the old version is sold, and amendments lead into the plan. Whoever came meanwhile is found before the
    day begins anywhere, so that the move is on time; and whoever came after that, once it has begun everywhere.
    """
    begins = datetime.combine(row.on_day, time(), UTC)
    again = {"stage before the day": begins - timedelta(hours=14), "stage on the day": begins + timedelta(hours=12)}
    moving = again if row.audience in ("all", "renewal") else {}
    return {"stage": row.made_at} | {cause: at for cause, at in moving.items() if at > row.made_at}


def rollout(session: Session, rollout_id: str, *, locked: bool = False) -> Rollout:
    """The roll-out; `locked`, nobody else changes it until the transaction ends."""
    found = session.get(Rollout, rollout_id, with_for_update=locked, populate_existing=locked)
    if found is None:
        raise NotFound("rollout", rollout_id)
    return found


def rollouts(session: Session, after: str, limit: int) -> list[Rollout]:
    """A page in order of id, behind `after`."""
    return list(session.exec(select(Rollout).where(Rollout.id > after).order_by(col(Rollout.id)).limit(limit)))


_OPEN = """
  case when r.take_back_at is not null then r.taken_back_at is null
  else exists (select from agenda a where a.subject = 'rollout/' || r.id and a.done_at is null)
    or exists (select from rollout_member m where m.rollout_id = r.id and m.state in ('planned', 'held')) end
"""


def is_open(session: Session, rollout_id: str) -> bool:
    """Whether it still has something to do: members to make, to decide on, to move or to take back."""
    row = cursor(session).execute(f"select {_OPEN} from rollout r where r.id = %s", (rollout_id,)).fetchone()
    return bool(row and row[0])


def open_rollout(session: Session, entity_id: str, plan_id: str) -> str | None:
    """The open roll-out of a plan in an entity."""
    found = cursor(session).execute(
        f"select r.id from rollout r where r.entity_id = %s and r.plan_id = %s and {_OPEN} limit 1",
        (entity_id, plan_id),
    )
    row = found.fetchone()
    return str(row[0]) if row else None


def counts(session: Session, rollout_id: str) -> dict[str, int]:
    """How many members are in which state."""
    rows = cursor(session).execute(
        "select state, count(*) from rollout_member where rollout_id = %s group by 1 order by 1", (rollout_id,)
    )
    return dict(rows.fetchall())


def members(session: Session, rollout_id: str, state: str | None, after: str, limit: int) -> list[RolloutMember]:
    """A page in order of the subscription's id, behind `after`; of one state or of all."""
    query = select(RolloutMember).where(
        RolloutMember.rollout_id == rollout_id, col(RolloutMember.subscription_id) > after
    )
    if state is not None:
        query = query.where(RolloutMember.state == state)
    return list(session.exec(query.order_by(col(RolloutMember.subscription_id)).limit(limit)))


def members_of(session: Session, rollout_id: str, root_ids: Sequence[str]) -> list[RolloutMember]:
    """All members of these roots, in order of id, read afresh."""
    query = select(RolloutMember).where(
        RolloutMember.rollout_id == rollout_id, col(RolloutMember.root_id).in_(root_ids)
    )
    ordered = query.order_by(col(RolloutMember.subscription_id)).execution_options(populate_existing=True)
    return list(session.exec(ordered))


# Who a roll-out is about, as far as the tables can tell; shares are told by the engine.
_AUDIENCE = """
  from subscription s join subscription_terms t on t.subscription_id = s.id and t.version = s.terms_version
  where s.entity_id = %(entity)s and s.state <> 'ended' and t.plan_id = %(plan)s and %(audience)s <> 'new'
    and (t.plan_id, t.plan_version) <> (%(to_plan)s, %(to_version)s)
    and (cardinality(%(subscriptions)s::text[]) + cardinality(%(customers)s::text[]) = 0
         or s.id = any(%(subscriptions)s) or s.customer_id = any(%(customers)s))
"""


def _asked(row: Rollout) -> dict[str, object]:
    return {
        "entity": row.entity_id,
        "plan": row.plan_id,
        "audience": row.audience,
        "to_plan": row.to_plan_id,
        "to_version": row.to_version,
        "subscriptions": row.subscriptions,
        "customers": row.customers,
    }


def roots_concerned(session: Session, row: Rollout, after: str, limit: int) -> list[str]:
    """Account roots behind `after` with subscriptions that the roll-out is about and that are no members yet, in order
    of code points.
    """
    rows = cursor(session).execute(
        'select distinct root_id from (select s.root_id collate "C" as root_id' + _AUDIENCE + " and not exists"
        " (select from rollout_member m where m.rollout_id = %(rollout)s and m.subscription_id = s.id)"
        ") a where root_id > %(after)s order by 1 limit %(limit)s",
        {**_asked(row), "rollout": row.id, "after": after, "limit": limit},
    )
    return [root_id for (root_id,) in rows]


def intervals_concerned(session: Session, row: Rollout) -> list[tuple[str, str, int]]:
    """Currencies and intervals (unit, count) of the subscriptions that the roll-out is about."""
    rows = cursor(session).execute(
        "select distinct s.currency::text, s.interval_unit, s.interval_count" + _AUDIENCE + " order by 1, 2, 3",
        _asked(row),
    )
    return rows.fetchall()


def unknown_names(session: Session, row: Rollout) -> list[Fault]:
    """A fault for each named subscription or customer that the roll-out cannot be about."""
    rows = cursor(session).execute("select s.id, s.customer_id" + _AUDIENCE, _asked(row)).fetchall()
    subscriptions, customers = {key for key, _ in rows}, {key for _, key in rows}
    said = f"has no subscription of {row.plan_id!r} to be moved in {row.entity_id!r}"
    return [
        *(
            Fault(f"cohort.subscriptions.{i}", f"{name!r} is no subscription of {row.plan_id!r} to be moved")
            for i, name in enumerate(row.subscriptions)
            if name not in subscriptions
        ),
        *(
            Fault(f"cohort.customers.{i}", f"{name!r} {said}")
            for i, name in enumerate(row.customers)
            if name not in customers
        ),
    ]


def customers_concerned(session: Session, row: Rollout) -> list[str]:
    """Customers with subscriptions that the roll-out is about, shares not yet told."""
    rows = cursor(session).execute("select distinct s.customer_id" + _AUDIENCE + " order by 1", _asked(row))
    return [name for (name,) in rows]


def roots_to_take_back(session: Session, rollout_id: str, after: str, limit: int) -> list[str]:
    """Account roots behind `after` with members, in order of code points."""
    rows = cursor(session).execute(
        'select distinct root_id collate "C" as root_id from rollout_member'
        ' where rollout_id = %s and root_id collate "C" > %s order by 1 limit %s',
        (rollout_id, after, limit),
    )
    return [root_id for (root_id,) in rows]


@dataclass(frozen=True, slots=True)
class Answered:
    """A person's answer about a member that was held."""

    task_id: str
    subscription_id: str
    root_id: str
    by: str
    answer: str


def answers(session: Session, row: Rollout, limit: int) -> list[Answered]:
    """Answers that nothing has followed from yet, in order of root and subscription."""
    cur = cursor(session).connection.cursor(row_factory=class_row(Answered))
    return cur.execute(
        "select t.id as task_id, m.subscription_id, m.root_id, t.answered_by as by, t.answer"
        " from agenda a join task t on t.id = a.cause"
        " join rollout_member m on m.rollout_id = %s and t.subject = %s || m.subscription_id"
        " where a.subject = %s and a.done_at is null order by m.root_id, m.subscription_id limit %s",
        (row.id, task_subject(row.id, ""), row.subject, limit),
    ).fetchall()


def add_members(session: Session, found: Sequence[RolloutMember]) -> None:
    """Write members down in one statement; those that stand stay as they are."""
    names = [name for name in RolloutMember.model_fields if name != "state"]
    kinds = {"from_version": "int", "move_on": "date", "before_minor": "bigint", "after_minor": "bigint"}
    columns = [[getattr(one, name) for one in found] for name in names]
    if found:
        typed = ", ".join(
            f"%s::{kinds.get(name, 'timestamptz' if name.endswith('_at') else 'text')}[]" for name in names
        )
        cursor(session).execute(
            f"insert into rollout_member ({', '.join(names)}) select * from unnest({typed}) on conflict do nothing",
            columns,
        )


# What becomes of a planned move, told by whoever carries out amendments.


def moved(session: Session, amendment_id: str, at: datetime) -> None:
    """The amendment has taken effect; if a roll-out planned it, its member has been moved, from what it was on then."""
    cursor(session).execute(
        "update rollout_member m set moved_at = %s, from_plan_id = b.plan_id, from_version = b.plan_version"
        " from subscription_terms a join subscription_terms b"
        "   on b.subscription_id = a.subscription_id and b.version = a.version - 1"
        " where m.amendment_id = %s and m.moved_at is null"
        "   and a.subscription_id = m.subscription_id and a.cause = m.amendment_id",
        (at, amendment_id),
    )


def overtaken(session: Session, amendment_id: str) -> bool:
    """Whether a roll-out planned the amendment, and the subscription is no longer on the plan that it moves from."""
    row = (
        cursor(session)
        .execute(
            "select t.plan_id <> r.plan_id or (t.plan_id, t.plan_version) = (r.to_plan_id, r.to_version)"
            " from rollout_member m join rollout r on r.id = m.rollout_id"
            " join subscription s on s.id = m.subscription_id"
            " join subscription_terms t on t.subscription_id = s.id and t.version = s.terms_version"
            " where m.amendment_id = %s",
            (amendment_id,),
        )
        .fetchone()
    )
    return bool(row and row[0])


def skipped(session: Session, subscription_id: str, why: str, at: datetime, amendment_id: str | None = None) -> None:
    """The planned moves of a subscription (or that one) will not happen any more."""
    cursor(session).execute(
        "update rollout_member set skipped_at = %s, why = %s where subscription_id = %s and state = 'planned'"
        " and (%s::text is null or amendment_id = %s)",
        (at, why, subscription_id, amendment_id, amendment_id),
    )


def audience_of(row: Rollout) -> Audience:
    found: Audience = row.audience  # type: ignore[assignment]
    return found
