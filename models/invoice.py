"""Issued invoices: documents, lines, taxes and gapless numbers. Written once in sets, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from psycopg.rows import class_row, tuple_row
from sqlalchemy import Column, ForeignKeyConstraint
from sqlmodel import Field, Session, SQLModel, col, select

from billing.biller import Bill
from billing.errors import Broken, NotFound, Refused
from billing.ids import derive
from billing.invoice import Invoice as Document
from billing.line import Because, Line
from billing.money import Money
from billing.period import Period
from models.customer import CustomerVersion
from models.database import copy_rows, cursor
from models.entity import EntityVersion
from models.values import Whole, copied, large, moment


class Invoice(SQLModel, table=True):
    """An issued document. `due_minor` is what was to be paid at issue; what is open now is in the ledger. The versions
    are what it prints of who sells and who buys (models/party.py).
    """

    __tablename__ = "invoice"
    __table_args__ = (
        ForeignKeyConstraint(
            ["customer_id", "customer_version"], ["customer_version.customer_id", "customer_version.version"]
        ),
        ForeignKeyConstraint(
            ["entity_id", "entity_version"], ["legal_entity_version.entity_id", "legal_entity_version.version"]
        ),
    )
    id: str = Field(primary_key=True)
    kind: str
    entity_id: str
    entity_version: int
    customer_id: str
    customer_version: int
    contract_id: str = Field(foreign_key="contract.id")
    subscription_id: str = Field(foreign_key="subscription.id")
    currency: str
    issued_on: date
    issued_at: datetime = moment()
    due_on: date
    period_start: date
    period_end: date
    net_minor: int = large()
    tax_minor: int = large()
    total_minor: int = large()
    drawn_minor: int = large()
    due_minor: int = large()
    run_id: str
    usage_snapshot: str


class InvoiceNumber(SQLModel, table=True):
    """The document's number in its series; given last before commit, without gaps."""

    __tablename__ = "invoice_number"
    entity_id: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    n: int = large(primary_key=True)
    number: str
    invoice_id: str = Field(foreign_key="invoice.id")


class InvoiceLine(SQLModel, table=True):
    """A line, with its `because`."""

    __tablename__ = "invoice_line"
    id: str = Field(primary_key=True)
    invoice_id: str = Field(foreign_key="invoice.id")
    no: int
    subscription_id: str = Field(foreign_key="subscription.id")
    kind: str
    item: str
    description: str
    period_start: date
    period_end: date
    meter_id: str | None = Field(default=None, foreign_key="meter.id")
    quantity: Decimal
    gross_minor: int = large()
    discount_minor: int = large()
    net_minor: int = large()
    currency: str
    revenue: str
    because: Because = Field(sa_column=Column(Whole(Because), nullable=False))
    product_id: str | None = None

    @property
    def value(self) -> Line:
        """The line as the engine knows it; its key is the row's id."""
        return Line(
            key=self.id,
            kind=self.kind,  # type: ignore[arg-type]
            item=self.item,
            description=self.description,
            period=Period(self.period_start, self.period_end),
            gross=Money(self.gross_minor, self.currency),
            discount=Money(self.discount_minor, self.currency),
            revenue=self.revenue,  # type: ignore[arg-type]
            because=self.because,
            product=self.product_id,
        )


class InvoiceTax(SQLModel, table=True):
    """The tax of one rate group."""

    __tablename__ = "invoice_tax"
    invoice_id: str = Field(primary_key=True, foreign_key="invoice.id")
    no: int = Field(primary_key=True)
    category: str
    jurisdiction: str
    percent: Decimal
    base_minor: int = large()
    tax_minor: int = large()
    note: str


class PendingItem(SQLModel, table=True):
    """A line decided earlier that waits for an invoice; claimed by `invoice_id`."""

    __tablename__ = "pending_item"
    id: str = Field(primary_key=True)
    subscription_id: str = Field(foreign_key="subscription.id")
    cause: str
    no: int = 1
    line: Line = Field(sa_column=Column(Whole(Line), nullable=False))
    created_at: datetime = moment()
    invoice_id: str | None = Field(default=None, foreign_key="invoice.id")


class RenderedDocument(SQLModel, table=True):
    """The printed invoice; rendered once, served as it is."""

    __tablename__ = "document"
    invoice_id: str = Field(primary_key=True, foreign_key="invoice.id")
    media_type: str
    sha256: str
    content: bytes


def line_id(invoice_id: str, line: Line) -> str:
    return derive("il", invoice_id, line.key)


