"""Proving what was billed from the stored events: the set that was signed made again, and what came or went since.

The set of then is told exactly: an event was in it if the transaction that stored it was seen when it was signed, if
the meter counted it then, and if it was not void by then. Its content is worked out again from what is stored, so an
event that was altered or taken away behind the back of this system is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, NamedTuple

from sqlmodel import Session

from billing.period import instant, zone
from billing.usage_proof import EventSet
from models.database import connection, cursor
from models.event import ANY_CONTENT, AS_STORED, Event, Named, digest_of
from models.same_event import Names

MOST_EVENTS = 500_000
"""Of the answer for a whole invoice; about 25 seconds."""
MOST_EVENTS_OF_A_LINE = 10_000_000
"""Of one line that is asked for by itself; a million takes about fifty seconds."""
MOST_NAMED = 100
"""So many differences of a line are named; all are counted."""
_ROWS_AT_ONCE = 2_000
_FIRST_DAY = date(1969, 12, 31)
"""No event is earlier, by any clock."""
_ANY_METER = ""
"""Of months that were taken away: whatever the customer had in them, counted or not."""

Verdict = Literal["holds", "broken", "unsigned", "taken_away", "too_many"]
What = Literal["came", "void", "counted", "not_counted", "altered"]


@dataclass(frozen=True, slots=True)
class SetDifference:
    """An event by which the set of now differs from that which was signed, why, and since when.

    came: received after it was signed. void: made void since. counted, not_counted: the meter was counted anew since.
    altered: its content is not what came under its name.
    """

    source: str
    id: str
    what: What
    at: datetime


@dataclass(frozen=True, slots=True)
class Signed:
    """What was signed: the set of a meter's events behind one line of an invoice. `behind` is None if it was billed
    before signatures were kept, or as it had been shown to a person some time before. `with_earlier`: the set has all
    events before the first day too.
    """

    line_no: int
    description: str
    item: str
    meter: str
    customer_id: str
    first_day: date
    last_day: date
    signed_at: datetime
    snapshot: str
    with_earlier: bool
    behind: EventSet | None

    @property
    def since(self) -> date:
        """The first day of the set."""
        return _FIRST_DAY if self.with_earlier else self.first_day


@dataclass(frozen=True, slots=True)
class Checked:
    """A signature and what the stored events say. `then` is its set made again, `now` the set as it is; None where they
    were not looked at. `missing` names the months that were taken away.

    holds: the same set. broken: another one. unsigned: no set was signed. taken_away: some of the
    events are not here any more. too_many: more than one answer covers.
    """

    signed: Signed
    verdict: Verdict
    then: EventSet | None = None
    now: EventSet | None = None
    counts: dict[What, int] = field(default_factory=dict)
    differences: tuple[SetDifference, ...] = ()
    missing: tuple[date, ...] = ()

    @property
    def looked_at(self) -> int:
        """How many events, about."""
        return max(self.then.events, self.now.events) if self.then and self.now else 0


def check(session: Session, invoice_id: str, line_no: int | None = None) -> list[Checked]:
    """Every signature of an invoice, or of one line, by line and meter, as far as one answer covers."""
    left = MOST_EVENTS if line_no is None else MOST_EVENTS_OF_A_LINE
    found: list[Checked] = []
    for signed in _signatures(session, invoice_id, line_no):
        one = _check(session, signed, left)
        left = 0 if one.verdict == "too_many" else left - one.looked_at
        found.append(one)
    return found


def worst(found: Iterable[Checked]) -> Verdict:
    """What is to be said of all of them: that something is broken, before that not all could be looked at."""
    verdicts = {one.verdict for one in found}
    return next((one for one in _WORST_FIRST if one in verdicts), "holds")


_WORST_FIRST: tuple[Verdict, ...] = ("broken", "too_many", "taken_away", "unsigned")


def _signatures(session: Session, invoice_id: str, line_no: int | None) -> list[Signed]:
    rows = cursor(session).execute(
        "select l.no, l.description, p.item, p.meter_id, p.customer_id, p.period_start, p.period_end - 1, p.signed_at,"
        " p.snapshot::text, p.with_earlier, p.events, p.digest"
        " from usage_proof p join invoice_line l on l.id = p.line_id"
        " where p.invoice_id = %s and (%s::int is null or l.no = %s) order by l.no, p.meter_id",
        (invoice_id, line_no, line_no),
    )
    return [_signed(row) for row in rows]


def _signed(row: tuple[Any, ...]) -> Signed:
    no, description, item, meter, customer_id, first, last, at, snapshot, with_earlier, events, digest = row
    behind = None if digest is None else EventSet(events, int(digest))
    return Signed(no, description, item, meter, customer_id, first, last, at, snapshot, with_earlier, behind)


def _check(session: Session, signed: Signed, left: int) -> Checked:
    if missing := _missing(session, signed, signed.meter):
        return Checked(signed, "taken_away", missing=missing)
    sets = _Sets()
    for read, row in enumerate(_events(session, signed, left + 1)):
        if read == left:
            return Checked(signed, "too_many")
        sets.add(row)
    then, now = sets.then.reduced, sets.now.reduced
    verdict: Verdict = "unsigned" if signed.behind is None else "holds" if then == signed.behind else "broken"
    ceased = verdict == "broken" and "altered" not in sets.counts and _may_have_ceased(session, signed)
    if ceased and (missing := _missing(session, signed, _ANY_METER)):
        return Checked(signed, "taken_away", missing=missing)
    return Checked(signed, verdict, then, now, sets.counts, tuple(sets.named))


def _missing(session: Session, signed: Signed, meter: str) -> tuple[date, ...]:
    """Months that were taken away and had events, counted by this meter then, that may lie in the window."""
    since, until, _ = _bounds(session, signed)
    rows = cursor(session).execute(
        "select month from usage_taken where customer_id = %s and meter_id = %s"
        " and month < %s at time zone 'UTC' and month + interval '1 month' > %s at time zone 'UTC' order by 1",
        (signed.customer_id, meter, until, since),
    )
    return tuple(month for (month,) in rows)


def _may_have_ceased(session: Session, signed: Signed) -> bool:
    """Whether events of the customer were made void since it was signed, or any were counted anew by the meter: before
    their month was taken away they may have been no meter's any more.
    """
    row = (
        cursor(session)
        .execute(
            "select exists (select from usage_void where customer_id = %(customer)s and day <= %(last)s"
            " and not pg_visible_in_snapshot(batch, %(then)s::pg_snapshot))"
            " or exists (select from usage_recounted where meter_id = %(meter)s"
            " and not pg_visible_in_snapshot(batch, %(then)s::pg_snapshot))",
            {
                "customer": signed.customer_id,
                "last": signed.last_day,
                "meter": signed.meter,
                "then": signed.snapshot,
            },
        )
        .fetchone()
    )
    return row is not None and bool(row[0])


def _bounds(session: Session, signed: Signed) -> tuple[datetime, datetime, list[str]]:
    """The moments at which the set begins and ends, and what its customer may be called by events."""
    row = (
        cursor(session)
        .execute(
            "select time_zone, array(select alias from customer_alias a where a.customer_id = c.id order by 1)"
            " from customer c where id = %s",
            (signed.customer_id,),
        )
        .fetchone()
    )
    assert row is not None
    where = zone(row[0])
    end = date.fromordinal(signed.last_day.toordinal() + 1)
    return instant(signed.since, where), instant(end, where), [signed.customer_id, *row[1]]


class _Row(NamedTuple):
    """A stored event as the window's meter sees it; `recounted` is what the first recount since made of it."""

    event: Event
    as_it_came: bool
    digest: int
    received_at: datetime
    there: bool
    counts: bool
    recounted: bool | None
    recounted_at: datetime | None
    voided_at: datetime | None
    void_then: bool

    @property
    def then(self) -> bool:
        counted = self.counts if self.recounted is None else not self.recounted
        return self.there and counted and not self.void_then

    @property
    def now(self) -> bool:
        return self.counts and self.voided_at is None


