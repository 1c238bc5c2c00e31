"""Taking events in: each one known or new, attributed, stored and folded, in one transaction; and what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, NamedTuple
from zlib import crc32
from zoneinfo import ZoneInfo

from sqlmodel import Session

from billing.catalog import Meter
from billing.counting import Counting
from billing.event_check import event_check
from billing.folding import Clocks, Folding, by_type
from billing.period import zone
from billing.time_bounds import TimeBounds
from models import audit, event, quarantine, usage
from models.customer import lock_roots
from models.database import columns, cursor
from models.event import Event, Named, digest_of, hold_months
from models.event_key import contents_of, take_keys
from models.event_time import outside
from models.meter_version import counting
from models.quarantine import Held
from models.same_event import Unlike, the_same
from models.slot import enter

OutcomeKind = Literal["accepted", "duplicate", "conflict", "quarantined", "invalid"]

STRIPES = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an event.

    accepted: stored and in the totals. duplicate: known already. conflict: another content came under this name before,
    and counts; this one is kept for the audit. quarantined: kept until its customer is known, or somebody says that its
    time is meant. invalid: not kept.
    `reason` says why, and `field` where; both are empty for the first two.
    """

    kind: OutcomeKind
    reason: str = ""
    field: str = ""


ACCEPTED, DUPLICATE = Outcome("accepted"), Outcome("duplicate")
CONFLICT = Outcome("conflict", "another content came under this source and id before; that one counts")
WAITS_OTHERWISE = Outcome("conflict", "another content came under this source and id before; that one stands")
UNKNOWN = Outcome("quarantined", quarantine.UNKNOWN, "subject")


class Customer(NamedTuple):
    id: str
    zone: ZoneInfo


class _Books:
    """What is written down of a transaction's events besides what is stored: numbers for the audit, and conflicts."""

    def __init__(self) -> None:
        self.clocks = Clocks()
        self.answered: Counter[tuple[str, str, date, str]] = Counter()
        self.conflicts: list[tuple[Named, str | None]] = []

    def count(self, e: Event, customer: Customer, kind: OutcomeKind, many: int = 1) -> None:
        day, _ = self.clocks.day_and_hour(customer.zone, e.occurred_at)
        self.answered[customer.id, e.type, day, kind] += many


def receive(
    session: Session, events: Sequence[Event], bounds: TimeBounds | None = None, free: Collection[int] = ()
) -> list[Outcome]:
    """Take in events, and say of each what became of it.

    A duplicate is the same (source, id), whatever its time says and however late it comes. A meter counts an event only
    if the event has its quantity, and only from the meter's making on: what a stored event was counted by is written on
    it. If the event has something else in the quantity's place, it is invalid, so that the sender hears of it. Events
    out of `bounds` wait in quarantine, except those in the places `free`, whose sender means their time.
    """
    customers = _hold(session, {e.subject for e in events})
    meters = counting(session)  # Under the lock: a meter that is made and counts anew leaves nothing between.
    books = _Books()
    outcomes = _invalid(session, events, meters.newest)
    strangers = {n: e for n, e in enumerate(events) if n not in outcomes and e.subject not in customers}
    outcomes |= _known(session, strangers, books)
    held = {n: UNKNOWN for n in strangers if n not in outcomes}
    good = {n: e for n, e in enumerate(events) if n not in outcomes and n not in held}
    bound = {n: e for n, e in good.items() if n not in free} if free else good
    for n, late in _outside(session, bound, customers, bounds).items():
        held[n] = late
        del good[n]
    outcomes |= zip(held, _quarantine(session, [(events[n], held[n]) for n in held], customers, books), strict=True)
    outcomes |= zip(good, _take_in(session, list(good.values()), customers, meters, books), strict=True)
    return [outcomes[n] for n in range(len(events))]


def replay(session: Session, subject: str | None, limit: int, bounds: TimeBounds | None = None) -> list[Outcome]:
    """Send quarantined events again, those of one subject or all; what fits now is stored and folded.

    Up to `limit`, those first that may fit by now. Without `bounds`, whatever their time. Of what was sent before its
    meter was made, what the meter cannot count is stored and not counted.
    """
    chosen = quarantine.waiting(session, None if subject is None else [subject], limit, bounds)
    customers = _hold(session, {one.event.subject for one in chosen})
    meters, books = counting(session), _Books()
    waiting = quarantine.hold(session, chosen)
    known = {n: one.event for n, one in enumerate(waiting) if one.event.subject in customers}
    late = _outside(session, known, customers, bounds)
    good = {n: e for n, e in known.items() if n not in late}
    for n, e in known.items():
        customer, one = customers[e.subject], waiting[n]
        books.count(e, customer, "duplicate", one.duplicates)
        books.count(e, customer, "conflict", one.conflicts)
    outcomes = late | dict(zip(good, _take_in(session, list(good.values()), customers, meters, books), strict=True))
    quarantine.release(session, [(waiting[n], customers[e.subject].id) for n, e in good.items()])
    quarantine.hold_for_time(
        session, [(waiting[n], customers[known[n].subject].id, outcome.reason) for n, outcome in late.items()]
    )
    return [outcomes.get(n, UNKNOWN) for n in range(len(waiting))]


