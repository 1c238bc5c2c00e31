"""The month's close, step by step: each may be done again, and posts only what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby

from sqlalchemy import Engine
from sqlmodel import Session
from temporalio import activity

from activities.proving import proofs
from activities.pulse import heartbeating
from billing.accrual import delivered_usage, fees_in_arrears
from billing.errors import Broken, Refused
from billing.journal import Entry, revenue_recognised
from billing.money import Money
from billing.period import instant, month_of, zone
from billing.revenue import earned
from billing.standing import Standing
from integrations.erp import Erp, JournalBatch, JournalEntry, JournalLine
from models import agenda, closing, ledger, revenue, task
from models.closing import MonthClose
from models.database import cursor, snapshot, take_time, transaction
from models.entity import entity, now_on
from models.standing import standings
from models.usage import totals_of


@dataclass(frozen=True, slots=True)
class Month:
    """One month of one entity; `month` is its first day."""

    entity_id: str
    month: date

    @property
    def subject(self) -> str:
        return f"close/{self.entity_id}/{self.month:%Y-%m}"

    @property
    def last_day(self) -> date:
        return month_of(self.month).end - timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Begun:
    """Whether the month's close has begun; if not, when it is due."""

    stage: str
    due_at: datetime | None
    now: datetime
    on_clock: bool


@dataclass(frozen=True, slots=True)
class Recognised:
    """What recognition posted this time: entries and their sum, in minor units."""

    entries: int
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class Proof:
    """The tie-outs: how many hold, and the names of those that do not with their differences."""

    holding: int
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's yes, and the key that it came with. `note` says what they looked at."""

    month: Month
    by: str
    note: str = ""
    key: str = ""


class Closing:
    """The steps of `MonthlyClose`."""

    def __init__(self, engine: Engine, erp_name: str, erp: Erp) -> None:
        self.engine = engine
        self.erp_name = erp_name
        self.erp = erp

    @activity.defn
    def begin(self, command: Month) -> Begun:
        """Cut off: from now on only recognition posts into the month. Too early is not begun."""
        with transaction(self.engine) as session:
            seller = entity(session, command.entity_id)
            now = now_on(session, seller.clock_id)
            on_clock = seller.clock_id is not None
            row = session.get(MonthClose, (command.entity_id, command.month))
            due = agenda.next_due(session, command.subject)
            if row is None and (due is None or due > now):
                return Begun("", due, now, on_clock)
            if row is None:
                closing.lock_period(session, seller.id, command.month, "closing")
                row = MonthClose(entity_id=seller.id, month=command.month, stage="cut off", started_at=now)
                session.add(row)
            for item in agenda.due_for(session, [command.subject], now):
                agenda.done(session, item.subject, item.cause, now)
            return Begun(row.stage, None, now, on_clock)

    @activity.defn
    def check_billed(self, command: Month) -> None:
        """Everything that fell due in the month has been billed; refused, naming what has not."""
        with transaction(self.engine) as session:
            seller = entity(session, command.entity_id)
            until = instant(month_of(command.month).end, zone(seller.time_zone))
            behind = closing.lanes_behind(session, seller.id, until)
            if behind:
                raise Refused(
                    f"{len(behind)} subscriptions are not billed up to the end of the month: {', '.join(behind[:5])}",
                    code="not_billed",
                    remedy="Answer the open billing tasks, run billing again, then resume the close.",
                )
            _stage(session, command, "billed")

    @activity.defn
    def recognise(self, command: Month) -> Recognised:
        """Post what should be earned by the month's last day and has not been posted."""
        with heartbeating(), snapshot(self.engine) as session:
            take_time(session)
            seller = entity(session, command.entity_id)
            _measure_delivery(session, command)
            entries = [
                entry
                for _, found in groupby(
                    revenue.recognitions(session, seller.id, command.last_day), key=lambda r: r.contract_id
                )
                if (entry := _recognition(command, list(found))) is not None
            ]
            ledger.post(session, entries)
            _stage(session, command, "recognised")
            amount = sum(p.amount.minor for e in entries for p in e.postings if p.account == "1200" and p.side == "D")
            return Recognised(len(entries), amount, seller.functional_currency)

    @activity.defn
    def prove(self, command: Month) -> Proof:
        """Compute and keep the tie-outs."""
        with heartbeating(), snapshot(self.engine) as session:
            take_time(session)
            currency = entity(session, command.entity_id).functional_currency
            standings_now = _standings(session, command.entity_id)
            found = proofs(session, command.entity_id, currency, month_of(command.month), standings_now)
            closing.keep_tie_outs(session, command.entity_id, command.month, found)
            _stage(session, command, "tied out")
            wrong = tuple(f"{t.name}: {t.difference} {t.unit}" for t in found if not t.holds)
            return Proof(len(found) - len(wrong), wrong)

    @activity.defn
    def await_approval(self, command: Month) -> str:
        """Ask for the approval; who gave it, if it was given already."""
        with transaction(self.engine) as session:
            if approved_by := closing.month_close(session, command.entity_id, command.month).approved_by:
                return approved_by
            _stage(session, command, "awaiting approval")
            seller = entity(session, command.entity_id)
            question = Refused(
                f"{command.month:%B %Y} of {seller.name} is ready to be closed.",
                remedy="Look at the tie-outs, then approve the close.",
            )
            task.open_task(session, "approval", command.subject, seller.id, question, now_on(session, seller.clock_id))
            return ""

    @activity.defn
    def approve(self, command: Approval) -> str:
        """Write the approval down; the first one stands. Returns who approved."""
        with transaction(self.engine) as session:
            row = closing.month_close(session, command.month.entity_id, command.month.month, alone=True)
            now = now_on(session, entity(session, command.month.entity_id).clock_id)
            if row.approved_by is None:
                row.approved_by, row.approved_at, row.approval_note = command.by, now, command.note
                row.approved_with, row.stage = command.key or None, "approved"
                task.close_tasks(session, command.month.subject, now, f"approved by {command.by}")
            return row.approved_by or ""

    @activity.defn
    def post_to_erp(self, command: Month) -> str:
        """Send the month's journal under our reference; what stands there already is not sent again."""
        with transaction(self.engine) as session:
            batch = journal_batch(session, command)
        with heartbeating():
            posted = self.erp.post_journal(batch)
        with transaction(self.engine) as session:
            row = closing.month_close(session, command.entity_id, command.month)
            row.erp, row.erp_reference, row.stage = self.erp_name, posted.reference, "posted to the ERP"
        return posted.reference

    @activity.defn
    def lock(self, command: Month) -> None:
        """From now on the database refuses entries in the month; the next month's close goes on the agenda."""
        with transaction(self.engine) as session:
            seller = entity(session, command.entity_id)
            closing.lock_period(session, seller.id, command.month, "locked")
            row = closing.month_close(session, seller.id, command.month)
            if row.locked_at is None:
                row.locked_at, row.stage = now_on(session, seller.clock_id), "locked"
            closing.plan_close(session, seller, month_of(command.month).end)


