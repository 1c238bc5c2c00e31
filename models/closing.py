"""The monthly close: its row, its tie-outs, and the sums that the tie-outs compare."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import Column
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, Session, SQLModel, col, select

from billing.errors import NotFound
from billing.period import Period, instant, month_of, zone
from billing.tieout import Item, TieOut
from models import agenda
from models.database import cursor
from models.entity import LegalEntity
from models.values import moment, read, to_json


class MonthClose(SQLModel, table=True):
    """One month of one entity on its way to being locked."""

    __tablename__ = "month_close"
    entity_id: str = Field(primary_key=True, foreign_key="legal_entity.id")
    month: date = Field(primary_key=True)
    stage: str
    started_at: datetime = moment()
    approved_by: str | None = None
    approved_with: str | None = None
    approved_at: datetime | None = moment(default=None)
    approval_note: str | None = None
    erp: str | None = None
    erp_reference: str | None = None
    locked_at: datetime | None = moment(default=None)


class TieOutRow(SQLModel, table=True):
    """The last result of one comparison, with the items behind a difference."""

    __tablename__ = "tie_out"
    entity_id: str = Field(primary_key=True)
    month: date = Field(primary_key=True)
    name: str = Field(primary_key=True)
    left_label: str
    left_value: Decimal
    right_label: str
    right_value: Decimal
    unit: str = Field(primary_key=True)
    items: Any = Field(sa_column=Column(JSONB, nullable=False))


def month_close(session: Session, entity_id: str, month: date, *, alone: bool = False) -> MonthClose:
    """How far it is; with `alone` nobody else changes it until the commit."""
    found = session.get(MonthClose, (entity_id, month), with_for_update=alone or None, populate_existing=alone)
    if found is None:
        raise NotFound("close", f"{entity_id}/{month:%Y-%m}")
    return found


def closes(session: Session) -> list[MonthClose]:
    return list(session.exec(select(MonthClose).order_by(col(MonthClose.entity_id), col(MonthClose.month))))


def comes_first(session: Session, entity_id: str) -> tuple[date, datetime | None] | None:
    """The entity's first month that is not locked, and when its close begins; None in place of that if it has."""
    rows = cursor(session).execute(
        "select month, null::timestamptz from month_close where entity_id = %(entity)s and stage <> 'locked'"
        " union all select to_date(right(subject, 7), 'YYYY-MM'), due_at from agenda"
        " where entity_id = %(entity)s and kind = 'close' and done_at is null order by 1 limit 1",
        {"entity": entity_id},
    )
    found: tuple[date, datetime | None] | None = rows.fetchone()
    return found


def keep_tie_outs(session: Session, entity_id: str, month: date, found: list[TieOut]) -> None:
    """Replace the close's tie-outs by these."""
    cur = cursor(session)
    cur.execute("delete from tie_out where entity_id = %s and month = %s", (entity_id, month))
    cur.executemany(
        "insert into tie_out (entity_id, month, name, left_label, left_value, right_label, right_value, unit, items)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            (entity_id, month, t.name, t.left_label, t.left, t.right_label, t.right, t.unit,
             Jsonb([to_json(i) for i in t.items]))
            for t in found
        ],
    )  # fmt: skip


def tie_outs(session: Session, entity_id: str, month: date) -> list[TieOut]:
    rows = session.exec(
        select(TieOutRow)
        .where(TieOutRow.entity_id == entity_id, TieOutRow.month == month)
        .order_by(col(TieOutRow.name))
    )
    return [
        TieOut(r.name, r.left_label, r.left_value, r.right_label, r.right_value, r.unit, _items(r.items)) for r in rows
    ]


def _items(stored: list[object]) -> tuple[Item, ...]:
    return tuple(read(Item, item) for item in stored)


def plan_close(session: Session, seller: LegalEntity, month: date) -> None:
    """Put the close of `month` on the agenda: so many days after its end, at the entity's midnight."""
    due_on = month_of(month).end + timedelta(days=seller.close_after_days)
    due_at = instant(due_on, zone(seller.time_zone))
    agenda.plan_ahead(
        session, f"close/{seller.id}/{month:%Y-%m}", "close", "month end", due_at, seller.id, seller.clock_id
    )


def lock_period(session: Session, entity_id: str, month: date, state: str) -> None:
    """Set the month's state. Waits for whoever posts into the entity's books; later postings see the new state."""
    cur = cursor(session)
    cur.execute("select 1 from legal_entity where id = %s for update", (entity_id,))
    cur.execute(
        "insert into ledger_period (entity_id, month) values (%s, %s) on conflict do nothing", (entity_id, month)
    )
    cur.execute("select 1 from ledger_period where entity_id = %s and month = %s for update", (entity_id, month))
    cur.execute(
        "update ledger_period set state = %s where entity_id = %s and month = %s and state <> 'locked'",
        (state, entity_id, month),
    )


