"""Obligations: what was promised, how it is earned, and what recognition has posted for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sqlmodel import Field, Session, SQLModel

from billing.chart import REVENUE
from billing.money import Money
from billing.period import Period
from billing.revenue import Obligation as Promise
from billing.standing import Standing
from models.database import cursor
from models.values import large


class Obligation(SQLModel, table=True):
    """One promise of a contract; `total_minor` of a delivered one grows with the delivery."""

    __tablename__ = "obligation"
    id: str = Field(primary_key=True)
    contract_id: str = Field(foreign_key="contract.id")
    customer_id: str = Field(foreign_key="customer.id")
    entity_id: str = Field(foreign_key="legal_entity.id")
    subscription_id: str = Field(foreign_key="subscription.id")
    pattern: str
    revenue: str
    total_minor: int = large()
    currency: str
    period_start: date
    period_end: date
    cause: str


def promise(session: Session, promises: Sequence[tuple[Standing, Promise]], cause: str) -> None:
    """Write down promises in one statement; one that stands takes the new total and end, and recognition follows."""
    rows = [
        (
            p.obligation_id,
            s.contract_id,
            s.customer_id,
            s.entity_id,
            s.subscription_id,
            p.pattern,
            p.revenue,
            p.total.minor,
            p.total.currency,
            p.period.start,
            p.period.end,
            cause,
        )
        for s, p in promises
    ]
    if rows:
        cursor(session).execute(
            "insert into obligation as o (id, contract_id, customer_id, entity_id, subscription_id, pattern, revenue,"
            " total_minor, currency, period_start, period_end, cause)"
            " select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],"
            " %s::bigint[], %s::text[], %s::date[], %s::date[], %s::text[]) order by 1"
            " on conflict (id) do update set total_minor = excluded.total_minor, period_end = excluded.period_end",
            [list(column) for column in zip(*rows, strict=True)],
        )


@dataclass(frozen=True, slots=True)
class Recognition:
    """A promise and what has been recognised of it so far, and how often in the month that is closed."""

    contract_id: str
    customer_id: str
    promise: Promise
    posted: Money
    this_month: int


def recognitions(session: Session, entity_id: str, through: date) -> list[Recognition]:
    """Every promise that has begun by `through`, with its running total, in order of contract and id."""
    rows = cursor(session).execute(
        "select o.contract_id, o.customer_id, o.id, o.pattern, o.revenue, o.total_minor, o.currency, o.period_start,"
        " o.period_end, coalesce(sum(case l.side when 'D' then l.amount_minor else -l.amount_minor end), 0)::bigint,"
        " count(*) filter (where l.posted_on = %s)"
        " from obligation o left join journal_line l on l.obligation_id = o.id and l.account = '1200'"
        " and l.cause_kind = 'recognition' where o.entity_id = %s and o.period_start <= %s"
        " group by o.id order by o.contract_id, o.id",
        (through, entity_id, through),
    )
    return [
        Recognition(
            contract_id,
            customer_id,
            Promise(key, pattern, revenue, Money(minor, currency), Period(start, end)),
            Money(posted, currency),
            this_month,
        )
        for contract_id, customer_id, key, pattern, revenue, minor, currency, start, end, posted, this_month in rows
    ]


def recognised(session: Session, entity_id: str, through: date) -> dict[tuple[str, str], int]:
    """What stands in the accounts of revenue up to a day: (promise, account) to minor units."""
    rows = cursor(session).execute(
        "select coalesce(obligation_id, entry_id), account,"
        " sum(case side when 'C' then amount_minor else -amount_minor end)::bigint from journal_line"
        " where entity_id = %s and account = any(%s) and posted_on <= %s group by 1, 2",
        (entity_id, [account.number for account in REVENUE.values()], through),
    )
    return {(promise, account): minor for promise, account, minor in rows}
