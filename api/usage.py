"""Usage: events in batches, totals, and the quarantine."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from prometheus_client import Counter
from pydantic import BaseModel
from sqlmodel import Session

from api.access import Database, Ingester, Open, Reader, Writer
from billing.errors import Fault, Refused
from models import catalog, usage
from models.catalog import Meter
from models.customer import customer
from models.usage import Event, Received

router = APIRouter(prefix="/v1", tags=["Usage"])

MOST_EVENTS = 10_000
MOST_BYTES = 16 * 1024 * 1024
LARGEST = Decimal("1e30")

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


_DECODER = msgspec.json.Decoder(EventsIn, float_hook=Decimal)
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
    if int(request.headers.get("content-length") or 0) > MOST_BYTES:
        raise _too_large()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise _too_large()
    batch = _decode(bytes(body))

    def store() -> Received:
        with open_.transaction() as session:
            _check_quantities(session, batch)
            return usage.receive(
                session, [Event(e.source, e.id, e.subject, e.type, e.time, e.data) for e in batch.events]
            )

    received = await run_in_threadpool(store)
    for outcome in ("accepted", "duplicate", "quarantined"):
        EVENTS.labels(outcome).inc(getattr(received, outcome))
    return received


def _too_large() -> Refused:
    return Refused("The request is too large.", code="too_large", remedy="Send at most 16 MiB and 10,000 events.")


def _decode(body: bytes) -> EventsIn:
    try:
        batch = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `")
        field = path.rstrip("`").removeprefix("$").replace("[", ".").replace("]", "").strip(".") or "events"
        raise _invalid([Fault(field, reason)]) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ArithmeticError) as error:
        raise _invalid([Fault("body", f"is not JSON that can be read: {error}")]) from error
    if b"\\u0000" in body:
        raise _invalid([Fault("body", "holds the character U+0000, which cannot be stored")])
    return batch


def _invalid(faults: list[Fault]) -> Refused:
    return Refused(
        "The batch was not taken in.",
        code="invalid_events",
        faults=faults,
        remedy="Correct these events and send all again.",
    )


def _check_quantities(session: Session, batch: EventsIn) -> None:
    """What a meter adds up must be a number, and a finite one of sane size."""
    by_type: dict[str, list[Meter]] = {}
    for meter in catalog.meters(session):
        by_type.setdefault(meter.event_type, []).append(meter)
    faults = [
        Fault(f"events.{i}.data.{meter.quantity_field}", reason)
        for i, event in enumerate(batch.events)
        for meter in by_type.get(event.type, ())
        if (reason := _wrong(event.data.get(meter.quantity_field)))
    ]
    if faults:
        raise _invalid(faults[:20])


def _wrong(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return "must be a number"
    number = Decimal(value)
    if not number.is_finite() or abs(number) > LARGEST or int(number.as_tuple().exponent) < -30:
        return "must be a finite number below 10^30 with at most 30 decimal places"
    return ""


class Total(BaseModel):
    """A meter's quantity over some days of a customer."""

    meter: str
    quantity: Decimal
    days: dict[date, Decimal]


@router.get("/customers/{customer_id}/usage")
def read_usage(customer_id: str, session: Database, key: Reader, since: date, until: date) -> list[Total]:
    """Folded totals by meter and local day, from `since` up to but not including `until`; live."""
    customer(session, customer_id)
    found: dict[str, dict[date, Decimal]] = {}
    for (meter, day), quantity in sorted(usage.totals_of(session, [customer_id], since)[customer_id].items()):
        if day < until:
            found.setdefault(meter, {})[day] = quantity
    return [Total(meter=m, quantity=sum(days.values(), Decimal(0)), days=days) for m, days in found.items()]


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

    subject: str | None = None


@router.post("/quarantine/replay")
def replay_quarantine(body: ReplayIn, session: Database, key: Writer) -> Received:
    """Send quarantined events again, up to 10,000; those whose customer is known by now are stored and folded."""
    return usage.replay(session, body.subject, MOST_EVENTS)