def _events(session: Session, signed: Signed, limit: int) -> Iterator[_Row]:
    since, until, subjects = _bounds(session, signed)
    with connection(session).cursor(name="usage_check") as cur:
        cur.itersize = _ROWS_AT_ONCE
        cur.execute(
            "select e.source, e.id, e.type, e.occurred_at, e.data::text, k.content, e.received_at,"
            " pg_visible_in_snapshot(e.batch, %(then)s::pg_snapshot), %(meter)s = any(counted_by(e.meters)), r.counted,"
            " r.recounted_at, v.voided_at, coalesce(pg_visible_in_snapshot(v.batch, %(then)s::pg_snapshot), false)"
            " from usage_event e left join usage_key k on k.key = usage_key_of(e.source, e.id)"
            " left join usage_void v on v.source = e.source and v.id = e.id"
            " left join lateral (select r.counted, r.recounted_at, r.batch from usage_recounted r"
            "   where r.source = e.source and r.id = e.id and r.meter_id = %(meter)s"
            "   and not pg_visible_in_snapshot(r.batch, %(then)s::pg_snapshot)"
            # What a rebuild changed and is not written down yet: its mark is still on the event.
            "   union all select %(meter)s = any(counted_by(e.meters)), b.applied_at, b.batch::text::xid8"
            "   from meter_rebuild b where b.meter_id = %(meter)s and b.series = any(e.meters)"
            "   and b.batch is not null and not pg_visible_in_snapshot(b.batch::text::xid8, %(then)s::pg_snapshot)"
            "   order by 3 limit 1) r on true"
            " where e.customer_id = %(customer)s and e.day between %(first)s and %(last)s"
            " and e.occurred_at >= %(since)s and e.occurred_at < %(until)s"
            " and (%(meter)s = any(counted_by(e.meters)) or r.counted is not null) limit %(limit)s",
            {
                "then": signed.snapshot,
                "meter": signed.meter,
                "customer": signed.customer_id,
                "first": signed.since,
                "last": signed.last_day,
                "since": since,
                "until": until,
                "limit": limit,
            },
        )
        names = Names(subjects[1:])
        for source, key, kind, at, data, content, *rest in cur:
            told = Event(source, key, signed.customer_id, kind, at, AS_STORED.decode(data))
            made = _content(told, names, content)
            yield _Row(told, made == content, digest_of(Named.key_of(source, key), made), *rest)


