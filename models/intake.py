"""Taking events in: each one known or new, attributed, stored and folded, in one transaction; and what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, NamedTuple
from zlib import crc32
from zoneinfo import ZoneInfo

from sqlmodel import Session

from billing.catalog import Meter
from billing.counting import Counting
from billing.field_formula import BOUND, Unfit, fields_of, formula
from billing.folding import OPERATIONS, Clocks, Folding, by_type
from billing.meter_check import LONGEST_VALUE
from billing.period import zone
from models import audit, event, quarantine, usage
from models.customer import lock_roots
from models.database import columns, cursor
from models.event import Event, Named
from models.meter_version import counting

OutcomeKind = Literal["accepted", "duplicate", "conflict", "quarantined", "invalid"]

DIGITS = 30
"""A quantity is below ten to the power of this."""
STRIPES = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an event.

    accepted: stored and in the totals. duplicate: known already. conflict: another content came under this name before,
    and counts; this one is kept for the audit. quarantined: kept until its customer is known. invalid: not kept.
    `reason` says why, and `field` where; both are empty for the first two.
    """

    kind: OutcomeKind
    reason: str = ""
    field: str = ""


ACCEPTED, DUPLICATE = Outcome("accepted"), Outcome("duplicate")
CONFLICT = Outcome("conflict", "another content came under this source and id before; that one counts")
UNKNOWN = Outcome("quarantined", quarantine.UNKNOWN, "subject")


def _time(answered: tuple[Named, Outcome]) -> datetime:
    return answered[0].event.occurred_at


class Customer(NamedTuple):
    id: str
    zone: ZoneInfo


def receive(session: Session, events: Sequence[Event]) -> list[Outcome]:
    """Take in events, and say of each what became of it.

    A duplicate is the same (source, id), whatever its time says and however late it comes. A meter counts an event only
    if the event has its quantity, and only from the meter's making on: what a stored event was counted by is written on
    it. If the event has something else in the quantity's place, it is invalid, so that the sender hears of it.
    """
    customers = customers_of(session, {e.subject for e in events})
    lock_stripes(session, {customer.id for customer in customers.values()})
    meters = counting(session)  # Under the lock: a meter that is made and counts anew leaves nothing between.
    looking = by_type(meters.newest)
    outcomes = {n: wrong for n, e in enumerate(events) if (wrong := _wrong(e, looking.get(e.type, ())))}
    strangers = {n: e for n, e in enumerate(events) if n not in outcomes and e.subject not in customers}
    outcomes |= zip(strangers, _quarantine(session, list(strangers.values())), strict=True)
    good = {n: e for n, e in enumerate(events) if n not in outcomes}
    outcomes |= zip(good, _take_in(session, list(good.values()), customers, meters), strict=True)
    return [outcomes[n] for n in range(len(events))]


def replay(session: Session, subject: str | None, limit: int) -> list[Outcome]:
    """Send quarantined events again, those of one subject or all; what fits now is stored and folded.

    Up to `limit`, those of subjects that are known by now first. Of what was sent before its meter was made, what the
    meter cannot count is stored and not counted.
    """
    events = quarantine.waiting(session, None if subject is None else [subject], limit)
    customers = customers_of(session, {e.subject for e in events})
    lock_stripes(session, {customer.id for customer in customers.values()})
    known = [e for e in events if e.subject in customers]
    outcomes = _take_in(session, known, customers, counting(session))
    quarantine.release(session, known)
    return outcomes + [UNKNOWN] * (len(events) - len(known))


def _take_in(
    session: Session, events: Sequence[Event], customers: Mapping[str, Customer], meters: Counting
) -> list[Outcome]:
    """Enter the events that are new, store and fold them. Everybody does it in this order, so that two that meet wait
    once; totals come last, so that their rows are locked for little more than the commit.
    """
    clocks = Clocks()
    named = [Named.of(e) for e in events]
    outcomes = _known_or_new(session, named)
    folding = Folding(meters.meters, clocks, meters.days)
    fresh: list[tuple[Event, str, date, Sequence[str]]] = []
    conflicts: list[tuple[Named, str]] = []
    answered: Counter[tuple[str, str, date, str]] = Counter()
    for one, outcome in sorted(zip(named, outcomes, strict=True), key=_time):
        e, customer = one.event, customers[one.event.subject]
        if outcome is ACCEPTED:
            day, counted_by = folding.add(customer.id, customer.zone, e.type, e.occurred_at, e.data)
            fresh.append((e, customer.id, day, counted_by if meters.plain else meters.marks(day, counted_by)))
        else:
            day, _ = clocks.day_and_hour(customer.zone, e.occurred_at)
        if outcome is CONFLICT:
            conflicts.append((one, customer.id))
        answered[customer.id, e.type, day, outcome.kind] += 1
    event.store_conflicts(session, conflicts)
    event.store(session, fresh)
    audit.count(session, answered)
    usage.add_windows(session, folding.windows())
    usage.add_days(session, folding.days())
    return outcomes


