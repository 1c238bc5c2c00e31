"""Contracts and subscriptions: what was agreed, the versions of the terms, states and watermarks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import Column
from sqlmodel import Field, Session, SQLModel, col, select

from billing import lifecycle
from billing.catalog import NO_EXTRAS, Extras
from billing.errors import NotFound
from billing.lifecycle import Event
from billing.standing import Lane, Standing, next_bill_at
from models.database import cursor
from models.values import Whole, large, moment


class Contract(SQLModel, table=True):
    """The agreement of one customer with one legal entity, in one currency."""

    __tablename__ = "contract"
    id: str = Field(primary_key=True)
    customer_id: str = Field(foreign_key="customer.id")
    entity_id: str = Field(foreign_key="legal_entity.id")
    currency: str
    signed_at: datetime = moment()
    payment_terms_days: int
    purchase_order: str | None = None
    crm: str | None = None
    deal_id: str | None = None


class Subscription(SQLModel, table=True):
    """What runs under a contract. `state` and `terms_version` repeat the newest rows of their histories."""

    __tablename__ = "subscription"
    id: str = Field(primary_key=True)
    contract_id: str = Field(foreign_key="contract.id")
    customer_id: str = Field(foreign_key="customer.id")
    root_id: str = Field(foreign_key="account_root.id")
    entity_id: str = Field(foreign_key="legal_entity.id")
    clock_id: str | None = Field(default=None, foreign_key="test_clock.id")
    currency: str
    time_zone: str
    anchor: date
    interval_unit: str
    interval_count: int
    state: str
    terms_version: int


class SubscriptionTransition(SQLModel, table=True):
    """One change of state: when, by what event and cause."""

    __tablename__ = "subscription_transition"
    subscription_id: str = Field(primary_key=True, foreign_key="subscription.id")
    no: int = Field(primary_key=True)
    from_state: str | None
    to_state: str
    event: str
    cause: str
    at: datetime = moment()


class SubscriptionTerms(SQLModel, table=True):
    """A version of the terms, from a local day on."""

    __tablename__ = "subscription_terms"
    subscription_id: str = Field(primary_key=True, foreign_key="subscription.id")
    version: int = Field(primary_key=True)
    effective_on: date
    plan_id: str
    plan_version: int
    seats: Decimal
    discount_percent: Decimal
    extras: Extras = Field(default=NO_EXTRAS, sa_column=Column(Whole(Extras), nullable=False))
    cause: str


class BillingLane(SQLModel, table=True):
    """The watermark of advance or arrears billing; `next_bill_at` is when it is due again."""

    __tablename__ = "billing_lane"
    subscription_id: str = Field(primary_key=True, foreign_key="subscription.id")
    lane: str = Field(primary_key=True)
    entity_id: str = Field(foreign_key="legal_entity.id")
    clock_id: str | None = Field(default=None, foreign_key="test_clock.id")
    billed_through: date
    next_bill_at: datetime | None = moment()


class UsageSeen(SQLModel, table=True):
    """Of a subscription that has ended: how many events of its days were there when it was last billed."""

    __tablename__ = "usage_seen"
    subscription_id: str = Field(primary_key=True, foreign_key="subscription.id")
    events: int = large()


def subscription(session: Session, subscription_id: str) -> Subscription:
    found = session.get(Subscription, subscription_id)
    if found is None:
        raise NotFound("subscription", subscription_id)
    return found


def subscriptions(session: Session, after: str, limit: int) -> list[Subscription]:
    """A page in order of id, behind `after`."""
    query = select(Subscription).where(Subscription.id > after).order_by(col(Subscription.id)).limit(limit)
    return list(session.exec(query))


def transitions(session: Session, subscription_id: str) -> list[SubscriptionTransition]:
    query = select(SubscriptionTransition).where(SubscriptionTransition.subscription_id == subscription_id)
    return list(session.exec(query.order_by(col(SubscriptionTransition.no))))


def move(session: Session, row: Subscription, event: Event, cause: str, at: datetime) -> None:
    """Change the state by the table of transitions, and write down that it happened."""
    before = row.state
    row.state = lifecycle.after(before, event)  # type: ignore[arg-type]
    session.add(row)
    cursor(session).execute(
        "insert into subscription_transition (subscription_id, no, from_state, to_state, event, cause, at)"
        " select %s, count(*) + 1, %s, %s, %s, %s, %s from subscription_transition where subscription_id = %s",
        (row.id, before, row.state, event, cause, at, row.id),
    )


def set_lanes(session: Session, moved: Sequence[tuple[Standing, Lane]]) -> None:
    """Write watermarks and when each lane is due again, in one statement."""
    rows = [
        (s.subscription_id, lane.name, s.entity_id, s.clock_id, lane.billed_through, next_bill_at(s, lane))
        for s, lane in moved
    ]
    if rows:
        cursor(session).execute(
            "insert into billing_lane (subscription_id, lane, entity_id, clock_id, billed_through, next_bill_at)"
            " select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::date[], %s::timestamptz[])"
            " order by 1, 2 on conflict (subscription_id, lane) do update"
            " set billed_through = excluded.billed_through, next_bill_at = excluded.next_bill_at",
            [list(column) for column in zip(*rows, strict=True)],
        )


def see_usage(session: Session, seen: Sequence[tuple[str, int]]) -> None:
    """Write down how many events of the days of ended subscriptions were looked at: they are due again if more come."""
    if seen:
        cursor(session).execute(
            "insert into usage_seen (subscription_id, events) select * from unnest(%s::text[], %s::bigint[]) order by 1"
            " on conflict (subscription_id) do update set events = excluded.events",
            [list(column) for column in zip(*seen, strict=True)],
        )


def forget_seen(session: Session, customer_ids: set[str]) -> None:
    """Ended subscriptions of these customers are due again: their usage was counted anew, and may have as many events
    as before. Under the lock of their accounts.
    """
    cursor(session).execute(
        "delete from usage_seen where subscription_id in (select id from subscription where customer_id = any(%s))",
        (sorted(customer_ids),),
    )


def keep_policies(session: Session) -> None:
    """Until the commit no meter's policy for late usage changes. Whoever bills takes this before it reads them."""
    cursor(session).execute("select pg_advisory_xact_lock_shared(hashtext('late usage'))")