def _content(told: Event, aliases: Names, kept: int | None) -> int:
    """The digest of the event's content as it is stored. By which of its names it called its customer is not stored:
    the one that makes the digest that was kept, if any does.
    """
    if kept == ANY_CONTENT:
        return ANY_CONTENT
    made = Named.of(told).content
    return kept if kept is not None and made != kept and aliases.call(told, kept)[1] else made


class _Sets:
    """The set of then and that of now, added up event by event, with what tells them apart."""

    def __init__(self) -> None:
        self.then, self.now = EventSet(), EventSet()
        self.counts: dict[What, int] = {}
        self.named: list[SetDifference] = []

    def add(self, row: _Row) -> None:
        one = EventSet(1, row.digest)
        if row.then:
            self.then += one
        if row.now:
            self.now += one
        if not row.as_it_came:
            self._say(row, "altered", row.received_at)
        if row.now and not row.then:
            if row.there:
                self._say(row, "counted", row.recounted_at or row.received_at)
            else:
                self._say(row, "came", row.received_at)
        if row.then and not row.now:
            if row.voided_at:
                self._say(row, "void", row.voided_at)
            else:
                self._say(row, "not_counted", row.recounted_at or row.received_at)

    def _say(self, row: _Row, what: What, at: datetime) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1
        if len(self.named) < MOST_NAMED:
            self.named.append(SetDifference(row.event.source, row.event.id, what, at))
