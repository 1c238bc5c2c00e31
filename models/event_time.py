"""Which events lie outside of the bounds of time: they wait, so that a wrong clock is noticed before it is billed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from sqlmodel import Session

from billing.time_bounds import TimeBounds
from models.database import cursor
from models.event import Event, Named
from models.event_key import contents_of


def outside(
    session: Session, events: Mapping[int, Event], customer_of: Mapping[str, str], bounds: TimeBounds
) -> dict[int, str]:
    """Those that lie outside, by their place, with the reason; `customer_of` gives the customer of each subject.

    A customer of a legal entity on a test clock lives on both clocks: the future begins at the later of the two, the
    past ends at the earlier. What was taken in before is never outside: it is known, whatever its time says.
    """
    now = datetime.now(UTC)
    first, last = bounds.around(now, now)
    found = {n: e for n, e in events.items() if not first <= e.occurred_at <= last}
    if not found:
        return {}
    clocks = _clocks_of(session, {customer_of[e.subject] for e in found.values()})
    known = contents_of(session, [Named.key_of(e.source, e.id) for e in found.values()])
    reasons: dict[int, str] = {}
    for n, e in found.items():
        slowest, fastest = clocks.get(customer_of[e.subject], (now, now))
        earliest, latest = bounds.around(min(now, slowest), max(now, fastest))
        if not earliest <= e.occurred_at <= latest and Named.key_of(e.source, e.id) not in known:
            reasons[n] = bounds.reason(e.occurred_at, earliest)
    return reasons


def _clocks_of(session: Session, customer_ids: Collection[str]) -> dict[str, tuple[datetime, datetime]]:
    """What the test clocks say on which customers live, the one furthest behind and the one furthest ahead."""
    rows = cursor(session).execute(
        "select s.customer_id, min(c.now_at), max(c.now_at) from subscription s"
        " join test_clock c on c.id = s.clock_id where s.customer_id = any(%s) group by 1",
        (list(customer_ids),),
    )
    return {customer_id: (slowest, fastest) for customer_id, slowest, fastest in rows}