def forget_seen_of(session: Session, meter_id: str) -> None:
    """Ended subscriptions with usage of the meter are due again: what becomes of it changes, and who bills waits."""
    cur = cursor(session)
    cur.execute("select pg_advisory_xact_lock(hashtext('late usage'))")
    cur.execute(
        "delete from usage_seen u using subscription s where s.id = u.subscription_id and exists"
        " (select from usage_total t join meter_span m on m.series = t.meter_id"
        " where t.customer_id = s.customer_id and m.meter_id = %s)",
        (meter_id,),
    )


# A subscription that has ended has no lane that is due; its usage may still arrive. Whatever arrives is a further
# event, also what moves usage between properties and adds up to nothing, or what comes for days that have no line; or,
# of meters that carry over, for days before its first.
_ENDED = """
  from subscription s
  join billing_lane l on l.subscription_id = s.id and l.lane = 'arrears'
  left join usage_seen u on u.subscription_id = s.id
  where s.entity_id = %(entity)s and s.state = 'ended' and coalesce(u.events, 0) {is_seen} coalesce(
    (select sum(t.events) from usage_total t
      join meter_span n on n.series = t.meter_id and t.day >= n.since and t.day < n.until
      where t.customer_id = s.customer_id and t.day < l.billed_through
        and (t.day >= s.anchor or n.meter_id = any(array(select m.id from meter m where carries(m))))), 0)
"""
_LATE_AFTER_THE_END = "select s.root_id" + _ENDED.format(is_seen="<>")


# A change of the lifecycle that nobody has woken up for takes effect by its date all the same.
_OVERSLEPT = """
  select s.root_id from agenda a join subscription s on a.subject = 'subscription/' || s.id
  where a.entity_id = %(entity)s and a.done_at is null and a.due_at <= %(cutoff)s
"""


def settled(session: Session, entity_id: str) -> set[str]:
    """Subscriptions that have ended and that no billing run looks at any more, unless further usage comes."""
    rows = cursor(session).execute(
        "select s.id" + _ENDED.format(is_seen="=") + " and l.next_bill_at is null", {"entity": entity_id}
    )
    return {subscription_id for (subscription_id,) in rows}


def due_roots(session: Session, entity_id: str, cutoff: datetime, first: str = "", until: str = "") -> list[str]:
    """Account roots from `first` up to (not including) `until` with something due by the cut-off.

    Those that wait for a person are left out. Empty bounds are none.

    In the order of code points, as Python compares the bounds of batches, whatever the database's collation is.
    """
    rows = cursor(session).execute(
        "with due as (select s.root_id from billing_lane l join subscription s on s.id = l.subscription_id"
        " where l.entity_id = %(entity)s and l.next_bill_at <= %(cutoff)s union "
        + _OVERSLEPT
        + " union "
        + _LATE_AFTER_THE_END
        + ")"
        ' select root_id from due d where root_id >= %(first)s collate "C"'
        """ and (%(until)s = '' or root_id < %(until)s collate "C")"""
        " and not exists"
        " (select from task t where t.subject = 'billing/' || d.root_id and t.answered_at is null)"
        ' order by root_id collate "C"',
        {"entity": entity_id, "cutoff": cutoff, "first": first, "until": until},
    )
    return [root_id for (root_id,) in rows]