def hold_usage(session: Session, customer_ids: set[str]) -> None:
    """Until the commit nobody else bills these customers, nobody takes in events of theirs, nor of others that share a
    stripe with them, and no month of events is made or taken away.
    """
    cursor(session).execute("select pg_advisory_xact_lock_shared(hashtext('usage months'))")
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
    """Until the commit nobody takes in any event. It is given up soon, rather than let senders wait for others."""
    cursor(session).execute("set local lock_timeout = '2s'")
    cursor(session).execute(
        "select pg_advisory_xact_lock(hashtext('usage'), stripe) from generate_series(0, %s) as stripe", (STRIPES - 1,)
    )


def customers_of(session: Session, subjects: set[str]) -> dict[str, Customer]:
    """By the subject that stands for them: an id, or an alias."""
    rows = cursor(session).execute(
        "select s.subject, c.id, c.time_zone from unnest(%s::text[]) as s (subject)"
        " left join customer_alias a on a.alias = s.subject"
        " join customer c on c.id = coalesce(a.customer_id, s.subject)",
        (list(subjects),),
    )
    return {subject: Customer(customer_id, zone(name)) for subject, customer_id, name in rows}


def _wrong(e: Event, meters: Sequence[Meter]) -> Outcome | None:
    """What a meter counts must be a number of sane size, and its dimensions short words; so the sender hears of it."""
    for meter in meters:
        value = e.data.get(meter.quantity_field) if meter.quantity_field else None
        wrong = _wrong_dimension if meter.aggregation == "unique" else _wrong_quantity
        if value is not None and (reason := wrong(value)):
            return Outcome("invalid", reason, f"data.{meter.quantity_field}")
        if meter.expression and (unfit := _unfit(e, meter.expression)):
            return unfit
        if meter.operation_field and e.data.get(meter.operation_field) not in (None, *OPERATIONS):
            return Outcome("invalid", "must be add or remove", f"data.{meter.operation_field}")
        for name in meter.dimensions:
            if reason := _wrong_dimension(e.data.get(name)):
                return Outcome("invalid", reason, f"data.{name}")
    return None


def _unfit(e: Event, expression: str) -> Outcome | None:
    """Each field that a formula asks for must be such a number, if it is there; and so must be what it gives."""
    for name in sorted(fields_of(expression)):
        value = e.data.get(name)
        if value is not None and (reason := _wrong_quantity(value)):
            return Outcome("invalid", reason, f"data.{name}")
    try:
        formula(expression)(e.data)
    except Unfit as error:
        return Outcome("invalid", str(error), "data")
    return None


def _wrong_quantity(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return "must be a number"
    return "" if -BOUND < value < BOUND else f"must be below 10^{DIGITS}"


def _wrong_dimension(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int | Decimal):
        return "must be text, a number, true or false"
    return f"must have at most {LONGEST_VALUE} characters" if len(str(value)) > LONGEST_VALUE else ""


def _quarantine(session: Session, strangers: Sequence[Event]) -> list[Outcome]:
    kept = quarantine.keep(session, strangers)
    first = {(e.source, e.id): e for e in reversed(strangers)}
    return [UNKNOWN if (e.source, e.id) in kept and first[e.source, e.id] is e else DUPLICATE for e in strangers]


def _known_or_new(session: Session, named: Sequence[Named]) -> list[Outcome]:
    """The first under each key is accepted, if the key is new; the content that counts decides what the others are."""
    first: dict[str, Named] = {}
    for e in named:
        first.setdefault(e.key, e)
    known = event.take_keys(session, list(first.values()))
    return [ACCEPTED if first[e.key] is e and e.key not in known else _again(e, known, first) for e in named]


def _again(e: Named, known: Mapping[str, int], first: Mapping[str, Named]) -> Outcome:
    counts = known.get(e.key, first[e.key].content)
    return DUPLICATE if counts in (e.content, event.ANY_CONTENT) else CONFLICT