def lanes_behind(session: Session, entity_id: str, until: datetime) -> list[str]:
    """Subscriptions of the entity with something due before `until` that has not been billed or not taken effect."""
    rows = cursor(session).execute(
        "select subscription_id from billing_lane where entity_id = %(entity)s and next_bill_at < %(until)s"
        " union select s.id from agenda a join subscription s on a.subject = 'subscription/' || s.id"
        " where a.entity_id = %(entity)s and a.done_at is null and a.due_at < %(until)s order by 1",
        {"entity": entity_id, "until": until},
    )
    return [key for (key,) in rows]


# The comparisons. Each query gives rows (what, left, right) that differ or not; sums and items come from the same rows.


@dataclass(frozen=True, slots=True)
class Comparison:
    """A tie-out as a query over (entity, month, through): one row an item, with both sides."""

    name: str
    left_label: str
    right_label: str
    sql: str


_SIGNED = "case side when 'D' then amount_minor else -amount_minor end"

# Payments that were captured, with the day on which they count: the day of the capture, or, if that day's month was
# closed by then, the first day of the month that was open, on which the entry stands.
_PAID = """
    select a.id, a.invoice_id, a.amount_minor,
      case when e.posted_on > d.day and extract(day from e.posted_on) = 1 then e.posted_on else d.day end as paid_on
    from payment_attempt a join invoice i on i.id = a.invoice_id join legal_entity n on n.id = i.entity_id
    left join journal_entry e on e.cause_kind = 'payment' and e.cause_id = a.id
    cross join lateral (select (a.decided_at at time zone n.time_zone)::date as day) d
    where i.entity_id = %(entity)s and a.state = 'paid'
"""

# Transfers likewise: on their value date, or on the first day of the month that was open.
_TRANSFERRED = """
    select t.id, t.invoice_id, t.amount_minor,
      case when e.posted_on > t.received_on and extract(day from e.posted_on) = 1 then e.posted_on
        else t.received_on end as paid_on
    from bank_transfer t join invoice i on i.id = t.invoice_id
    left join journal_entry e on e.cause_kind = 'transfer' and e.cause_id = t.id
    where i.entity_id = %(entity)s
"""

RECEIVABLES = Comparison(
    "receivables",
    "invoices less credits drawn, payments and transfers",
    "receivables in the ledger",
    f"""
    select coalesce(d.invoice_id, g.invoice_id), coalesce(d.owed, 0), coalesce(g.owed, 0) from (
      select i.id as invoice_id, i.total_minor
        - coalesce((select sum(w.amount_minor) from credit_draw w where w.invoice_id = i.id), 0)
        - coalesce((select sum(p.amount_minor) from ({_PAID} union all {_TRANSFERRED}) p
                    where p.invoice_id = i.id and p.paid_on <= %(through)s), 0) as owed
      from invoice i where i.entity_id = %(entity)s and i.issued_on <= %(through)s) d
    full join (
      select coalesce(invoice_id, entry_id) as invoice_id, sum({_SIGNED}) as owed from journal_line
      where entity_id = %(entity)s and account = '1100' and posted_on <= %(through)s group by 1) g using (invoice_id)
    """,
)


def _received(name: str, left_label: str, right_label: str, came: str, account: str) -> Comparison:
    """Money that came in the month, one by one, beside the account that it was posted to."""
    return Comparison(
        name,
        left_label,
        right_label,
        f"""
        select coalesce(c.id, g.cause_id), coalesce(c.amount_minor, 0), coalesce(g.amount, 0) from (
          select id, amount_minor from ({came}) a where paid_on between %(month)s and %(through)s) c
        full join (
          select cause_id, sum({_SIGNED}) as amount from journal_line where entity_id = %(entity)s
            and account = '{account}' and posted_on between %(month)s and %(through)s group by 1) g
        on g.cause_id = c.id
        """,
    )


PAYMENTS = _received("payments", "payments captured", "provider clearing in the ledger", _PAID, "1050")
TRANSFERS = _received("bank transfers", "transfers received", "cash at bank in the ledger", _TRANSFERRED, "1000")

CREDITS = Comparison(
    "prepaid credits",
    "credits granted less drawn",
    "customer credit wallets in the ledger",
    f"""
    select coalesce(d.customer_id, g.customer_id), coalesce(d.left_over, 0), coalesce(g.left_over, 0) from (
      select customer_id, sum(amount) as left_over from (
        select g.customer_id, g.amount_minor as amount from credit_grant g join invoice i on i.id = g.invoice_id
        where i.entity_id = %(entity)s and i.issued_on <= %(through)s
        union all
        select i.customer_id, -w.amount_minor from credit_draw w join invoice i on i.id = w.invoice_id
        where i.entity_id = %(entity)s and i.issued_on <= %(through)s) x group by 1) d
    full join (
      select customer_id, -sum({_SIGNED}) as left_over from journal_line
      where entity_id = %(entity)s and account = '2100' and posted_on <= %(through)s group by 1) g using (customer_id)
    """,
)