_INVOICE = (
    "id kind entity_id entity_version customer_id customer_version contract_id subscription_id currency issued_on"
    " issued_at due_on period_start period_end net_minor tax_minor total_minor drawn_minor due_minor run_id"
).split()
_LINE = (
    "id invoice_id no subscription_id kind item description period_start period_end meter_id quantity gross_minor"
    " discount_minor currency revenue because product_id"
).split()
_TAX = "invoice_id no category jurisdiction percent base_minor tax_minor note".split()


def store(session: Session, run_id: str, bills: Sequence[Bill]) -> None:
    """Write documents, lines, taxes and draws of a batch by four COPYs, and claim the pending lines."""
    documents = [bill.invoice for bill in bills if bill.invoice]
    copy_rows(session, "invoice", _INVOICE, [_document_row(d, run_id) for d in documents])
    copy_rows(
        session,
        "invoice_line",
        _LINE,
        [_line_row(d, no, line) for d in documents for no, line in enumerate(d.lines, 1)],
    )
    copy_rows(
        session,
        "invoice_tax",
        _TAX,
        [
            (d.heading.invoice_id, no, t.category, t.jurisdiction, t.percent, t.base.minor, t.tax.minor, t.note)
            for d in documents
            for no, t in enumerate(d.taxes, 1)
        ],
    )
    copy_rows(
        session,
        "credit_draw",
        ("invoice_id", "grant_id", "amount_minor"),
        [(d.heading.invoice_id, draw.grant_id, draw.amount.minor) for d in documents for draw in d.draws],
    )
    claims = [(key, b.invoice.heading.invoice_id) for b in bills if b.invoice for key in b.claimed]
    cursor(session).execute(
        "update pending_item p set invoice_id = c.invoice_id"
        " from unnest(%s::text[], %s::text[]) as c (id, invoice_id) where p.id = c.id and p.invoice_id is null",
        ([key for key, _ in claims], [invoice for _, invoice in claims]),
    )


def _document_row(d: Document, run_id: str) -> tuple[object, ...]:
    head, period = d.heading, d.period
    return (
        head.invoice_id,
        d.kind,
        head.entity_id,
        head.entity_version,
        head.customer_id,
        head.customer_version,
        head.contract_id,
        head.subscription_id,
        head.currency,
        head.issued_on,
        head.issued_at,
        head.due_on,
        period.start,
        period.end,
        d.net.minor,
        d.tax.minor,
        d.total.minor,
        d.drawn.minor,
        d.due.minor,
        run_id,
    )


def _line_row(d: Document, no: int, line: Line) -> tuple[object, ...]:
    head = d.heading
    return (
        line_id(head.invoice_id, line),
        head.invoice_id,
        no,
        head.subscription_id,
        line.kind,
        line.item,
        line.description,
        line.period.start,
        line.period.end,
        line.because.meter,
        line.quantity,
        line.gross.minor,
        line.discount.minor,
        head.currency,
        line.revenue,
        copied(line.because),
        line.product,
    )


def number(session: Session, entity_id: str, documents: Sequence[Document]) -> None:
    """Give the batch's documents their numbers, in order; the last statement before commit, so the lock is short."""
    cur = cursor(session)
    for kind in ("invoice", "credit_note"):
        ids = [d.heading.invoice_id for d in documents if d.kind == kind]
        if ids:
            cur.execute(
                "with taken as (update invoice_series set next_number = next_number + %(many)s"
                " where entity_id = %(entity)s and kind = %(kind)s returning prefix, next_number - %(many)s as first)"
                " insert into invoice_number (entity_id, kind, n, number, invoice_id)"
                " select %(entity)s, %(kind)s, n, prefix || lpad(n::text, greatest(6, length(n::text)), '0'), id"
                " from (select prefix, first + o - 1 as n, id"
                " from taken, unnest(%(ids)s::text[]) with ordinality as d (id, o)) given",
                {"many": len(ids), "entity": entity_id, "kind": kind, "ids": ids},
            )
            if cur.rowcount != len(ids):
                raise Broken(f"{entity_id} has no series of numbers for documents of kind {kind}")


@dataclass(frozen=True, slots=True)
class InvoiceSummary:
    """An invoice in a list; `open_minor` is what the ledger says is still owed."""

    id: str
    number: str
    kind: str
    entity_id: str
    customer_id: str
    subscription_id: str
    currency: str
    issued_on: date
    due_on: date
    net_minor: int
    tax_minor: int
    total_minor: int
    drawn_minor: int
    due_minor: int
    open_minor: int

    @property
    def status(self) -> str:
        if self.open_minor < min(self.due_minor, 0):
            return "overpaid"
        return "settled" if self.open_minor == 0 else "open" if self.open_minor == self.due_minor else "partly settled"


