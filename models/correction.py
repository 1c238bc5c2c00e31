"""Corrections of usage: an event that was wrong counts no more, and another one may count instead. Both are kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlmodel import Field, Session, SQLModel

from billing.errors import Fault, Refused
from billing.period import zone
from models import afresh, intake, usage
from models.afresh import Counted
from models.database import columns, cursor
from models.event import ANY_CONTENT, Event, Named, hold_months
from models.event_key import contents_of
from models.event_month import refuse_taken
from models.meter_version import counting
from models.same_event import Unlike, the_same
from models.subscription import forget_seen
from models.values import large, moment

ONE_DAY = timedelta(days=1)
MOST_EVENTS = 2_000_000
"""Of one customer and day, which are read again. Measured: half a million takes 21 s, of which others wait for 0.2."""


class UsageVoid(SQLModel, table=True):
    """An event that does not count any more; `instead_source` and `instead_id` name the one that does."""

    __tablename__ = "usage_void"
    source: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    customer_id: str
    type: str
    day: date
    reason: str
    instead_source: str | None = None
    instead_id: str | None = None
    by_key: str
    voided_at: datetime = moment()
    batch: int = large()


Name = tuple[str, str]
"""Source and id."""


@dataclass(frozen=True, slots=True)
class Correction:
    """The event of that name was wrong: it is void, or `instead`, under a name of its own, counts for it."""

    source: str
    id: str
    reason: str
    instead: Event | None = None

    @property
    def name(self) -> Name:
        return self.source, self.id


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where an event lies."""

    customer_id: str
    type: str
    day: date


def correct(session: Session, corrections: Sequence[Correction], by_key: str) -> int:
    """Make events void, and take in those that count instead; all or, refused with every fault, none.

    The same corrections again change nothing. Says how many events became void. Totals of the days are counted afresh
    from the events that still count. Whoever bills and whoever sends events of these customers waits only while what
    came meanwhile is looked for and the totals of these days are written.
    """
    hold_months(session)
    found = _find(session, corrections)
    concerned = _concerned(session, corrections, found)
    seen = afresh.begin(session, concerned)
    _refuse_taken_away(session, found)
    known = _voids(session, list(found))
    _refuse(_faults(corrections, found, known) or _other_contents(session, corrections, known))
    new = {n: c for n, c in enumerate(corrections) if c.name not in known}
    wrong = {c.name for c in new.values()}
    days = sorted({(found[name].customer_id, found[name].day) for name in wrong})
    came_before = [_count(session, *day, wrong, seen, before=True) for day in days]

    intake.hold_usage(session, concerned)  # From here on others wait.
    _store(session, [(c, found[c.name]) for c in new.values()], by_key)
    _take_in(session, {n: c.instead for n, c in new.items() if c.instead})
    forget_seen(session, {customer_id for customer_id, _ in days})
    made = Counted({}, {})
    for (customer_id, day), earlier in zip(days, came_before, strict=True):
        usage.clear_days(session, customer_id, (day, day + ONE_DAY), _zone_of(session, customer_id))
        made.take(earlier)
        made.take(_count(session, customer_id, day, wrong, seen, before=False))
    made.add(session)
    return len(new)


def _find(session: Session, corrections: Sequence[Correction]) -> dict[Name, _Stored]:
    """The stored events of these names; those of months that were taken away are not found."""
    keys = [(Named.key_of(c.source, c.id), c.source, c.id) for c in corrections]
    rows = cursor(session).execute(
        "select e.source, e.id, e.customer_id, e.type, e.day"
        " from unnest(%s::uuid[], %s::text[], %s::text[]) as c (key, source, id)"
        " join usage_key k on k.key = c.key"
        " join usage_event e on e.occurred_at = k.occurred_at and e.source = c.source and e.id = c.id",
        columns(keys, 3),
    )
    return {(source, key): _Stored(customer_id, kind, day) for source, key, customer_id, kind, day in rows}


def _concerned(session: Session, corrections: Sequence[Correction], found: Mapping[Name, _Stored]) -> set[str]:
    """Whose events are to be void, and whose are to count instead."""
    subjects = {c.instead.subject for c in corrections if c.instead}
    others = {customer.id for customer in intake.customers_of(session, subjects).values()}
    return others | {stored.customer_id for stored in found.values()}


def _refuse_taken_away(session: Session, found: Mapping[Name, _Stored]) -> None:
    if found:
        days = [stored.day for stored in found.values()]
        refuse_taken(session, {stored.customer_id for stored in found.values()}, min(days), max(days))