def _invalid(session: Session, events: Sequence[Event], meters: Iterable[Meter]) -> dict[int, Outcome]:
    """Those in which a meter of their type finds a fault, and which were not stored before it was there."""
    kinds = {e.type for e in events}
    looking = by_type(meter for meter in meters if meter.event_type in kinds)
    checks = {kind: event_check(mine) for kind, mine in looking.items()}
    found: dict[int, Outcome] = {}
    for n, e in enumerate(events):
        if (check := checks.get(e.type)) and (fault := check(e.data)):
            found[n] = Outcome("invalid", fault.reason, fault.field)
    if not found:
        return found
    keys = {n: Named.key_of(events[n].source, events[n].id) for n in found}
    known = contents_of(session, {*keys.values()})
    return {n: outcome for n, outcome in found.items() if keys[n] not in known}


def _known(session: Session, strangers: Mapping[int, Event], books: _Books) -> dict[int, Outcome]:
    """Those of nobody whose names are known all the same: they belong to other events, so these need not wait.

    Without those of events that were discarded: what comes again is counted there, as while they waited.
    """
    named = {n: Named.of(e) for n, e in strangers.items()}
    known = contents_of(session, {one.key for one in named.values()}) if named else {}
    discarded = quarantine.discarded_among(
        session, [(one.event.source, one.event.id, known[one.key]) for one in named.values() if one.key in known]
    )
    outcomes = {
        n: _again(one, known)
        for n, one in named.items()
        if one.key in known and (one.event.source, one.event.id) not in discarded
    }
    books.conflicts += [(named[n], None) for n, outcome in outcomes.items() if outcome is CONFLICT]
    return outcomes


def _outside(
    session: Session, events: Mapping[int, Event], customers: Mapping[str, Customer], bounds: TimeBounds | None
) -> dict[int, Outcome]:
    if bounds is None:
        return {}
    reasons = outside(session, events, {subject: customer.id for subject, customer in customers.items()}, bounds)
    return {n: Outcome("quarantined", reason, "time") for n, reason in reasons.items()}


def _quarantine(
    session: Session, some: Sequence[tuple[Event, Outcome]], customers: Mapping[str, Customer], books: _Books
) -> list[Outcome]:
    held = [
        Held(
            Named.of(e), "time" if e.subject in customers else "subject", outcome.reason, _id(customers.get(e.subject))
        )
        for e, outcome in some
    ]
    outcomes: list[Outcome] = []
    for one, (e, why), kind in zip(held, some, quarantine.keep(session, held), strict=True):
        if kind != "quarantined" and (customer := customers.get(e.subject)):
            books.count(e, customer, kind)
        if kind == "conflict":
            books.conflicts.append((one.named, one.customer_id))
        outcomes.append(why if kind == "quarantined" else WAITS_OTHERWISE if kind == "conflict" else DUPLICATE)
    return outcomes


def _id(customer: Customer | None) -> str | None:
    return customer.id if customer else None


def _take_in(
    session: Session,
    events: Sequence[Event],
    customers: Mapping[str, Customer],
    meters: Counting,
    books: _Books,
) -> list[Outcome]:
    """Enter the names of events that are new, store and fold them. What needs a slot comes last, so that it is taken
    for little more than the commit.
    """
    named = Named.all_of(events)
    outcomes = _known_or_new(session, named, customers)
    folding = Folding(meters.meters, books.clocks, meters.days)
    fresh: list[tuple[Named, str, date, Sequence[str]]] = []
    for one, outcome in zip(named, outcomes, strict=True):
        e, customer = one.event, customers[one.event.subject]
        if outcome is ACCEPTED:
            digest = digest_of(one.key, one.content)
            day, counted_by = folding.add(customer.id, customer.zone, e.type, e.occurred_at, e.data, digest=digest)
            fresh.append((one, customer.id, day, counted_by if meters.plain else meters.marks(day, counted_by)))
            books.answered[customer.id, e.type, day, "accepted"] += 1
        else:
            books.count(e, customer, outcome.kind)
        if outcome is CONFLICT:
            books.conflicts.append((one, customer.id))
    event.store_conflicts(session, books.conflicts)
    few = event.store_many(session, fresh)
    totals = usage.additions(folding.windows(), folding.days())
    enter(session, [*few, *totals, *audit.additions(books.answered)])
    return outcomes


