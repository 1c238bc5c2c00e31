"""Counting anew: a meter that was made after usage came counts the stored events, which replaces its totals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from sqlmodel import Session

from billing import usage as measured
from billing.aggregation import APART
from billing.catalog import Meter
from billing.errors import Fault, Refused
from billing.folding import Clocks, Folding, Totals, portion_of
from billing.period import instant
from billing.usage import Portion, quantity_of
from models import usage
from models.database import columns, cursor
from models.event_month import refuse_taken
from models.intake import hold_usage
from models.subscription import forget_seen

MOST_DAYS, MOST_EVENTS = 400, 500_000
"""Of one customer, at once: unless it is a dry run, senders wait meanwhile (models/intake.py says who)."""


@dataclass(frozen=True, slots=True)
class Recounted:
    """A day whose quantity changes: what the meter had, and what the stored events make.

    Of a level that is weighted by time: by how much the day's events change it.
    """

    day: date
    before: Decimal
    after: Decimal


class _Stored(NamedTuple):
    source: str
    id: str
    occurred_at: datetime
    data: str
    counted: bool


def recount(
    session: Session, meter: Meter, customer_id: str, where: ZoneInfo, between: tuple[date, date], *, store: bool
) -> list[Recounted]:
    """Count a customer's stored events of local days, the second not included, by the meter as it is now.

    Says which days change; stored only if asked. Events that come meanwhile wait, and are in the totals afterwards.
    """
    since, until = between
    if not 0 < (until - since).days <= MOST_DAYS:
        raise _refused("until", f"must lie 1 to {MOST_DAYS} days after `since`")
    if store:
        hold_usage(session, {customer_id})
    refuse_taken(session, {customer_id}, since, until)
    events = _events(session, meter, customer_id, where, between)
    folding = Folding([meter], Clocks())
    counts = [
        bool(folding.add(customer_id, where, meter.event_type, e.occurred_at, _DECODER.decode(e.data))[1])
        for e in events
    ]
    days = folding.days()
    changes = _changes(usage.totals_of(session, [customer_id], since, until)[customer_id], days, meter, between)
    if store:
        usage.clear_days(session, customer_id, between, where, meter.meter_id)
        usage.add_windows(session, folding.windows())
        usage.add_days(session, days)
        _say(session, meter, [e for e, now in zip(events, counts, strict=True) if now and not e.counted], counted=True)
        _say(session, meter, [e for e, now in zip(events, counts, strict=True) if e.counted and not now], counted=False)
        forget_seen(session, {customer_id})
    return changes


def _refused(field: str, reason: str) -> Refused:
    return Refused(
        "So much cannot be counted anew at once.",
        code="too_much_to_recount",
        faults=[Fault(field, reason)],
        remedy="Ask for a shorter range.",
    )


def _events(
    session: Session, meter: Meter, customer_id: str, where: ZoneInfo, between: tuple[date, date]
) -> list[_Stored]:
    """Those that are void do not count."""
    rows = cursor(session).execute(
        "select e.source, e.id, e.occurred_at, e.data::text, %(meter)s = any(e.meters) from usage_event e"
        " where e.customer_id = %(customer)s and e.type = %(type)s"
        " and e.occurred_at >= %(since)s and e.occurred_at < %(until)s"
        " and not exists (select from usage_void v where v.source = e.source and v.id = e.id)"
        " limit %(limit)s",
        {
            "meter": meter.meter_id,
            "customer": customer_id,
            "type": meter.event_type,
            "since": instant(between[0], where),
            "until": instant(between[1], where),
            "limit": MOST_EVENTS + 1,
        },
    )
    found = [_Stored(*row) for row in rows]
    if len(found) > MOST_EVENTS:
        raise _refused("until", f"must be earlier: there are more than {MOST_EVENTS:,} events")
    return found


def _changes(before: measured.Totals, after: Totals, meter: Meter, between: tuple[date, date]) -> list[Recounted]:
    found: dict[date, list[Portion]] = {}
    for (_, _, day, kept, each), total in after.items():
        apart = each if meter.per_event or meter.aggregation in APART else None
        found.setdefault(day, []).append(portion_of(meter, "UTC", kept, apart, total))
    had = {
        day: some for (name, day), some in before.items() if name == meter.meter_id and between[0] <= day < between[1]
    }
    days = sorted(found.keys() | had.keys())
    return [
        Recounted(day, quantity_of(had.get(day, ())), quantity_of(found.get(day, ())))
        for day in days
        if _kept(had.get(day, ())) != _kept(found.get(day, ()))
    ]


def _kept(portions: Sequence[Portion]) -> set[tuple[object, ...]]:
    return {(p.properties, p.each, p.quantity, p.events, p.weighted) for p in portions}


def _say(session: Session, meter: Meter, events: Sequence[_Stored], *, counted: bool) -> None:
    """Write on events whether the meter counts them."""
    if events:
        cursor(session).execute(
            f"update usage_event e set meters = {'array_append' if counted else 'array_remove'}(e.meters, %s)"
            " from unnest(%s::text[], %s::text[], %s::timestamptz[]) as n (source, id, occurred_at)"
            " where e.occurred_at = n.occurred_at and e.source = n.source and e.id = n.id",
            [meter.meter_id, *columns([(e.source, e.id, e.occurred_at.isoformat()) for e in events], 3)],
        )


_DECODER = msgspec.json.Decoder(dict[str, object], float_hook=Decimal)
