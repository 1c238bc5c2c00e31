"""What waits, in numbers, for metrics and the console."""

from __future__ import annotations

from sqlmodel import Session

from models.database import cursor
from models.quarantine import WAITS

_WAITING = {
    "outbox": "select count(*) from outbox where delivered_at is null",
    "quarantine": f"select count(*) from usage_quarantine where {WAITS}",
    "tasks": "select count(*) from task where answered_at is null",
    "overdue": "select count(*) from agenda where clock_id is null and done_at is null and due_at < now()",
    "unbilled lanes": "select count(*) from billing_lane where clock_id is null and next_bill_at < now()",
}


def backlog(session: Session) -> dict[str, int]:
    """Deliveries, quarantined events, people's tasks, overdue moments and lanes behind (wall clock only)."""
    one = " union all ".join(f"select '{kind}', ({sql})" for kind, sql in _WAITING.items())
    return {kind: int(many) for kind, many in cursor(session).execute(one).fetchall()}