def _stage(session: Session, command: Month, stage: str) -> None:
    row = closing.month_close(session, command.entity_id, command.month)
    if row.locked_at is None:
        row.stage = stage


def _standings(session: Session, entity_id: str) -> list[Standing]:
    rows = cursor(session).execute("select distinct root_id from subscription where entity_id = %s", (entity_id,))
    return standings(session, [root for (root,) in rows], entity_id)


def _measure_delivery(session: Session, command: Month) -> None:
    """Bring usage obligations up to what was delivered by the month's last day, billed or not."""
    found = [s for s in _standings(session, command.entity_id) if s.lanes]
    totals = totals_of(session, sorted({s.customer_id for s in found}))
    promises = [
        (s, promise)
        for s in found
        for promise in (
            *delivered_usage(s, totals[s.customer_id], command.last_day),
            *fees_in_arrears(s, command.last_day),
        )
    ]
    revenue.promise(session, promises, command.subject)


def _recognition(command: Month, found: list[revenue.Recognition]) -> Entry | None:
    """One contract's entry for what is missing; None if nothing is."""
    missing = [(r.promise, difference) for r in found if (difference := earned(r.promise, command.last_day) - r.posted)]
    if not missing:
        return None
    earlier = sum(r.this_month for r in found)
    first = found[0]
    return revenue_recognised(
        command.entity_id, first.contract_id, first.customer_id, missing, command.last_day, earlier
    )


def journal_batch(session: Session, command: Month) -> JournalBatch:
    """The month's journal in detail, for the ERP."""
    seller = entity(session, command.entity_id)
    rows = ledger.journal(session, seller.id, command.month)
    entries: list[JournalEntry] = []
    for (entry_id, posted_on, description, cause), group in groupby(
        rows, key=lambda r: (r.entry_id, r.posted_on, r.description, f"{r.cause_kind} {r.cause_id}")
    ):
        lines = tuple(
            JournalLine(r.account, Money(r.amount_minor if r.side == "D" else -r.amount_minor, r.currency))
            for r in group
        )
        entries.append(JournalEntry(entry_id, posted_on, description, cause, lines))
    if any(sum(line.debit.minor for line in entry.lines) for entry in entries):
        raise Broken(f"the journal of {command.subject} does not balance")
    turnover = sum(line.debit.minor for entry in entries for line in entry.lines if line.debit.minor > 0)
    if turnover != ledger.turnover(session, seller.id, command.month):
        raise Broken(f"the journal of {command.subject} is not whole: {turnover} minor units of debits")
    return JournalBatch(
        external_id=f"{seller.id}-{command.month:%Y-%m}",
        entity_id=seller.id,
        entity_name=seller.name,
        month=command.month,
        currency=seller.functional_currency,
        entries=tuple(entries),
    )
