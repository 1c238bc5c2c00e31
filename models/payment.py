"""Payments: attempts to charge, what became of them, and the webhooks that told us."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlmodel import Field, Session, SQLModel, col, select

from billing.money import Money
from models import agenda
from models.customer import PaymentMethod
from models.database import cursor
from models.values import large, moment

SUPERSEDED = "superseded"
"""Why an attempt is declined that the gateway knows nothing of, and whose amount is not what is owed any more."""
OPEN_AGAIN = "open again by "
"""How causes on the agenda begin that name what was given back of an invoice that was paid."""
PAID_AFTER_ALL = "paid after all: "
"""How causes on the agenda begin that name an attempt to ask after: it was written down as declined."""


class PaymentAttempt(SQLModel, table=True):
    """One try to collect an invoice; its id is the idempotency key at the gateway, its method the one it began with.

    One that was started and has no method was refused by the gateway: nothing is under way. One that is paid may have
    been declined before, and keeps what was said then.
    """

    __tablename__ = "payment_attempt"
    id: str = Field(primary_key=True)
    invoice_id: str = Field(foreign_key="invoice.id")
    no: int
    gateway: str
    method_token: str | None = None
    amount_minor: int = large()
    currency: str
    state: str
    reference: str | None = None
    decline_code: str | None = None
    decline_message: str | None = None
    decline_final: bool = False
    started_at: datetime = moment()
    decided_at: datetime | None = moment(default=None)

    @property
    def amount(self) -> Money:
        return Money(self.amount_minor, self.currency)

    @property
    def superseded(self) -> bool:
        return self.decline_code == SUPERSEDED


class WebhookReceived(SQLModel, table=True):
    """A gateway's event that was verified and taken in; the same event again finds its row."""

    __tablename__ = "webhook_received"
    gateway: str = Field(primary_key=True)
    event_id: str = Field(primary_key=True)
    attempt_id: str
    outcome: str
    received_at: datetime = moment()


def subject_of(invoice_id: str) -> str:
    """The invoice's collection, on the agenda and in tasks."""
    return f"collection/{invoice_id}"


def is_collected(session: Session, invoice_id: str, now: datetime) -> bool:
    """Whether somebody may be collecting it: something was tried, or something of its collection was due by now."""
    row = cursor(session).execute(
        "select exists (select from payment_attempt where invoice_id = %s)"
        " or exists (select from agenda where subject = %s and (done_at is not null or due_at <= %s))",
        (invoice_id, subject_of(invoice_id), now),
    )
    return bool(row.fetchall()[0][0])


def declines(session: Session, invoice_id: str) -> list[datetime]:
    """When the gateway declined attempts, since the invoice was last open anew."""
    rows = cursor(session).execute(
        "select decided_at from payment_attempt where invoice_id = %s and state = 'declined'"
        " and decline_code is distinct from %s and decided_at >= coalesce((select max(due_at) from agenda"
        " where subject = %s and starts_with(cause, %s)), '-infinity')",
        (invoice_id, SUPERSEDED, subject_of(invoice_id), OPEN_AGAIN),
    )
    return [decided_at for (decided_at,) in rows]


def stop_trying(session: Session, invoice_id: str, at: datetime) -> None:
    """Take what is planned for the invoice off the agenda, but for questions after what may be paid after all."""
    subject = subject_of(invoice_id)
    planned = agenda.open_causes(session, subject)
    tries = [(subject, cause) for cause in planned if not cause.startswith(PAID_AFTER_ALL)]
    agenda.drop_many(session, tries, at)


def attempts(session: Session, invoice_id: str) -> list[PaymentAttempt]:
    query = select(PaymentAttempt).where(PaymentAttempt.invoice_id == invoice_id).order_by(col(PaymentAttempt.no))
    return list(session.exec(query))


def lock_attempt(session: Session, attempt_id: str) -> PaymentAttempt | None:
    """The attempt, held until the end of the transaction."""
    query = select(PaymentAttempt).where(PaymentAttempt.id == attempt_id).with_for_update()
    return session.exec(query.execution_options(populate_existing=True)).first()


