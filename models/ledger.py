"""The ledger: entries and their lines, append-only; sums kept by the statement that posts; months that lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from psycopg.rows import class_row
from sqlmodel import Field, Session, SQLModel

from billing.chart import CHART
from billing.journal import Entry
from billing.period import month_of
from models.database import copy_rows, cursor
from models.values import large, moment


class LedgerPeriod(SQLModel, table=True):
    """A month of an entity's books: open, closing or locked."""

    __tablename__ = "ledger_period"
    entity_id: str = Field(primary_key=True, foreign_key="legal_entity.id")
    month: date = Field(primary_key=True)
    state: str = "open"


class JournalEntry(SQLModel, table=True):
    """One balanced entry; (`cause_kind`, `cause_id`) is unique."""

    __tablename__ = "journal_entry"
    id: str = Field(primary_key=True)
    entity_id: str = Field(foreign_key="legal_entity.id")
    posted_on: date
    cause_kind: str
    cause_id: str
    description: str
    refers_to: str | None = None
    recorded_at: datetime = moment()


class JournalLine(SQLModel, table=True):
    """One posting of an entry with all that it is about."""

    __tablename__ = "journal_line"
    entry_id: str = Field(primary_key=True, foreign_key="journal_entry.id")
    line_no: int = Field(primary_key=True)
    entity_id: str
    account: str
    side: str
    amount_minor: int = large()
    currency: str
    functional_minor: int = large()
    functional_currency: str
    rate_id: str | None = None
    posted_on: date
    month: date
    cause_kind: str
    cause_id: str
    customer_id: str | None = None
    contract_id: str | None = None
    obligation_id: str | None = None
    product_id: str | None = None
    invoice_id: str | None = None
    invoice_line_id: str | None = None
    period_start: date | None = None
    period_end: date | None = None
    tax_code: str | None = None
    refers_to: str | None = None


class AccountTotal(SQLModel, table=True):
    """What was posted to an account in a month for a contract."""

    __tablename__ = "account_total"
    entity_id: str = Field(primary_key=True)
    month: date = Field(primary_key=True)
    account: str = Field(primary_key=True)
    contract_id: str = Field(primary_key=True)
    currency: str = Field(primary_key=True)
    debit_minor: int = large()
    credit_minor: int = large()


_ENTRY = ("id", "entity_id", "posted_on", "cause_kind", "cause_id", "description", "refers_to")
_LINE = (
    "entry_id line_no entity_id account side amount_minor currency functional_minor functional_currency posted_on"
    " cause_kind cause_id customer_id contract_id obligation_id product_id invoice_id invoice_line_id period_start"
    " period_end tax_code refers_to"
).split()


def post(session: Session, entries: Sequence[Entry]) -> None:
    """Write whole entries by two COPYs. The database refuses what does not balance, and months that are closed."""
    full = [entry for entry in entries if entry.postings]
    copy_rows(
        session,
        "journal_entry",
        _ENTRY,
        [(e.entry_id, e.entity_id, e.posted_on, e.cause_kind, e.cause_id, e.description, e.refers_to) for e in full],
    )
    copy_rows(session, "journal_line", _LINE, [row for entry in full for row in _rows(entry)])


def _rows(entry: Entry) -> list[tuple[object, ...]]:
    return [
        (
            entry.entry_id,
            no,
            entry.entity_id,
            p.account,
            p.side,
            p.amount.minor,
            p.amount.currency,
            p.amount.minor,
            p.amount.currency,
            entry.posted_on,
            entry.cause_kind,
            entry.cause_id,
            p.customer_id,
            p.contract_id,
            p.obligation_id,
            p.product_id,
            p.invoice_id,
            p.invoice_line_id,
            p.period.start if p.period else None,
            p.period.end if p.period else None,
            p.tax_code,
            entry.refers_to,
        )
        for no, p in enumerate(entry.postings, 1)
    ]


def posting_day(session: Session, entity_id: str, wanted: date) -> date:
    """`wanted`, if its month is open; else the first day of the first open month after it.

    It stays so until the transaction ends: whoever wants to close a month waits.
    """
    cur = cursor(session)
    cur.execute("select 1 from legal_entity where id = %s for key share", (entity_id,))
    row = cur.execute(
        "select max(month) from ledger_period where entity_id = %s and state <> 'open'", (entity_id,)
    ).fetchone()
    shut = row[0] if row else None
    return wanted if shut is None or month_of(wanted).start > shut else month_of(shut).end


@dataclass(frozen=True, slots=True)
class TrialRow:
    """An account's debits and credits up to a day, in one currency; `name` from the chart."""

    account: str
    currency: str
    debit_minor: int
    credit_minor: int

    @property
    def name(self) -> str:
        return CHART[self.account].name

    @property
    def balance_minor(self) -> int:
        """Debits less credits."""
        return self.debit_minor - self.credit_minor


def trial_balance(session: Session, entity_id: str, through_month: date) -> list[TrialRow]:
    """Every account's sums up to the end of a month, one small read over the kept totals."""
    cur = cursor(session).connection.cursor(row_factory=class_row(TrialRow))
    return cur.execute(
        "select account, currency, sum(debit_minor)::bigint as debit_minor, sum(credit_minor)::bigint as credit_minor"
        " from account_total where entity_id = %s and month <= %s group by 1, 2 order by 1, 2",
        (entity_id, through_month),
    ).fetchall()


def turnover(session: Session, entity_id: str, month: date) -> int:
    """All debits of a month, in minor units."""
    row = cursor(session).execute(
        "select coalesce(sum(debit_minor), 0) from account_total where entity_id = %s and month = %s",
        (entity_id, month),
    )
    return int((row.fetchone() or (0,))[0])


@dataclass(frozen=True, slots=True)
class JournalRow:
    """A line of the journal as people read it."""

    entry_id: str
    posted_on: date
    description: str
    cause_kind: str
    cause_id: str
    line_no: int
    account: str
    side: str
    amount_minor: int
    currency: str
    customer_id: str | None
    invoice_id: str | None


def journal(
    session: Session, entity_id: str, month: date, behind: tuple[date, str] | None = None, limit: int | None = None
) -> list[JournalRow]:
    """The entries of a month by day and id, in whole entries behind those two keys. Without a `limit`, all of them."""
    days = month_of(month)
    day, entry_id = max((days.start, ""), behind or (days.start, ""))
    cur = cursor(session).connection.cursor(row_factory=class_row(JournalRow))
    return cur.execute(
        "with page as (select id, posted_on, description from journal_entry where entity_id = %(entity)s"
        " and posted_on < %(end)s and (posted_on, id) > (%(day)s, %(entry)s) order by posted_on, id limit %(limit)s)"
        " select l.entry_id, l.posted_on, e.description, l.cause_kind, l.cause_id, l.line_no, l.account, l.side,"
        " l.amount_minor, l.currency, l.customer_id, l.invoice_id"
        " from page e join journal_line l on l.entry_id = e.id and l.entity_id = %(entity)s and l.month = %(month)s"
        " order by e.posted_on, e.id, l.line_no",
        {"entity": entity_id, "month": days.start, "end": days.end, "day": day, "entry": entry_id, "limit": limit},
    ).fetchall()