def hold_usage(session: Session, customer_ids: set[str]) -> None:
    """Until the commit nobody else bills these customers, nobody takes in events of theirs, nor of others that share a
    stripe with them, and no month of events is made or taken away.
    """
    hold_months(session)
    rows = cursor(session).execute("select distinct root_id from customer where id = any(%s)", (sorted(customer_ids),))
    lock_roots(session, [root_id for (root_id,) in rows])
    lock_stripes(session, customer_ids, alone=True)


def lock_stripes(session: Session, customer_ids: set[str], *, alone: bool = False) -> None:
    """Until the commit: side by side with others who take in events of these customers, or alone, to count them afresh.

    There are 64 such locks, each for a part of all customers, taken in order, however many customers there are.
    """
    statement = "select pg_advisory_xact_lock%s(hashtext('usage'), stripe) from unnest(%%s::int[]) as stripe"
    stripes = sorted({stripe_of(customer_id) for customer_id in customer_ids})
    cursor(session).execute(statement % ("" if alone else "_shared"), columns([(stripe,) for stripe in stripes], 1))


def stripe_of(customer_id: str) -> int:
    return crc32(customer_id.encode()) % STRIPES


def hold_all(session: Session) -> None:
    """Until the commit nobody takes in any event. If not all can be held within 2 seconds it is given up, rather than
    let senders wait for others; the error is psycopg's QueryCanceled.
    """
    cur = cursor(session)
    cur.execute("set local statement_timeout = '2s'")
    cur.execute(
        "select pg_advisory_xact_lock(hashtext('usage'), stripe) from generate_series(0, %s) as stripe", (STRIPES - 1,)
    )
    cur.execute("set local statement_timeout = 0")


_CUSTOMERS = """
select s.subject, c.id, c.time_zone, s.stripe from unnest(%s::text[], %s::int[]) as s (subject, stripe)
left join customer_alias a on a.alias = s.subject join customer c on c.id = coalesce(a.customer_id, s.subject)
"""
_HELD = f"""
with found as materialized ({_CUSTOMERS}),
stripes as (
  select distinct stripe from found where not exists (select from found where id <> subject) order by stripe
),
held as materialized (select pg_advisory_xact_lock_shared(hashtext('usage'), stripe) from stripes)
select found.* from found, (select count(*) as many from held) as all_of_them where many >= 0
"""


def customers_of(session: Session, subjects: set[str]) -> dict[str, Customer]:
    """By the subject that stands for them: an id, or an alias."""
    return _customers(session, _CUSTOMERS, subjects)


def _hold(session: Session, subjects: set[str]) -> dict[str, Customer]:
    """The same, and their stripes locked, side by side with others. That is one statement unless there are aliases: of
    those the stripe is not known before they are looked up.
    """
    found = _customers(session, _HELD, subjects)
    if any(customer.id != subject for subject, customer in found.items()):
        lock_stripes(session, {customer.id for customer in found.values()})
    return found


def _customers(session: Session, statement: str, subjects: set[str]) -> dict[str, Customer]:
    rows = cursor(session).execute(statement, columns([(subject, stripe_of(subject)) for subject in subjects], 2))
    return {subject: Customer(customer_id, zone(name)) for subject, customer_id, name, _ in rows}


def _known_or_new(session: Session, named: Sequence[Named], customers: Mapping[str, Customer]) -> list[Outcome]:
    """The first under each key is accepted, if the key is new; the content that counts decides what the others are."""
    first: dict[str, Named] = {}
    for e in named:
        first.setdefault(e.key, e)
    known = take_keys(session, list(first.values()))
    if not known and len(first) == len(named):
        return [ACCEPTED] * len(named)
    contents = {key: one.content for key, one in first.items()} | known
    found = [ACCEPTED if first[e.key] is e and e.key not in known else _again(e, contents) for e in named]
    unlike = {
        n: Unlike(e, contents[e.key], customers[e.event.subject].id)
        for n, (e, outcome) in enumerate(zip(named, found, strict=True))
        if outcome is CONFLICT
    }
    same = the_same(session, unlike)
    return [DUPLICATE if n in same else outcome for n, outcome in enumerate(found)]


def _again(e: Named, known: Mapping[str, int]) -> Outcome:
    """Of an event whose name is known, by the content that came first."""
    return DUPLICATE if known[e.key] in (e.content, event.ANY_CONTENT) else CONFLICT
