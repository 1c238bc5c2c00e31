"""What waits for a person: one table, one list, one verb to answer."""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Field, Session, SQLModel, col, select

from billing.errors import Fault, NotFound, Refused
from billing.ids import derive
from models.database import cursor
from models.values import moment


class Task(SQLModel, table=True):
    """`subject` waits; `reason` says why, `remedy` what to do. Open until it is answered."""

    __tablename__ = "task"
    id: str = Field(primary_key=True)
    kind: str
    subject: str
    entity_id: str | None = Field(default=None, foreign_key="legal_entity.id")
    reason: str
    remedy: str
    opened_at: datetime = moment()
    answered_at: datetime | None = moment(default=None)
    answered_by: str | None = None
    answered_with: str | None = None
    answer: str | None = None


def open_task(session: Session, kind: str, subject: str, entity_id: str | None, refusal: Refused, at: datetime) -> str:
    """Ask a person about `subject`, once: an open task of the same kind is brought up to date."""
    cur = cursor(session)
    standing = cur.execute(
        "update task set reason = %s, remedy = %s where subject = %s and kind = %s and answered_at is null"
        " returning id",
        (refusal.reason, refusal.remedy, subject, kind),
    ).fetchone()
    if standing:
        return str(standing[0])
    earlier = cur.execute("select count(*) from task where subject = %s and kind = %s", (subject, kind)).fetchone()
    task_id = derive("tsk", kind, subject, at, *(earlier or ()))  # A test clock may stand still from one to the next.
    cur.execute(
        "insert into task (id, kind, subject, entity_id, reason, remedy, opened_at)"
        " values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
        (task_id, kind, subject, entity_id, refusal.reason, refusal.remedy, at),
    )
    return task_id


def open_tasks(session: Session) -> list[Task]:
    return list(session.exec(select(Task).where(col(Task.answered_at).is_(None)).order_by(col(Task.opened_at))))


def answer(session: Session, task_id: str, by: str, text: str, at: datetime) -> Task:
    """Close a task with an answer. The same answer again changes nothing, whoever gives it; another one is refused."""
    task = session.get(Task, task_id, populate_existing=True, with_for_update={"key_share": True})
    if task is None:
        raise NotFound("task", task_id)
    if task.answered_at is None:
        task.answered_at, task.answered_by, task.answer = at, by, text
    elif task.answer != text:
        stands = f"answered already: {task.answer}, by {task.answered_by} on {task.answered_at:%Y-%m-%d}"
        raise Refused(
            "Another answer stands; the first one counts.",
            code="answered_already",
            faults=[Fault("answer", stands)],
            remedy="If that was not meant, mend what came of it; this task stays answered.",
        )
    return task


def close_tasks(session: Session, subject: str, at: datetime, answer_text: str, kind: str | None = None) -> None:
    """What people were asked about `subject` (all of it, or of one kind) has settled itself."""
    cursor(session).execute(
        "update task set answered_at = %(at)s, answered_by = 'perennial', answer = %(answer)s"
        " where subject = %(subject)s and answered_at is null and (%(kind)s::text is null or kind = %(kind)s)",
        {"at": at, "answer": answer_text, "subject": subject, "kind": kind},
    )