def _voids(session: Session, names: Sequence[Name]) -> dict[Name, Name | None]:
    """Which of them are void already, and what counts instead."""
    rows = cursor(session).execute(
        "select v.source, v.id, v.instead_source, v.instead_id from usage_void v"
        " join unnest(%s::text[], %s::text[]) as n (source, id) on n.source = v.source and n.id = v.id",
        columns(names, 2),
    )
    return {(source, key): (other, its) if other else None for source, key, other, its in rows}


def _faults(
    corrections: Sequence[Correction],
    found: Mapping[Name, _Stored],
    known: Mapping[Name, Name | None],
) -> list[Fault]:
    faults: list[Fault] = []
    seen: set[Name] = set()
    for n, c in enumerate(corrections):
        instead = (c.instead.source, c.instead.id) if c.instead else None
        if c.name in seen:
            faults.append(Fault(f"corrections.{n}.id", "is listed more than once"))
        elif c.name not in found:
            faults.append(Fault(f"corrections.{n}.id", "no such event is stored"))
        elif c.name in known and known[c.name] != instead:
            faults.append(Fault(f"corrections.{n}.id", "is void already, and was corrected otherwise"))
        elif instead == c.name:
            faults.append(Fault(f"corrections.{n}.instead.id", "must be another one: this name is taken for ever"))
        seen.add(c.name)
    return faults


def _other_contents(session: Session, corrections: Sequence[Correction], known: Collection[Name]) -> list[Fault]:
    """Of those that were made before, the ones whose `instead` is not what then came under its name. By which
    of its customer's names it is sent does not matter.
    """
    again = {n: Named.of(c.instead) for n, c in enumerate(corrections) if c.instead and c.name in known}
    came = contents_of(session, [one.key for one in again.values()])
    others = {n: one for n, one in again.items() if came.get(one.key) not in (one.content, ANY_CONTENT)}
    customers = intake.customers_of(session, {one.event.subject for one in others.values()}) if others else {}
    unlike = {
        n: Unlike(one, came[one.key], customers[one.event.subject].id)
        for n, one in others.items()
        if one.key in came and one.event.subject in customers
    }
    return [
        Fault(f"corrections.{n}.instead", "was corrected by an event of this name already, which had another content")
        for n in sorted(others.keys() - the_same(session, unlike))
    ]


def _refuse(faults: Sequence[Fault]) -> None:
    if faults:
        raise Refused(
            "The corrections cannot be made.",
            code="invalid_corrections",
            faults=faults,
            remedy="Mend the named ones and send all again; nothing was changed.",
        )


def _count(session: Session, customer_id: str, day: date, wrong: set[Name], seen: str, *, before: bool) -> Counted:
    """What the events of a customer's day make that are not wrong, those that came before the snapshot or the others:
    each in the totals of the meters that counted it.
    """
    where = _zone_of(session, customer_id)
    between = (day, day + ONE_DAY)

    def too_many() -> Refused:
        reason = f"{customer_id} has more than {MOST_EVENTS:,} events on {day}: too many to be counted anew at once."
        return Refused(reason, code="too_much_to_recount", remedy="Credit the difference on an invoice.")

    events = afresh.events(
        session, customer_id, where, between, most=MOST_EVENTS, too_many=too_many, seen=seen, before=before
    )
    return afresh.counted(counting(session), customer_id, where, (e for e in events if (e.source, e.id) not in wrong))


def _store(session: Session, made: Sequence[tuple[Correction, _Stored]], by_key: str) -> None:
    if not made:
        return
    rows = [
        (*c.name, stored.customer_id, stored.type, stored.day, c.reason, *_name_of(c.instead)) for c, stored in made
    ]
    cursor(session).execute(
        "insert into usage_void (source, id, customer_id, type, day, reason, by_key, instead_source, instead_id)"
        " select source, id, customer_id, type, day, reason, %s, nullif(other_source, ''), nullif(other_id, '') from"
        " unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::date[], %s::text[], %s::text[], %s::text[])"
        " as v (source, id, customer_id, type, day, reason, other_source, other_id)",
        [by_key, *columns(rows, 8)],
    )


def _name_of(instead: Event | None) -> Name:
    """Empty if nothing counts instead."""
    return (instead.source, instead.id) if instead else ("", "")


def _take_in(session: Session, instead: Mapping[int, Event]) -> None:
    """What counts instead, by its place among the corrections; it must be new."""
    outcomes = zip(instead, intake.receive(session, list(instead.values())), strict=True)
    _refuse(
        [
            Fault(
                ".".join(part for part in (f"corrections.{n}.instead", outcome.field) if part),
                outcome.reason or f"is a {outcome.kind} of an event that came before",
            )
            for n, outcome in outcomes
            if outcome.kind != "accepted"
        ]
    )


def _zone_of(session: Session, customer_id: str) -> ZoneInfo:
    row = cursor(session).execute("select time_zone from customer where id = %s", (customer_id,)).fetchone()
    assert row is not None
    return zone(row[0])
