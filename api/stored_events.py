"""The raw events behind any total: in pages, or all of them as a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlmodel import Session

from api.access import Database, Doors, Open, Reader
from api.bodies import ExactRoute
from api.event_export import FORMATS, written
from api.fields import Days, Moment
from api.pages import behind, place
from billing.catalog import Meter
from billing.errors import Fault, Refused
from billing.event_check import fields_read
from billing.period import refuse_empty
from billing.uncounted import why_uncounted
from models import event, meter_version
from models.customer import customer
from models.event import AS_STORED, Narrowed, Place, Stored

router = APIRouter(prefix="/v1/customers", tags=["Usage"], route_class=ExactRoute)

ROWS_AT_ONCE = 5_000
Format = Literal["csv", "ndjson", "parquet"]


class EventName(BaseModel):
    """What makes an event one."""

    source: str
    id: str


class VoidedOut(BaseModel):
    """Why an event does not count any more, and since when."""

    reason: str
    by: str
    at: datetime
    instead: EventName | None


class StoredEvent(BaseModel):
    """An event as it is kept. `meters` are those that count it; `day` is the customer's own."""

    source: str
    id: str
    subject: str
    type: str
    time: datetime
    received_at: datetime
    day: date
    data: dict[str, Any]
    meters: list[str]
    void: bool
    voided: VoidedOut | None
    uncounted_because: str | None


class EventPage(BaseModel):
    """Events in order of time, source and id; `next` is what to send as `after` for the page behind, null if it is the
    last.
    """

    events: list[StoredEvent]
    next: str | None


def _narrowing(
    starts_at: Moment | None = None, ends_at: Moment | None = None, property: Annotated[tuple[str, ...], Query()] = ()
) -> Narrowed:
    pairs = [one.partition("=") for one in property]
    if wrong := [one for one in pairs if not one[0] or not one[1]]:
        raise Refused(
            "The request does not fit.",
            code="invalid_request",
            faults=[
                Fault("property", f"{''.join(one)!r} must be a name and a value, such as model=large") for one in wrong
            ],
            remedy="Correct it, or leave it out.",
        )
    if starts_at and ends_at:
        refuse_empty(starts_at, ends_at, ("starts_at", "ends_at"))
    return Narrowed(starts_at, ends_at, tuple((name, value) for name, _, value in pairs))


Narrowing = Annotated[Narrowed, Depends(_narrowing)]


@router.get("/{customer_id}/events", response_model=EventPage)
def list_events(
    customer_id: str,
    session: Database,
    key: Reader,
    days: Days,
    narrowed: Narrowing,
    meter: str | None = None,
    uncounted: bool = False,
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """A page of a customer's events of local days from `since` up to but not including `until`.

    With `meter`, only those that it counted: the events behind its total; of a window or of values of dimensions, with
    `starts_at`, `ends_at` and `property`. With `uncounted`, those of its type that it does not count, void ones aside,
    and why it would not count them as it is now.
    """
    looking = _known(session, customer_id, meter, narrowed)
    why = _why(looking) if uncounted else None
    if looking and uncounted:
        narrowed = narrowed._replace(uncounted=looking.event_type)
    between = (days.start, days.end)
    rows = event.events_of(session, customer_id, between, meter, place(after, _KEYS), limit + 1, narrowed)
    last = rows[limit - 1] if len(rows) > limit else None
    following = behind(last.occurred_at.isoformat(), last.source, last.id) if last else None
    page = {
        "events": [written(row) | {"uncounted_because": why and why(row)} for row in rows[:limit]],
        "next": following,
    }
    return Response(msgspec.json.encode(page), media_type="application/json")


@router.get("/{customer_id}/events/export", response_class=StreamingResponse)
def export_events(
    customer_id: str,
    open_: Open,
    key: Reader,
    days: Days,
    narrowed: Narrowing,
    format: Format,
    meter: str | None = None,
) -> StreamingResponse:
    """The same events, all of them, as a file: CSV, lines of JSON, or Apache Parquet; the columns are the same.

    `perennial events import` takes it as it is: its events are known, and count where they are not.
    """
    with open_.transaction() as session:
        _known(session, customer_id, meter, narrowed)
    write, media = FORMATS[format]
    name = f"{customer_id}-{days.start}-{days.end}.{format}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(
        write(_pages(open_, customer_id, (days.start, days.end), meter, narrowed)), media_type=media, headers=headers
    )


def _known(session: Session, customer_id: str, meter_id: str | None, narrowed: Narrowed) -> Meter | None:
    """NotFound if there is no such customer, or no such meter; refused if the meter does not look at such fields."""
    customer(session, customer_id)
    if meter_id is None:
        return None
    meter = meter_version.meter(session, meter_id)
    known = fields_read(meter)
    strange = sorted({name for name, _ in narrowed.properties} - set(known))
    if strange:
        raise Refused(
            f"The meter {meter_id!r} does not look at {', '.join(map(repr, strange))}.",
            code="unknown_dimension",
            faults=[Fault("property", f"must be of the fields that the meter looks at: {', '.join(known) or 'none'}")],
            remedy="Name other fields, or leave out the meter.",
        )
    return meter


def _why(meter: Meter | None) -> Callable[[Stored], str]:
    """Refused without a meter: what none looks at is another question."""
    if meter is None:
        raise Refused(
            "The request does not fit.",
            code="invalid_request",
            faults=[Fault("uncounted", "is asked of a meter; there is none")],
            remedy="Name the meter too. GET /v1/usage/by-no-meter has what none counted.",
        )
    why = why_uncounted(meter)
    return lambda row: why(AS_STORED.decode(row.data))


def _pages(
    open_: Doors, customer_id: str, between: tuple[date, date], meter: str | None, narrowed: Narrowed
) -> Iterator[list[Stored]]:
    """Page by page, each in a transaction of its own: what is stored never changes."""
    after: Place | None = None
    while True:
        with open_.transaction() as session:
            rows = event.events_of(session, customer_id, between, meter, after, ROWS_AT_ONCE, narrowed)
        if rows:
            yield rows
        if len(rows) < ROWS_AT_ONCE:
            return
        after = (rows[-1].occurred_at, rows[-1].source, rows[-1].id)


_KEYS = msgspec.json.Decoder(tuple[Annotated[datetime, msgspec.Meta(tz=True)], str, str])
