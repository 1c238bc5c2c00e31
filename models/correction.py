"""Corrections of usage: an event that was wrong counts no more, and another one may count instead. Both are kept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlmodel import Field, Session, SQLModel

from billing.errors import Fault, Refused
from billing.period import zone
from models import afresh, intake, usage
from models.afresh import Counted
from models.database import columns, cursor
from models.event import ANY_CONTENT, Event, Named, contents_of
from models.event_month import refuse_taken
from models.meter_version import counting
from models.subscription import forget_seen
from models.values import large, moment

ONE_DAY = timedelta(days=1)
MOST_EVENTS = 500_000
"""Of one customer and day."""


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


@dataclass(frozen=True, slots=True)
class Correction:
    """The event of that name was wrong: it is void, or `instead`, under a name of its own, counts for it."""

    source: str
    id: str
    reason: str
    instead: Event | None = None


@dataclass(frozen=True, slots=True)
class _Counted:
    """Where an event lies, and which meters counted it."""

    customer_id: str
    type: str
    day: date
    meters: tuple[str, ...]


def correct(session: Session, corrections: Sequence[Correction], by_key: str) -> int:
    """Make events void, and take in those that count instead; all or, refused with every fault, none.

    The same corrections again change nothing. Says how many events became void. Totals of the days are counted afresh
    from the events that still count. Whoever bills and whoever sends events of these customers waits only while what
    came meanwhile is added, however many events the days have.
    """
    found = _find(session, corrections)
    instead = [c.instead for c in corrections if c.instead]
    others = {customer.id for customer in intake.customers_of(session, {e.subject for e in instead}).values()}
    mine = {counted.customer_id for counted in found.values()}
    seen = afresh.begin(session, others | mine)
    if found:
        all_days = [counted.day for counted in found.values()]
        refuse_taken(session, mine, min(all_days), max(all_days))
    known = _voids(session, list(found))
    _refuse(_faults(corrections, found, known) or _other_contents(session, corrections, known))
    new = [(n, c) for n, c in enumerate(corrections) if (c.source, c.id) not in known]
    days = sorted({(found[c.source, c.id].customer_id, found[c.source, c.id].day) for _, c in new})
    wrong = {(c.source, c.id) for _, c in new}
    before = [_count(session, *day, wrong, seen, before=True) for day in days]
    intake.hold_usage(session, others | mine)
    replacements = {n: c.instead for n, c in new if c.instead}
    _store(session, [(c, found[c.source, c.id]) for _, c in new], by_key)
    outcomes = dict(zip(replacements, intake.receive(session, list(replacements.values())), strict=True))
    _refuse(
        [
            Fault(f"corrections.{n}.instead", outcome.reason or f"is a {outcome.kind} of an event that came before")
            for n, outcome in outcomes.items()
            if outcome.kind != "accepted"
        ]
    )
    forget_seen(session, {customer_id for customer_id, _ in days})
    for day, counted in zip(days, before, strict=True):
        _replace(session, *day, counted, _count(session, *day, wrong, seen, before=False))
    return len(new)


def _refuse(faults: Sequence[Fault]) -> None:
    if faults:
        raise Refused(
            "The corrections cannot be made.",
            code="invalid_corrections",
            faults=faults,
            remedy="Mend the named ones and send all again; nothing was changed.",
        )


def _find(session: Session, corrections: Sequence[Correction]) -> dict[tuple[str, str], _Counted]:
    """The stored events of these names; those of months that were taken away are not found."""
    keys = [(Named.key_of(c.source, c.id), c.source, c.id) for c in corrections]
    rows = cursor(session).execute(
        "select e.source, e.id, e.customer_id, e.type, e.day, e.meters"
        " from unnest(%s::uuid[], %s::text[], %s::text[]) as c (key, source, id)"
        " join usage_key k on k.key = c.key"
        " join usage_event e on e.occurred_at = k.occurred_at and e.source = c.source and e.id = c.id",
        columns(keys, 3),
    )
    return {
        (source, key): _Counted(customer_id, kind, day, tuple(meters))
        for source, key, customer_id, kind, day, meters in rows
    }


def _voids(session: Session, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str] | None]:
    """Which of them are void already, and what counts instead."""
    rows = cursor(session).execute(
        "select v.source, v.id, v.instead_source, v.instead_id from usage_void v"
        " join unnest(%s::text[], %s::text[]) as n (source, id) on n.source = v.source and n.id = v.id",
        columns(names, 2),
    )
    return {(source, key): (other, its) if other else None for source, key, other, its in rows}


def _faults(
    corrections: Sequence[Correction],
    found: dict[tuple[str, str], _Counted],
    known: dict[tuple[str, str], tuple[str, str] | None],
) -> list[Fault]:
    faults: list[Fault] = []
    seen: set[tuple[str, str]] = set()
    for n, c in enumerate(corrections):
        name = (c.source, c.id)
        instead = (c.instead.source, c.instead.id) if c.instead else None
        if name in seen:
            faults.append(Fault(f"corrections.{n}.id", "stands more than once"))
        elif name not in found:
            faults.append(Fault(f"corrections.{n}.id", "no such event is stored"))
        elif name in known and known[name] != instead:
            faults.append(Fault(f"corrections.{n}.id", "is void already, and was corrected otherwise"))
        elif instead == name:
            faults.append(Fault(f"corrections.{n}.instead.id", "must be another one: this name is taken for ever"))
        seen.add(name)
    return faults


def _other_contents(
    session: Session, corrections: Sequence[Correction], known: Collection[tuple[str, str]]
) -> list[Fault]:
    """Of those that were made before, the ones whose `instead` is not what then came under its name."""
    again = {n: Named.of(c.instead) for n, c in enumerate(corrections) if c.instead and (c.source, c.id) in known}
    came = contents_of(session, [one.key for one in again.values()])
    return [
        Fault(f"corrections.{n}.instead", "was corrected by an event of this name already, which had another content")
        for n, one in again.items()
        if came.get(one.key) not in (one.content, ANY_CONTENT)
    ]


def _store(session: Session, made: Sequence[tuple[Correction, _Counted]], by_key: str) -> None:
    if made:
        cursor(session).execute(
            "insert into usage_void (source, id, customer_id, type, day, reason, by_key, instead_source, instead_id)"
            " select s, i, c, t, d, r, %s, nullif(os, ''), nullif(oi, '') from"
            " unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::date[], %s::text[], %s::text[], %s::text[])"
            " as v (s, i, c, t, d, r, os, oi)",
            [
                by_key,
                *columns(
                    [
                        (
                            c.source,
                            c.id,
                            counted.customer_id,
                            counted.type,
                            counted.day,
                            c.reason,
                            c.instead.source if c.instead else "",
                            c.instead.id if c.instead else "",
                        )
                        for c, counted in made
                    ],
                    8,
                ),
            ],
        )


def _count(
    session: Session, customer_id: str, day: date, wrong: set[tuple[str, str]], seen: str, *, before: bool
) -> Counted:
    """What the events of a customer's day make that are not wrong, those that came before the snapshot or the others:
    each in the totals of the meters that counted it.
    """
    where = _zone_of(session, customer_id)
    between = (day, day + ONE_DAY)
    events = afresh.events(session, customer_id, where, between, limit=MOST_EVENTS + 1, seen=seen, before=before)
    if len(events) > MOST_EVENTS:
        reason = f"{customer_id} has more than {MOST_EVENTS:,} events on {day}: too many to be counted anew at once."
        raise Refused(reason, code="too_much_to_recount", remedy="Credit the difference on an invoice.")
    return afresh.counted(counting(session), customer_id, where, (e for e in events if (e.source, e.id) not in wrong))


def _replace(session: Session, customer_id: str, day: date, *counted: Counted) -> None:
    """All totals of a customer's day."""
    usage.clear_days(session, customer_id, (day, day + ONE_DAY), _zone_of(session, customer_id))
    for one in counted:
        one.add(session)


def _zone_of(session: Session, customer_id: str) -> ZoneInfo:
    row = cursor(session).execute("select time_zone from customer where id = %s", (customer_id,)).fetchone()
    assert row is not None
    return zone(row[0])
