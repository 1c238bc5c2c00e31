"""What was used, in totals, and the quarantine. Events come in by api/events.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from itertools import chain
from typing import Annotated, get_args

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from api.access import Database, Open, Reader, Writer
from api.bodies import ExactRoute
from api.event_formats import MOST_EVENTS
from api.fields import Day, Days
from api.pages import behind, place
from billing.period import Period, zone
from billing.portion import Portion, Properties
from billing.usage import BEFORE, Totals, carries_over, levels_by_day, measure, quantity_of
from models import audit, catalog, intake, meter_version, quarantine, recount, usage
from models.audit import Audit
from models.customer import customer
from models.intake import OutcomeKind
from models.quarantine import HeldBy, Quarantined
from models.recount import Recounted

router = APIRouter(prefix="/v1", tags=["Usage"], route_class=ExactRoute)


class PropertiesTotal(BaseModel):
    """A meter's quantity over events with the same properties."""

    properties: dict[str, str]
    quantity: Decimal
    events: int


class Total(BaseModel):
    """A meter's quantity over some days of a customer."""

    meter: str
    quantity: Decimal
    days: dict[date, Decimal]
    by_properties: list[PropertiesTotal]


@router.get("/customers/{customer_id}/usage")
def read_usage(customer_id: str, session: Database, key: Reader, days: Days) -> list[Total]:
    """Folded totals by meter and local day, from `since` up to but not including `until`; live.

    Days without events are left out. What a meter carries over from before `since` is in its quantities; time that has
    not passed yet counts as if nothing changed.
    """
    customer(session, customer_id)
    split = {meter.id for meter in catalog.meters(session) if meter.dimensions}
    totals = usage.totals_of(session, [customer_id], days.start, days.end)[customer_id]
    found: dict[str, dict[date, tuple[Portion, ...]]] = {}
    for (meter, day), portions in sorted(totals.items()):
        by_day = found.setdefault(meter, {})
        if day > BEFORE:
            by_day[day] = portions
    return [
        _carried(totals, meter, days, meter in split)
        if carries_over(totals, meter)
        else Total(
            meter=meter,
            quantity=quantity_of(chain.from_iterable(by_day.values())),
            days={day: quantity_of(portions) for day, portions in by_day.items()},
            by_properties=_by_properties(chain.from_iterable(by_day.values())) if meter in split else [],
        )
        for meter, by_day in found.items()
    ]


def _carried(totals: Totals, meter: str, period: Period, split: bool) -> Total:
    """The totals of a meter that carries over."""
    found = measure(totals, meter, period)
    by_properties = [
        PropertiesTotal(properties=dict(one.properties), quantity=one.quantity, events=one.events)
        for one in found.portions
    ]
    return Total(
        meter=meter,
        quantity=found.quantity,
        days=levels_by_day(totals, meter, period),
        by_properties=by_properties if split else [],
    )


def _by_properties(portions: Iterable[Portion]) -> list[PropertiesTotal]:
    """In order of names and values."""
    found: dict[Properties, list[Portion]] = {}
    for portion in portions:
        found.setdefault(portion.properties, []).append(portion)
    return [
        PropertiesTotal(properties=dict(named), quantity=quantity_of(some), events=sum(p.events for p in some))
        for named, some in sorted(found.items())
    ]


@router.get("/customers/{customer_id}/usage/audit")
def audit_usage(customer_id: str, session: Database, key: Reader, meter: str, days: Days) -> Audit:
    """What became of all events of a meter's type that came for the customer's days, in numbers that add up."""
    customer(session, customer_id)
    return audit.audit(session, customer_id, meter_version.meter(session, meter), days.start, days.end)


class RecountIn(BaseModel):
    """Whose usage a meter counts anew, of which days; stored unless it is a dry run."""

    model_config = ConfigDict(extra="forbid")
    customer_id: str
    since: Day
    until: Day
    dry_run: bool = True


@router.post("/meters/{meter_id}/recounts")
def recount_usage(meter_id: str, body: RecountIn, session: Database, key: Writer) -> list[Recounted]:
    """Count a customer's stored events of some days anew, by the meter as it is: for a meter that was made after them.

    Says which days change, by how much; unless it is a dry run, the totals are replaced at once. What was billed
    already becomes late usage.
    """
    where = zone(customer(session, body.customer_id).time_zone)
    found, between = meter_version.meter(session, meter_id), (body.since, body.until)
    return recount.recount(session, found, body.customer_id, where, between, store=not body.dry_run)


class QuarantinePage(BaseModel):
    """Events that wait, or were discarded, oldest first; `next` is what to send as `after` for the page behind, null if
    it is the last.
    """

    events: list[Quarantined]
    next: str | None


@router.get("/quarantine")
def read_quarantine(
    session: Database,
    key: Reader,
    subject: str | None = None,
    field: HeldBy | None = None,
    discarded: bool = False,
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> QuarantinePage:
    """A page of what waits in quarantine, oldest first: because nobody is known by the subject, or because of the time.
    With `discarded=true`, of what was discarded instead, with who did it, when and why.

    What is taken in or comes while you turn the pages leaves nothing out that waited before and waits still.
    """
    behind_it = place(after, _KEYS)
    rows = quarantine.quarantined(session, limit + 1, subject, field, behind_it, discarded=discarded)
    last = rows[limit - 1] if len(rows) > limit else None
    following = behind(last.received_at.isoformat(), last.source, last.id) if last else None
    return QuarantinePage(events=rows[:limit], next=following)


_KEYS = msgspec.json.Decoder(tuple[Annotated[datetime, msgspec.Meta(tz=True)], str, str])


class ReplayIn(BaseModel):
    """Which events to send again: those of one subject, or all. With `whatever_time` also those whose time is out of
    bounds.
    """

    model_config = ConfigDict(extra="forbid")
    subject: str | None = None
    whatever_time: bool = False


class Released(BaseModel):
    """What became of the events that were sent again, in numbers. None can have been sent if none waited before."""

    waiting_before: int
    accepted: int
    duplicate: int
    conflict: int
    quarantined: int
    invalid: int


@router.post("/quarantine/replay")
def replay_quarantine(body: ReplayIn, session: Database, open_: Open, key: Writer) -> Released:
    """Send quarantined events again, up to 10,000. Those are stored and folded whose customer is known by now, if their
    time is within the bounds or said to be meant.

    If `waiting_before` is 0, nothing waits of that subject: it was replayed before, or is written otherwise.
    """
    waiting = quarantine.count_waiting(session, body.subject)
    bounds = None if body.whatever_time else open_.bounds
    counts = Counter(outcome.kind for outcome in intake.replay(session, body.subject, MOST_EVENTS, bounds))
    return Released(waiting_before=waiting, **{kind: counts[kind] for kind in get_args(OutcomeKind)})
