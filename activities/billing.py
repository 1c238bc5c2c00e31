"""Billing in sets: one read, the engine, one transaction for a batch of account roots.

The same function bills a run of thousands, the first invoice of one subscription, and a preview that stores nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import psycopg
import sqlalchemy.exc
from psycopg.types.json import Jsonb
from sqlalchemy import Engine
from sqlmodel import Session
from temporalio import activity

from activities.settling import settle
from billing.accrual import obligation_id, promises_of
from billing.biller import Occasion
from billing.errors import Broken, Refused
from billing.ids import derive
from billing.invoice import Invoice
from billing.journal import Entry, credits_drawn, invoice_issued
from billing.period import local_day, zone
from models import held, invoice, ledger, outbox, payment, revenue, task, usage_proof
from models.billable import rated
from models.billing_run import BillingBatch, BillingRun, batches_of
from models.credit import CreditGrant
from models.customer import lock_roots
from models.database import cursor, transaction
from models.entity import entity, now_on
from models.standing import standings
from models.subscription import due_roots, keep_policies, see_usage, set_lanes

BATCH = 250

# What one account tree can do to a batch; a database that is down is not among it.
BREAKAGES = (
    Refused,
    Broken,
    ArithmeticError,
    LookupError,
    TypeError,
    ValueError,
    psycopg.DataError,
    psycopg.IntegrityError,
    sqlalchemy.exc.DataError,
    sqlalchemy.exc.IntegrityError,
)


@dataclass(frozen=True, slots=True)
class OpenRun:
    """Open the billing of an entity up to `cutoff` (None: now, on the entity's clock, fixed for the `cause`)."""

    entity_id: str
    cutoff: datetime | None = None
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """An open run: its id, the first root of each batch of whole account trees, and the number of the first batch.

    A run that is opened again, as at a moment of a test clock, goes on counting.
    """

    run_id: str
    batches: tuple[str, ...]
    on_clock: bool
    first_no: int = 1


@dataclass(frozen=True, slots=True)
class BillBatch:
    """Bill the due roots from `first` up to (not including) `until`; '' is without end."""

    run_id: str
    no: int
    first: str
    until: str = ""


@dataclass(frozen=True, slots=True)
class BillOne:
    """Bill one subscription's account tree now: its first invoice, or its last."""

    subscription_id: str
    cause: str


@dataclass(frozen=True, slots=True)
class Billed:
    """What a batch did. Amounts are minor units of the entity's currency."""

    run_id: str
    invoices: int = 0
    total_minor: int = 0
    parked: int = 0


class Billing:
    """Database work only; nothing outside is asked."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @activity.defn
    def open_run(self, command: OpenRun) -> Run:
        with transaction(self.engine) as session:
            seller = entity(session, command.entity_id)
            cutoff = command.cutoff or now_on(session, seller.clock_id)
            cause = "" if command.cutoff else command.cause
            run_id = derive("run", seller.id, cause or cutoff)
            run = session.get(BillingRun, run_id)
            if run is None:
                posted_on = ledger.posting_day(session, seller.id, local_day(cutoff, zone(seller.time_zone)))
                run = BillingRun(id=run_id, entity_id=seller.id, cutoff=cutoff, posted_on=posted_on)
                session.add(run)
            roots = due_roots(session, seller.id, run.cutoff)
            return Run(run_id, tuple(roots[::BATCH]), seller.clock_id is not None, batches_of(session, run_id) + 1)

    @activity.defn
    def bill_batch(self, command: BillBatch) -> Billed:
        with transaction(self.engine) as session:
            run = _run(session, command.run_id)
            done = session.get(BillingBatch, (run.id, command.no))
            if done is not None:
                return Billed(**done.result)
            roots = due_roots(session, run.entity_id, run.cutoff, command.first, command.until)
        return self._bill_whole(command, roots)

    @activity.defn
    def bill_one(self, command: BillOne) -> Billed:
        with transaction(self.engine) as session:
            row = (
                cursor(session)
                .execute(
                    "select root_id, entity_id, clock_id from subscription where id = %s", (command.subscription_id,)
                )
                .fetchone()
            )
            if row is None:
                raise Broken(f"subscription {command.subscription_id} is gone")
            root_id, entity_id, clock_id = row
            run_id = derive("run", command.subscription_id, command.cause)
            if session.get(BillingRun, run_id) is None:
                cutoff = now_on(session, clock_id)
                seller = entity(session, entity_id)
                day = ledger.posting_day(session, entity_id, local_day(cutoff, zone(seller.time_zone)))
                session.add(BillingRun(id=run_id, entity_id=entity_id, cutoff=cutoff, posted_on=day))
        just_after = root_id + "\x01"
        return self.bill_batch(BillBatch(run_id, 1, root_id, just_after))

    @activity.defn
    def finish_run(self, run_id: str) -> None:
        with transaction(self.engine) as session:
            run = _run(session, run_id)
            run.finished_at = run.finished_at or now_on(session, entity(session, run.entity_id).clock_id)

    def _bill_whole(self, command: BillBatch, roots: Sequence[str]) -> Billed:
        """The batch and its result in one transaction; if it breaks, in halves, and the result afterwards."""
        try:
            with transaction(self.engine) as session:
                result = bill_roots(session, _run(session, command.run_id), roots)
                _remember(session, command, result)
                return result
        except BREAKAGES:
            result = self._bill_parts(command, roots)
        with transaction(self.engine) as session:
            _remember(session, command, result)
        return result

    def _bill_parts(self, command: BillBatch, roots: Sequence[str]) -> Billed:
        """Each half by itself, down to the root that breaks it, which is parked."""
        try:
            with transaction(self.engine) as session:
                return bill_roots(session, _run(session, command.run_id), roots)
        except BREAKAGES as error:
            if not roots:
                raise
            if len(roots) == 1:
                return self._park(command.run_id, roots[0], error)
            half = len(roots) // 2
            parts = [self._bill_parts(command, roots[:half]), self._bill_parts(command, roots[half:])]
            return Billed(
                command.run_id,
                sum(p.invoices for p in parts),
                sum(p.total_minor for p in parts),
                sum(p.parked for p in parts),
            )

    def _park(self, run_id: str, root_id: str, error: Exception) -> Billed:
        refusal = _refusal(error)
        with transaction(self.engine) as session:
            run = _run(session, run_id)
            task.open_task(session, "billing", f"billing/{root_id}", run.entity_id, refusal, run.cutoff)
        return Billed(run_id, parked=1)


def _refusal(error: Exception) -> Refused:
    """What a person is told about what broke the billing of an account."""
    if isinstance(error, Refused):
        return error
    cause = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
    if isinstance(cause, psycopg.errors.NumericValueOutOfRange):
        return Refused(
            "A number of this account is larger than can be stored.",
            code="amount_too_large",
            remedy="Look at its usage and prices: one of them is wrong. Answer this task once it is mended.",
        )
    remedy = "This is a fault of the software: report it, and answer this task once it is mended."
    return Refused(f"Billing broke: {error!r}", code="broken", remedy=remedy)


def _remember(session: Session, command: BillBatch, result: Billed) -> None:
    cursor(session).execute(
        "insert into billing_batch (run_id, no, result) values (%s, %s, %s) on conflict do nothing",
        (command.run_id, command.no, Jsonb(asdict(result))),
    )


def _run(session: Session, run_id: str) -> BillingRun:
    run = session.get(BillingRun, run_id)
    if run is None:
        raise Broken(f"billing run {run_id} is gone")
    return run


def bill_roots(session: Session, run: BillingRun, root_ids: Sequence[str]) -> Billed:
    """Everything due for whole account trees, in one transaction. Whoever did it before leaves nothing to do."""
    lock_roots(session, root_ids)
    keep_policies(session)
    seller = entity(session, run.entity_id)
    settle(session, root_ids, run.cutoff, seller.clock_id)
    occasion = Occasion(run.cutoff, ledger.posting_day(session, seller.id, run.posted_on))
    done = rated(session, standings(session, root_ids, run.entity_id), occasion)
    bills = done.bills
    documents = [b.invoice for b in bills if b.invoice]
    invoice.store(session, run.id, bills)
    usage_proof.sign(session, bills, done.snapshot)
    _grant_credits(session, documents)
    promises = [(b.standing, p) for b in bills if b.invoice for p in promises_of(b.standing, b.invoice.lines)]
    revenue.promise(session, promises, run.id)
    set_lanes(session, [(b.standing, lane) for b in bills for lane in b.lanes])
    held.ask(session, [(b.standing, line) for b in bills for line in b.held], run.cutoff)
    see_usage(session, [(b.standing.subscription_id, b.usage_seen) for b in bills if b.usage_seen is not None])
    ledger.post(session, [entry for document in documents for entry in _entries(document)])
    printing = {d.heading.invoice_id: {"invoice_id": d.heading.invoice_id} for d in documents}
    outbox.post(session, "documents", printing, seller.id, seller.clock_id)
    payment.collect_when_due(session, list(printing))
    for document in documents:
        if document.total.minor < 0:
            _ask_about_credit(session, document, run)
    for stuck in done.parked:
        task.open_task(session, "billing", f"billing/{stuck.root_id}", run.entity_id, stuck.refusal, run.cutoff)
    invoice.number(session, run.entity_id, documents)
    return Billed(run.id, len(documents), sum(d.total.minor for d in documents), len(done.parked))


def _ask_about_credit(session: Session, document: Invoice, run: BillingRun) -> None:
    """A credit note leaves the customer something: what becomes of it is a person's decision."""
    refusal = Refused(
        f"The customer has a credit balance of {-document.total}.",
        remedy="Pay it back or set it against an open invoice, then answer this task with what was done.",
    )
    subject = f"invoice/{document.heading.invoice_id}"
    task.open_task(session, "credit balance", subject, run.entity_id, refusal, run.cutoff)


def _entries(document: Invoice) -> list[Entry]:
    head = document.heading
    line_ids = [invoice.line_id(head.invoice_id, line) for line in document.lines]
    promises = [obligation_id(head.subscription_id, line) if line.taxable else None for line in document.lines]
    drawn = credits_drawn(document)
    return [invoice_issued(document, line_ids, promises), *([drawn] if drawn else [])]


def _grant_credits(session: Session, documents: Sequence[Invoice]) -> None:
    """Credits bought on these documents; usable once the document is paid."""
    for document in documents:
        head = document.heading
        for line in document.lines:
            if line.kind == "credit_purchase":
                session.add(
                    CreditGrant(
                        id=derive("cg", head.invoice_id, line.key),
                        customer_id=head.customer_id,
                        contract_id=head.contract_id,
                        invoice_id=head.invoice_id,
                        currency=head.currency,
                        amount_minor=line.net.minor,
                        granted_at=head.issued_at,
                    )
                )