TAX = Comparison(
    "tax",
    "tax on the month's documents",
    "tax payable in the ledger",
    f"""
    select coalesce(d.code, g.code), coalesce(d.tax, 0), coalesce(g.tax, 0) from (
      select t.jurisdiction || '-' || t.category || '-' || t.percent as code, sum(t.tax_minor) as tax
      from invoice_tax t join invoice i on i.id = t.invoice_id
      where i.entity_id = %(entity)s and i.issued_on between %(month)s and %(through)s group by 1) d
    full join (
      select tax_code as code, -sum({_SIGNED}) as tax from journal_line
      where entity_id = %(entity)s and account = '2400' and posted_on between %(month)s and %(through)s group by 1) g
    using (code)
    """,
)

# What lines of documents billed by the day, and what was promised in return; usage is promised as it is delivered.
PROMISES = Comparison(
    "promises",
    "lines billed by the day",
    "promises to be earned",
    """
    select coalesce(l.obligation_id, l.line_id), l.billed, coalesce(o.total_minor, 0) from (
      select g.obligation_id, min(b.id) as line_id, sum(b.net_minor) as billed
      from invoice i join invoice_line b on b.invoice_id = i.id
      left join journal_line g on g.invoice_line_id = b.id and g.account = '1200'
      where i.entity_id = %(entity)s and i.issued_on <= %(through)s and b.kind <> 'credit_purchase'
        and b.net_minor <> 0 group by g.obligation_id) l
    left join obligation o on o.id = l.obligation_id where o.id is null or o.pattern = 'ratable'
    """,
)

TRIAL_BALANCE = Comparison(
    "trial balance",
    "debits",
    "credits",
    """
    select 'all accounts', coalesce(sum(debit_minor), 0), coalesce(sum(credit_minor), 0) from account_total
    where entity_id = %(entity)s and month <= %(month)s
    """,
)

KEPT_TOTALS = Comparison(
    "kept totals",
    "sum of the postings",
    "kept account totals",
    """
    select concat_ws(' ', account, side, nullif(contract_id, '')), coalesce(l.minor, 0), coalesce(t.minor, 0) from (
      select account, coalesce(contract_id, '') as contract_id, side, sum(amount_minor) as minor from journal_line
      where entity_id = %(entity)s and posted_on <= %(through)s group by 1, 2, 3) l
    full join (
      select account, contract_id, side, sum(minor) as minor from account_total,
        lateral (values ('D', debit_minor), ('C', credit_minor)) v (side, minor)
      where entity_id = %(entity)s and month <= %(month)s and minor <> 0 group by 1, 2, 3) t
    using (account, contract_id, side)
    """,
)

# Late usage about which a person was asked: it is asked about, waived by an answer, or on its way to or on a document.
HELD_USAGE = Comparison(
    "late usage held",
    "late usage that was held",
    "asked about, waived or billed",
    """
    select h.id || ' of ' || h.subscription_id, h.net_minor, coalesce(case
        when t.id is null then 0
        when t.answered_at is null and h.decision is null then h.line_minor
        when t.answered_at is null or h.decision is null then 0
        when h.decision = 'waive' then h.line_minor
        when p.invoice_id is null then (p.line #>> '{gross,minor}')::bigint - (p.line #>> '{discount,minor}')::bigint
        else (select l.net_minor from invoice_line l where l.invoice_id = p.invoice_id and l.kind = 'late_usage'
                and l.item = h.item and l.period_start = h.period_start and l.quantity = h.quantity
                order by abs(l.net_minor - h.net_minor) limit 1)
      end, 0)
    from (
      select u.*, (u.line #>> '{gross,minor}')::bigint - (u.line #>> '{discount,minor}')::bigint as line_minor
      from held_usage u join subscription s on s.id = u.subscription_id where s.entity_id = %(entity)s) h
    left join task t on t.id = h.task_id
    left join pending_item p on p.id = h.pending_id
    """,
)

COMPARISONS = (RECEIVABLES, PAYMENTS, TRANSFERS, CREDITS, TAX, PROMISES, HELD_USAGE, TRIAL_BALANCE, KEPT_TOTALS)


def compare(session: Session, c: Comparison, entity_id: str, month: Period) -> list[tuple[str, int, int]]:
    """The rows of a comparison, in minor units of the entity's currency."""
    through = month.end - timedelta(days=1)
    rows = cursor(session).execute(c.sql, {"entity": entity_id, "month": month.start, "through": through}).fetchall()
    return [(str(what), int(left), int(right)) for what, left, right in rows]


def positions(session: Session, entity_id: str, through: date) -> list[tuple[str, int, int]]:
    """By contract: what documents billed up to a day, before tax, and the contract's position in the ledger."""
    rows = cursor(session).execute(
        "select contract_id, sum(billed)::bigint, sum(position)::bigint from ("
        " select i.contract_id, b.net_minor as billed, 0 as position from invoice i"
        " join invoice_line b on b.invoice_id = i.id where i.entity_id = %(entity)s and i.issued_on <= %(through)s"
        " and b.kind <> 'credit_purchase'"
        f" union all select coalesce(contract_id, entry_id), 0, -({_SIGNED}) from journal_line"
        " where entity_id = %(entity)s and account = '1200' and posted_on <= %(through)s) x group by 1",
        {"entity": entity_id, "through": through},
    )
    return rows.fetchall()
