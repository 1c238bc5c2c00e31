"""Counting stored events of a customer afresh: what can be read at leisure is counted before anybody has to wait.

First `begin`, which keeps off others who count afresh, and events up to the snapshot that it gives are counted; then
`intake.hold_usage`, for little more than the commit, and what came meanwhile is added.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlmodel import Session

from billing.counting import Counting
from billing.errors import Refused
from billing.folding import Clocks, Folding, Totals, add_to
from billing.period import instant
from models import usage
from models.database import columns, connection, cursor
from models.event import AS_STORED, IS_VOID, digest_of, hold_months
from models.intake import STRIPES, stripe_of

EVENTS_AT_ONCE = 20_000
"""So many are in memory."""


class Stored(NamedTuple):
    """A stored event that is not void. `meters` are those that count it, `marks` what is written on it, and `prepared`
    the series being prepared whose totals of its day are complete, or which nobody else adds it to.
    """

    source: str
    id: str
    type: str
    day: date
    occurred_at: datetime
    data: str
    meters: Sequence[str]
    marks: Sequence[str]
    prepared: Sequence[str]
    key: UUID
    content: int

    @property
    def digest(self) -> int:
        return digest_of(self.key.hex, self.content)


@dataclass(frozen=True, slots=True)
class Counted:
    """Totals to be added, of days and of shorter windows."""

    days: Totals
    windows: Totals

    def take(self, more: Counted) -> None:
        """What further events make."""
        add_to(self.days, more.days)
        add_to(self.windows, more.windows)

    def add(self, session: Session) -> None:
        usage.add(session, self.windows, self.days)


def begin(session: Session, customer_ids: set[str]) -> str:
    """Until the commit nobody else counts afresh, or makes void, events of these customers; what is being prepared for
    all customers rests, and no month of events is made or taken away. Senders and bills go on.

    Returns a snapshot: events that are visible in it can be counted now, the others under `hold_usage`.
    """
    cur = cursor(session)
    hold_months(session)
    lock_afresh(session, {stripe_of(customer_id) for customer_id in customer_ids})
    cur.execute("select from meter_rebuild where settled_at is null order by id for share")
    row = cur.execute("select pg_current_snapshot()::text").fetchone()
    assert row is not None
    return str(row[0])


def lock_afresh(session: Session, stripes: Iterable[int] = range(STRIPES)) -> None:
    """Keep off, until the commit, whoever counts afresh customers of these stripes; taken before any other lock of
    usage.
    """
    cursor(session).execute(
        "select pg_advisory_xact_lock(hashtext('usage afresh'), stripe) from unnest(%s::int[]) as stripe",
        columns([(stripe,) for stripe in sorted(stripes)], 1),
    )


_EVENTS = f"""
select e.source, e.id, e.type, e.day, e.occurred_at, e.data::text, counted_by(e.meters), e.meters,
       array(select r.series from meter_rebuild r
             where r.settled_at is null and r.opened_at is not null
               and ((e.customer_id, e.day) <= (r.through_customer, r.through_day)
                    or not pg_visible_in_snapshot(e.batch, r.seen::pg_snapshot))),
       k.key, k.content
from usage_event e join usage_key k on k.key = usage_key_of(e.source, e.id)
where e.customer_id = %(customer)s and (%(type)s::text is null or e.type = %(type)s)
  and e.occurred_at >= %(since)s and e.occurred_at < %(until)s
  and (%(seen)s::text is null or %(before)s = (pg_visible_in_snapshot(e.batch, %(seen)s::text::pg_snapshot)
       -- A snapshot does not tell that its own transaction is under way.
       and e.batch is distinct from pg_current_xact_id_if_assigned()))
  and not {IS_VOID}
"""


def events(
    session: Session,
    customer_id: str,
    where: ZoneInfo,
    between: tuple[date, date],
    *,
    most: int,
    too_many: Callable[[], Refused],
    kind: str | None = None,
    seen: str | None = None,
    before: bool = True,
) -> Iterator[Stored]:
    """A customer's events of local days, the second not included; of one type, or of all. Refused behind `most`.

    With a snapshot, those that came before it, or only the others.
    """
    with connection(session).cursor(name="afresh") as cur:
        cur.itersize = EVENTS_AT_ONCE
        cur.execute(
            _EVENTS,
            {
                "customer": customer_id,
                "type": kind,
                "since": instant(between[0], where),
                "until": instant(between[1], where),
                "seen": seen,
                "before": before,
            },
        )
        for no, row in enumerate(cur):
            if no == most:
                raise too_many()
            yield Stored(*row)


def counted(counting: Counting, customer_id: str, where: ZoneInfo, found: Iterable[Stored]) -> Counted:
    """What the events make, each in the totals of the meters that count it."""
    made, left = Counted({}, {}), iter(found)
    while some := list(islice(left, EVENTS_AT_ONCE)):
        made.take(_counted(counting, customer_id, where, some))
    return made


def _counted(counting: Counting, customer_id: str, where: ZoneInfo, found: Sequence[Stored]) -> Counted:
    folding = Folding(counting.meters, Clocks(), counting.days)
    for e in found:
        by: Collection[str] = e.meters
        if not counting.plain:
            resting = {one.name for one in counting.series if one.prepared} - set(e.prepared)
            by = counting.names(e.day, e.meters, e.marks) - resting
        folding.add(customer_id, where, e.type, e.occurred_at, AS_STORED.decode(e.data), by, e.digest)
    return Counted(folding.days(), folding.windows())