_SUMMARY = """
select i.id, n.number, i.kind, i.entity_id, i.customer_id, i.subscription_id, i.currency, i.issued_on, i.due_on,
       i.net_minor, i.tax_minor, i.total_minor, i.drawn_minor, i.due_minor,
       coalesce((select sum(case l.side when 'D' then l.amount_minor else -l.amount_minor end)
                 from journal_line l where l.invoice_id = i.id and l.account = '1100'), 0)::bigint as open_minor
from invoice i join invoice_number n on n.invoice_id = i.id
"""


Place = tuple[str, str, int]
"""Where an invoice stands in lists: legal entity, kind, and its number as a number."""


def printed(session: Session, invoice_id: str) -> tuple[str, RenderedDocument]:
    """An invoice's number and its document, which is refused until it is there."""
    seen = summary(session, invoice_id)
    document = session.get(RenderedDocument, seen.id)
    if document is None:
        raise Refused(f"{seen.number} is not printed yet.", code="not_found", remedy="Ask again in a moment.")
    return seen.number, document


def is_printed(session: Session, invoice_id: str) -> bool:
    """Whether its document is there; the document itself may be large and is not read."""
    row = cursor(session).execute("select exists (select from document where invoice_id = %s)", (invoice_id,))
    return bool((row.fetchone() or (False,))[0])


def place_of(session: Session, number: str) -> Place | None:
    """Where the invoice with that number stands in lists; None if there is none."""
    query = "select entity_id, kind, n from invoice_number where number = %s"
    return cursor(session).connection.cursor(row_factory=tuple_row).execute(query, (number,)).fetchone()


def summaries(
    session: Session, customer_id: str | None, subscription_id: str | None, behind: Place | None, limit: int
) -> list[InvoiceSummary]:
    """A page of invoices by legal entity, kind and number, behind that place."""
    wanted = {
        "(n.entity_id, n.kind, n.n) > (%s, %s, %s)": behind or (),
        "i.customer_id = %s": (customer_id,) if customer_id is not None else (),
        "i.subscription_id = %s": (subscription_id,) if subscription_id is not None else (),
    }
    narrowed = " and ".join(condition for condition, keys in wanted.items() if keys) or "true"
    cur = cursor(session).connection.cursor(row_factory=class_row(InvoiceSummary))
    return cur.execute(
        f"{_SUMMARY} where {narrowed} order by n.entity_id, n.kind, n.n limit %s",
        (*(key for keys in wanted.values() for key in keys), limit),
    ).fetchall()


def latest(session: Session, limit: int) -> list[InvoiceSummary]:
    """The newest invoices, newest first. Of a run that issued more of them at one moment, any."""
    cur = cursor(session).connection.cursor(row_factory=class_row(InvoiceSummary))
    return cur.execute(
        f"{_SUMMARY} where i.id in (select id from invoice order by issued_at desc, id desc limit %s)"
        " order by i.issued_at desc, n.entity_id, n.kind, n.n desc",
        (limit,),
    ).fetchall()


def summary(session: Session, invoice_id: str) -> InvoiceSummary:
    """One invoice, by id or number. No id is a number too: numbers hold no underscore."""
    cur = cursor(session).connection.cursor(row_factory=class_row(InvoiceSummary))
    found = cur.execute(
        f"{_SUMMARY} where i.id = coalesce((select invoice_id from invoice_number where number = %s), %s)",
        (invoice_id, invoice_id),
    ).fetchone()
    if found is None:
        raise NotFound("invoice", invoice_id)
    return found


def parties(session: Session, invoice_id: str) -> tuple[EntityVersion, CustomerVersion]:
    """Seller and buyer as the invoice prints them."""
    row = session.get_one(Invoice, invoice_id)
    buyer = session.get_one(CustomerVersion, (row.customer_id, row.customer_version))
    return session.get_one(EntityVersion, (row.entity_id, row.entity_version)), buyer


def lines(session: Session, invoice_id: str) -> list[InvoiceLine]:
    query = select(InvoiceLine).where(InvoiceLine.invoice_id == invoice_id).order_by(col(InvoiceLine.no))
    return list(session.exec(query))


def taxes(session: Session, invoice_id: str) -> list[InvoiceTax]:
    query = select(InvoiceTax).where(InvoiceTax.invoice_id == invoice_id).order_by(col(InvoiceTax.no))
    return list(session.exec(query))
