"""Usage: events in batches, totals, and the quarantine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime
from decimal import Decimal
from itertools import chain
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict
from sqlmodel import Session

from api.access import Database, Ingester, Open, Reader, Writer
from api.bodies import ExactRoute, holds_nul
from api.fields import YEARS, Day
from billing.errors import Fault, Refused
from billing.meter_check import LONGEST_VALUE
from billing.quantity import added_up
from billing.usage import Portion, quantity_of
from models import catalog, usage
from models.catalog import Meter
from models.customer import customer
from models.usage import Event, Received

router = APIRouter(prefix="/v1", tags=["Usage"], route_class=ExactRoute)

MOST_EVENTS = 10_000
DIGITS = 30

EVENTS = Counter("perennial_usage_events", "Usage events by what became of them.", ["outcome"])


class EventIn(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One usage event; (`source`, `id`) makes it one, whatever its time says. `time` carries a zone."""

    source: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    type: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    data: dict[str, Any] = {}


class EventsIn(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A batch, taken in whole or not at all."""

    events: Annotated[list[EventIn], msgspec.Meta(min_length=1, max_length=MOST_EVENTS)]


def _number(text: str) -> Decimal:
    """A number with a point or an exponent, exactly; one of absurd size would take up as many digits as it names."""
    try:
        number = Decimal(text)
    except ArithmeticError as error:
        raise ValueError(_ABSURD) from error
    if number.adjusted() >= DIGITS or int(number.as_tuple().exponent) < -DIGITS:
        raise ValueError(_ABSURD)
    return number


_ABSURD = f"Numbers must be below 10^{DIGITS} and have at most {DIGITS} decimal places"
_DECODER = msgspec.json.Decoder(EventsIn, float_hook=_number)
_SCHEMA, _PARTS = msgspec.json.schema_components([EventsIn], ref_template="#/components/schemas/{name}")
OPENAPI_PARTS = _PARTS


@router.post(
    "/events",
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _SCHEMA[0]}}}},
)
async def send_events(request: Request, open_: Open, key: Ingester) -> Received:
    """Take in up to 10,000 events. The answer comes after they are stored, attributed and in the totals.

    A duplicate is the same (source, id). An event whose subject is no known customer is kept in quarantine. If any
    event is malformed, nothing of the batch is stored and the problem document names it.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused("The body is compressed.", code="unsupported_encoding", remedy="Send it as plain JSON.")
    batch = _decode(await request.body())

    def store() -> Received:
        with open_.transaction() as session:
            _check(session, batch)
            return usage.receive(
                session, [Event(e.source, e.id, e.subject, e.type, e.time, e.data) for e in batch.events]
            )

    received = await run_in_threadpool(store)
    for outcome in ("accepted", "duplicate", "quarantined"):
        EVENTS.labels(outcome).inc(getattr(received, outcome))
    return received


def _decode(body: bytes) -> EventsIn:
    try:
        batch = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `")
        field = path.rstrip("`").removeprefix("$").replace("[", ".").replace("]", "").strip(".") or "events"
        raise _invalid([Fault(field, reason)]) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ArithmeticError) as error:
        raise _invalid([Fault("body", f"is not JSON that can be read: {error}")]) from error
    if holds_nul(body):
        raise _invalid([Fault("body", "holds the character U+0000, which cannot be stored")])
    return batch


def _invalid(faults: list[Fault]) -> Refused:
    return Refused(
        "The batch was not taken in.",
        code="invalid_events",
        faults=faults,
        remedy="Correct these events and send all again.",
    )


def _check(session: Session, batch: EventsIn) -> None:
    """What a meter adds up must be a number of sane size, its dimensions short words, and the day of an event one that
    calendars have.
    """
    by_type: dict[str, list[Meter]] = {}
    for meter in catalog.meters(session):
        by_type.setdefault(meter.event_type, []).append(meter)
    faults = [
        Fault(f"events.{i}.time", f"must lie in the years {YEARS.start} to {YEARS.stop - 1}")
        for i, event in enumerate(batch.events)
        if event.time.year not in YEARS
    ]
    faults += [
        Fault(f"events.{i}.data.{name}", reason)
        for i, event in enumerate(batch.events)
        for meter in by_type.get(event.type, ())
        for name, reason in _wrong_fields(meter, event.data)
    ]
    if faults:
        raise _invalid(list(dict.fromkeys(faults))[:20])


def _wrong_fields(meter: Meter, data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if reason := _wrong_quantity(data.get(meter.quantity_field)):
        yield meter.quantity_field, reason
    for name in meter.dimensions:
        if reason := _wrong_dimension(data.get(name)):
            yield name, reason


def _wrong_dimension(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int | Decimal):
        return "must be text, a number, true or false"
    return f"must have at most {LONGEST_VALUE} characters" if len(str(value)) > LONGEST_VALUE else ""


def _wrong_quantity(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return "must be a number"
    return f"must be below 10^{DIGITS}" if abs(value) >= 10**DIGITS else ""


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
def read_usage(customer_id: str, session: Database, key: Reader, since: Day, until: Day) -> list[Total]:
    """Folded totals by meter and local day, from `since` up to but not including `until`; live."""
    customer(session, customer_id)
    split = {meter.id for meter in catalog.meters(session) if meter.dimensions}
    found: dict[str, dict[date, tuple[Portion, ...]]] = {}
    for (meter, day), portions in sorted(usage.totals_of(session, [customer_id], since)[customer_id].items()):
        if day < until:
            found.setdefault(meter, {})[day] = portions
    return [
        Total(
            meter=meter,
            quantity=added_up(quantity_of(portions) for portions in days.values()),
            days={day: quantity_of(portions) for day, portions in days.items()},
            by_properties=_by_properties(chain.from_iterable(days.values())) if meter in split else [],
        )
        for meter, days in found.items()
    ]


def _by_properties(portions: Iterable[Portion]) -> list[PropertiesTotal]:
    """In order of names and values."""
    found: dict[tuple[tuple[str, str], ...], list[Portion]] = {}
    for portion in portions:
        found.setdefault(portion.properties, []).append(portion)
    return [
        PropertiesTotal(properties=dict(named), quantity=quantity_of(some), events=sum(p.events for p in some))
        for named, some in sorted(found.items())
    ]


class Quarantined(BaseModel):
    """An event that is kept until its customer is known."""

    source: str
    id: str
    subject: str
    reason: str
    received_at: datetime


@router.get("/quarantine")
def read_quarantine(
    session: Database, key: Reader, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[Quarantined]:
    """What waits in quarantine, oldest first."""
    names = ("source", "id", "subject", "reason", "received_at")
    return [Quarantined(**dict(zip(names, row, strict=True))) for row in usage.quarantined(session, limit)]


class ReplayIn(BaseModel):
    """Which events to send again: those of one subject, or all."""

    model_config = ConfigDict(extra="forbid")
    subject: str | None = None


@router.post("/quarantine/replay")
def replay_quarantine(body: ReplayIn, session: Database, key: Writer) -> Received:
    """Send quarantined events again, up to 10,000; those whose customer is known by now are stored and folded."""
    return usage.replay(session, body.subject, MOST_EVENTS)