def keep_webhook(session: Session, gateway: str, event_id: str, attempt_id: str, outcome: str) -> None:
    """Write down that a webhook came; one that had come before is there already."""
    cursor(session).execute(
        "insert into webhook_received (gateway, event_id, attempt_id, outcome) values (%s, %s, %s, %s)"
        " on conflict do nothing",
        (gateway, event_id, attempt_id, outcome),
    )


def ask_after(session: Session, attempt_id: str) -> None:
    """Plan to ask the gateway now about an attempt that was written down as declined, and may be paid after all."""
    cursor(session).execute(
        "insert into agenda as g (subject, cause, due_at, rank, kind, entity_id, clock_id)"
        " select 'collection/' || i.id, %s || a.id, coalesce(c.now_at, now()), 70, 'collect', e.id, c.id"
        " from payment_attempt a join invoice i on i.id = a.invoice_id join legal_entity e on e.id = i.entity_id"
        " left join test_clock c on c.id = e.clock_id where a.id = %s"
        " on conflict (subject, cause) do update set due_at = excluded.due_at, done_at = null, outcome = null"
        " where g.done_at is not null",
        (PAID_AFTER_ALL, attempt_id),
    )


# Of the invoice `i`, what is open by the ledger.
_OPEN = (
    "select sum(case l.side when 'D' then l.amount_minor else -l.amount_minor end) from journal_line l"
    " where l.invoice_id = i.id and l.account = '1100'"
)


def to_charge(session: Session, run_id: str, limit: int) -> list[str]:
    """Invoices of a run with something open, a payment method and no decided attempt, in order of number.

    What is on the agenda to be collected is left to that.
    """
    rows = cursor(session).execute(
        "select i.id from invoice i join invoice_number n on n.invoice_id = i.id"
        " join payment_method m on m.customer_id = i.customer_id"
        " where i.run_id = %s and i.due_minor > 0 and not exists (select from payment_attempt a"
        " where a.invoice_id = i.id and a.state <> 'started' and (a.state <> 'declined' or"
        " a.decline_code is distinct from %s)) and not exists"
        " (select from agenda g where g.subject = 'collection/' || i.id and g.done_at is null)"
        f" and ({_OPEN}) > 0 order by n.n limit %s",
        (run_id, SUPERSEDED, limit),
    )
    return [invoice_id for (invoice_id,) in rows]


def collect_with(session: Session, method: PaymentMethod) -> None:
    """Plan the customer's open invoices to be charged now, to a method that was just stored.

    Those whose payment is under way are left alone. Planned once for each time that the method was stored, so that one
    which comes back after another is charged again.
    """
    cursor(session).execute(
        "insert into agenda (subject, cause, due_at, rank, kind, entity_id, clock_id)"
        " select 'collection/' || i.id, %(cause)s, coalesce(c.now_at, now()), 70, 'collect', e.id, c.id"
        " from invoice i join legal_entity e on e.id = i.entity_id left join test_clock c on c.id = e.clock_id"
        f" where i.customer_id = %(customer)s and ({_OPEN}) > 0"
        " and not exists (select from payment_attempt a where a.invoice_id = i.id"
        " and (a.state = 'pending' or a.state = 'started' and a.method_token is not null)) on conflict do nothing",
        {
            "customer": method.customer_id,
            "cause": f"method {method.token} of {method.added_at.astimezone(UTC).isoformat()}",
        },
    )


def collect_when_due(session: Session, invoice_ids: Sequence[str]) -> None:
    """Plan invoices of customers without a payment method for the day on which they are due."""
    cursor(session).execute(
        "insert into agenda (subject, cause, due_at, rank, kind, entity_id, clock_id)"
        " select 'collection/' || i.id, 'due', i.due_on::timestamp at time zone e.time_zone, 70, 'collect', e.id,"
        " e.clock_id from invoice i join legal_entity e on e.id = i.entity_id"
        " where i.id = any(%s) and i.due_minor > 0"
        " and not exists (select from payment_method m where m.customer_id = i.customer_id) on conflict do nothing",
        (list(invoice_ids),),
    )
