"""Counting anew for one customer: a meter that was made after usage came counts the stored events, which replaces its
totals. For all customers it is done in the background, and compared before (models/rebuild.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from zoneinfo import ZoneInfo

from sqlmodel import Session

from billing.aggregation import APART
from billing.catalog import Meter
from billing.counting import Counting
from billing.errors import Fault, Refused
from billing.folding import Clocks, Folding, Totals, portion_of, together
from billing.period import days_between
from billing.portion import Portion
from billing.usage import quantity_of
from models import afresh, usage
from models.afresh import Stored
from models.database import columns, cursor
from models.event import AS_STORED
from models.event_month import refuse_taken
from models.intake import hold_usage
from models.meter_version import counting
from models.subscription import forget_seen

MOST_DAYS, MOST_EVENTS = 400, 500_000
"""Of one customer, at once."""


@dataclass(frozen=True, slots=True)
class Recounted:
    """A day whose quantity changes: what the meter had, and what the stored events make.

    Of a level that is weighted by time: by how much the day's events change it.
    """

    day: date
    before: Decimal
    after: Decimal


def recount(
    session: Session, meter: Meter, customer_id: str, where: ZoneInfo, between: tuple[date, date], *, store: bool
) -> list[Recounted]:
    """Count a customer's stored events of local days, the second not included, by the meter as it holds for each day.

    Says which days change; stored only if asked. Events that come meanwhile are in the totals afterwards; they wait
    while what came since the counting began is added.
    """
    since, until = between
    if days_between(since, until).days > MOST_DAYS:
        raise _refused("until", f"must lie at most {MOST_DAYS} days after `since`")
    seen = afresh.begin(session, {customer_id}) if store else None
    refuse_taken(session, {customer_id}, since, until)
    if store:
        _refuse_rebuilt(session, meter)
    mine = counting(session).holding(meter.meter_id)
    earlier = _Part.of(mine, customer_id, where, _events(session, meter, customer_id, where, between, seen))
    later = None
    if store:
        hold_usage(session, {customer_id})
        found = _events(session, meter, customer_id, where, between, seen, before=False)
        later = _Part.of(mine, customer_id, where, found)
    held = usage.totals_of(session, [customer_id], since, until)[customer_id]
    days = together(earlier.days, later.days) if later else earlier.days
    if later:
        usage.clear_days(session, customer_id, between, where, {one.name for one in mine.series})
        usage.add(session, together(earlier.windows, later.windows), days)
        for part in (earlier, later):
            part.say(session, meter)
        forget_seen(session, {customer_id})
    return changes(mine, {day: some for (name, day), some in held.items() if name == meter.meter_id}, days, between)


@dataclass(frozen=True, slots=True)
class _Part:
    """What some events make, and those of which it is to be written that the meter counts them, or does not."""

    days: Totals
    windows: Totals
    counted: Sequence[Stored]
    uncounted: Sequence[Stored]

    @classmethod
    def of(cls, mine: Counting, customer_id: str, where: ZoneInfo, events: Iterable[Stored]) -> _Part:
        [meter] = mine.newest
        folding = Folding(mine.meters, Clocks(), mine.days)
        differing: tuple[list[Stored], list[Stored]] = ([], [])
        for e in events:
            data = AS_STORED.decode(e.data)
            _, names = folding.add(customer_id, where, e.type, e.occurred_at, data, digest=e.digest)
            if bool(names) != (meter.meter_id in e.meters):
                differing[0 if names else 1].append(e)
        return cls(folding.days(), folding.windows(), *differing)

    def say(self, session: Session, meter: Meter) -> None:
        _say(session, meter, self.counted, counted=True)
        _say(session, meter, self.uncounted, counted=False)


def _refused(field: str, reason: str) -> Refused:
    return Refused(
        "So much cannot be counted anew at once.",
        code="too_much_to_recount",
        faults=[Fault(field, reason)],
        remedy="Ask for a shorter range, or count it anew in the background: POST /v1/meters/{id}/rebuilds.",
    )


def _refuse_rebuilt(session: Session, meter: Meter) -> None:
    """Its marks on events tell how what is being prepared differs from what holds."""
    row = (
        cursor(session)
        .execute("select id from meter_rebuild where meter_id = %s and settled_at is null", (meter.meter_id,))
        .fetchone()
    )
    if row:
        raise Refused(
            f"The meter {meter.meter_id!r} is being counted anew for all customers, by {row[0]!r}.",
            code="conflict",
            remedy="Apply or drop that first, and wait until it is settled.",
        )


def _events(
    session: Session,
    meter: Meter,
    customer_id: str,
    where: ZoneInfo,
    between: tuple[date, date],
    seen: str | None,
    *,
    before: bool = True,
) -> Iterator[Stored]:
    """Those that are void do not count."""
    return afresh.events(
        session,
        customer_id,
        where,
        between,
        most=MOST_EVENTS,
        too_many=lambda: _refused("until", f"must be earlier: there are more than {MOST_EVENTS:,} events"),
        kind=meter.event_type,
        seen=seen,
        before=before,
    )


def changes(
    mine: Counting,
    held: dict[date, tuple[Portion, ...]],
    after: Totals,
    between: tuple[date, date],
) -> list[Recounted]:
    """The days on which what held differs from new totals, which stand by the names of the meter's series."""
    by_name = {one.name: one.meter for one in mine.series}
    found: dict[date, list[Portion]] = {}
    for (_, name, day, kept, each), total in after.items():
        meter = by_name[name]
        apart = each if meter.per_event or meter.aggregation in APART else None
        found.setdefault(day, []).append(portion_of(meter, "UTC", kept, apart, total))
    had = {day: some for day, some in held.items() if between[0] <= day < between[1]}
    days = sorted(found.keys() | had.keys())
    return [
        Recounted(day, quantity_of(had.get(day, ())), quantity_of(found.get(day, ())))
        for day in days
        if kept_of(had.get(day, ())) != kept_of(found.get(day, ()))
    ]


def kept_of(portions: Collection[Portion]) -> set[tuple[object, ...]]:
    """What tells the totals of a day from others."""
    return {(p.properties, p.each, p.quantity, p.events, p.weighted) for p in portions}


def _say(session: Session, meter: Meter, events: Sequence[Stored], *, counted: bool) -> None:
    """Write on events whether the meter counts them."""
    if events:
        cursor(session).execute(
            "update usage_event e set meters ="
            f" {'array_append' if counted else 'array_remove'}(e.meters, %s)"
            " from unnest(%s::text[], %s::text[], %s::timestamptz[]) as n (source, id, occurred_at)"
            " where e.occurred_at = n.occurred_at and e.source = n.source and e.id = n.id",
            [meter.meter_id, *columns([(e.source, e.id, e.occurred_at.isoformat()) for e in events], 3)],
        )
