"""Late usage held for a person: each question with the difference that was shown, and what was decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from sqlalchemy import Column
from sqlmodel import Field, Session, SQLModel, col, select

from billing.errors import Broken
from billing.ids import derive
from billing.late import to_be_billed
from billing.late_usage import late_usage, refuse_to_bill
from billing.line import Line
from billing.money import Money
from billing.period import Period
from billing.standing import Standing
from models.customer import lock_roots
from models.database import cursor
from models.invoice import PendingItem
from models.standing import standing
from models.subscription import set_lanes, subscription
from models.task import Task
from models.usage import totals_of
from models.values import Whole, copied, large, moment

KIND = "late usage"
"""Of the tasks."""

State = Literal["next_invoice", "ignored", "to_be_asked", "asked", "waived"]


class HeldUsage(SQLModel, table=True):
    """A difference of one window about which a person was asked by the task. The answer is for this difference: what
    comes afterwards is asked anew.
    """

    __tablename__ = "held_usage"
    id: str = Field(primary_key=True)
    subscription_id: str = Field(foreign_key="subscription.id")
    item: str
    period_start: date
    period_end: date
    quantity: Decimal
    net_minor: int = large()
    currency: str
    line: Line = Field(sa_column=Column(Whole(Line), nullable=False))
    task_id: str = Field(foreign_key="task.id")
    asked_at: datetime = moment()
    decision: str | None = None
    decided_at: datetime | None = moment(default=None)
    pending_id: str | None = Field(default=None, foreign_key="pending_item.id")


def ask(session: Session, found: Sequence[tuple[Standing, Line]], at: datetime) -> None:
    """Ask a person about each of these differences, once. Under the lock of their account roots. Broken if another
    difference was asked about under the same name.
    """
    rows = [(_held_id(one, line), one, line) for one, line in found]
    if not rows:
        return
    cur = cursor(session)
    cur.executemany(
        "insert into task (id, kind, subject, entity_id, reason, remedy, opened_at)"
        " values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
        [
            (_task_id(held_id), KIND, subject_of(held_id), one.entity_id, _question(one, line), _REMEDY, at)
            for held_id, one, line in rows
        ],
    )
    cur.executemany(
        "insert into held_usage (id, subscription_id, item, period_start, period_end, quantity, net_minor, currency,"
        " line, task_id, asked_at) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
        [
            (
                held_id,
                one.subscription_id,
                line.item,
                line.period.start,
                line.period.end,
                line.quantity,
                line.net.minor,
                line.net.currency,
                copied(line),
                _task_id(held_id),
                at,
            )
            for held_id, one, line in rows
        ],
    )
    if cur.rowcount < len(rows):
        _refuse_others(session, {held_id: line for held_id, _, line in rows})


def _refuse_others(session: Session, lines: Mapping[str, Line]) -> None:
    """Broken if there are questions of these ids about other lines."""
    for row in session.exec(select(HeldUsage).where(col(HeldUsage.id).in_(list(lines)))):
        if row.line != lines[row.id]:
            raise Broken(f"late usage {row.line.key} of subscription {row.subscription_id} was asked about otherwise")


def decide(session: Session, answered: Task) -> None:
    """Do what the task's answer says: a line that waits for the next invoice, or nothing. Once. Under the lock of
    `lock_for`. Refused if it would give back what was never billed, or charge what may be billed already.
    """
    held = _held(session, answered)
    if held.decision is not None or answered.answer is None or answered.answered_at is None:
        return
    if not to_be_billed(answered.answer):
        held.decision, held.decided_at = "waive", answered.answered_at
        return
    refuse_to_bill(_standing(session, held), held.line, _also_asked(session, held))
    pending_id = derive("pnd", held.subscription_id, held.id)
    session.add(
        PendingItem(
            id=pending_id,
            subscription_id=held.subscription_id,
            cause=held.id,
            line=held.line,
            created_at=answered.answered_at,
        )
    )
    session.flush()
    held.decision, held.decided_at, held.pending_id = "bill", answered.answered_at, pending_id
    with_pending = _standing(session, held)
    set_lanes(session, [(with_pending, lane) for lane in with_pending.lanes])  # An ended one is due again.


def _also_asked(session: Session, held: HeldUsage) -> list[Line]:
    """The other differences of the subscription about which nobody has decided yet."""
    rows = session.exec(select(HeldUsage).where(HeldUsage.subscription_id == held.subscription_id))
    return [row.line for row in rows if row.decision is None and row.id != held.id]


def _standing(session: Session, held: HeldUsage) -> Standing:
    one = standing(session, held.subscription_id)
    if one is None:
        raise Broken(f"subscription {held.subscription_id} is gone")
    return one


def lock_for(session: Session, asked: Task) -> None:
    """Take the lock of the account that the question is about, as whoever bills it does, and read the task afresh."""
    held = _held(session, asked)
    lock_roots(session, [subscription(session, held.subscription_id).root_id])
    session.refresh(asked)
    session.refresh(held)


@dataclass(frozen=True, slots=True)
class CameLate:
    """Late usage of one window and what becomes of it: `next_invoice` bills it, it is `ignored`, a person is
    `to_be_asked` by the next billing run, has been `asked`, or has `waived` it. `task_id` is that of the question.
    """

    item: str
    meter: str
    period: Period
    quantity: Decimal
    net: Money
    state: State
    task_id: str | None = None


def came_late(session: Session, one: Standing) -> list[CameLate]:
    """All of a subscription's late usage that is on no document, live; in order of state, then of window."""
    totals = totals_of(session, [one.customer_id])[one.customer_id]
    late = late_usage(one, totals)
    found = [
        *(_came(line, "next_invoice") for line in late.to_be_billed),
        *(_came(line, "ignored") for line in late.ignored),
        *(_came(line, "to_be_asked") for line in late.held),
        *(
            _came(row.line, "waived" if row.decision else "asked", row.task_id)
            for row in session.exec(select(HeldUsage).where(HeldUsage.subscription_id == one.subscription_id))
            if row.pending_id is None
        ),
    ]
    return sorted(found, key=lambda came: (came.state, came.period, came.item, came.quantity))


def _came(line: Line, state: State, task_id: str | None = None) -> CameLate:
    return CameLate(line.item, line.because.meter or "", line.period, line.quantity, line.net, state, task_id)


def _held(session: Session, asked: Task) -> HeldUsage:
    found = session.exec(select(HeldUsage).where(HeldUsage.task_id == asked.id)).first()
    if found is None:
        raise Broken(f"the task {asked.id} asks about late usage that is not there")
    return found


def _held_id(one: Standing, line: Line) -> str:
    return derive("held", one.subscription_id, line.key)


def subject_of(held_id: str) -> str:
    return f"late-usage/{held_id}"


def _task_id(held_id: str) -> str:
    return derive("tsk", KIND, held_id)


_REMEDY = "Answer `bill` to have it billed on the next invoice, or `waive` to leave it for ever; a reason may follow."


def _question(one: Standing, line: Line) -> str:
    """What came, for whom, and the money, before tax."""
    why = line.because
    came = f"{line.quantity:+,f} {why.unit}".rstrip()
    return (
        f"Late usage of {one.customer_id}, subscription {one.subscription_id}: {line.description.split(' (')[0]},"
        f" meter {why.meter}, {line.period}: {came}, net {line.net}{f' ({why.note})' if why.note else ''}."
    )
