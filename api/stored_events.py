"""The raw events behind any total: in pages, or all of them as a file."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterator
from datetime import date, datetime
from typing import Annotated, Any, Literal

import msgspec
import pyarrow
import pyarrow.parquet
from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlmodel import Session

from api.access import Database, Doors, Open, Reader
from api.bodies import MEBIBYTE, ExactRoute
from api.fields import Days, Moment
from api.pages import behind, place
from billing.errors import Fault, Refused
from billing.event_check import fields_read
from billing.period import refuse_empty
from models import event, meter_version
from models.customer import customer
from models.event import Narrowed, Place, Stored

router = APIRouter(prefix="/v1/customers", tags=["Usage"], route_class=ExactRoute)

ROWS_AT_ONCE = 5_000
Format = Literal["csv", "ndjson", "parquet"]


class StoredEvent(BaseModel):
    """An event as it is kept. `meters` are those that counted it when it came; `day` is the customer's own."""

    source: str
    id: str
    type: str
    time: datetime
    received_at: datetime
    day: date
    data: dict[str, Any]
    meters: list[str]
    void: bool


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
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """A page of a customer's events of local days from `since` up to but not including `until`.

    With `meter`, only those that it counted: the events behind its total; of a window or of values of dimensions, with
    `starts_at`, `ends_at` and `property`.
    """
    _known(session, customer_id, meter, narrowed)
    rows = event.events_of(
        session, customer_id, (days.start, days.end), meter, place(after, _KEYS), limit + 1, narrowed
    )
    last = rows[limit - 1] if len(rows) > limit else None
    following = behind(last.occurred_at.isoformat(), last.source, last.id) if last else None
    page = {"events": [_written(row) for row in rows[:limit]], "next": following}
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
    """The same events, all of them, as a file: CSV, lines of JSON, or Apache Parquet."""
    with open_.transaction() as session:
        _known(session, customer_id, meter, narrowed)
    write, media = _FORMATS[format]
    name = f"{customer_id}-{days.start}-{days.end}.{format}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(
        write(_pages(open_, customer_id, (days.start, days.end), meter, narrowed)), media_type=media, headers=headers
    )


def _known(session: Session, customer_id: str, meter_id: str | None, narrowed: Narrowed) -> None:
    """NotFound if there is no such customer, or no such meter; refused if the meter does not look at such fields."""
    customer(session, customer_id)
    if meter_id is None:
        return
    known = fields_read(meter_version.meter(session, meter_id))
    strange = sorted({name for name, _ in narrowed.properties} - set(known))
    if strange:
        raise Refused(
            f"The meter {meter_id!r} does not look at {', '.join(map(repr, strange))}.",
            code="unknown_dimension",
            faults=[Fault("property", f"must be of the fields that the meter looks at: {', '.join(known) or 'none'}")],
            remedy="Name other fields, or leave out the meter.",
        )


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


def _lines(pages: Iterator[list[Stored]]) -> Iterator[bytes]:
    for rows in pages:
        yield b"".join(msgspec.json.encode(_written(row)) + b"\n" for row in rows)


def _table(pages: Iterator[list[Stored]]) -> Iterator[bytes]:
    """`data` stays JSON, in one column."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(StoredEvent.model_fields)
    for rows in pages:
        for row in rows:
            times = (row.occurred_at.isoformat(), row.received_at.isoformat(), row.day.isoformat())
            writer.writerow((row.source, row.id, row.type, *times, row.data, " ".join(row.meters), row.void))
        yield out.getvalue().encode()
        out.seek(0)
        out.truncate()
    yield out.getvalue().encode()


def _parquet(pages: Iterator[list[Stored]]) -> Iterator[bytes]:
    """Apache Parquet, a group of rows a page; `data` stays JSON. It goes to a file first, then out."""
    with tempfile.TemporaryFile() as file:
        with pyarrow.parquet.ParquetWriter(file, _COLUMNS, compression="zstd") as writer:
            for rows in pages:
                columns = [[getattr(row, name) for row in rows] for name in _COLUMNS.names]
                writer.write_table(pyarrow.table(columns, schema=_COLUMNS))
        file.seek(0)
        while piece := file.read(MEBIBYTE):
            yield piece


_MOMENT = pyarrow.timestamp("us", tz="UTC")
_COLUMNS = pyarrow.schema(
    [
        ("source", pyarrow.string()),
        ("id", pyarrow.string()),
        ("type", pyarrow.string()),
        ("occurred_at", _MOMENT),
        ("received_at", _MOMENT),
        ("day", pyarrow.date32()),
        ("data", pyarrow.string()),
        ("meters", pyarrow.list_(pyarrow.string())),
        ("void", pyarrow.bool_()),
    ]
)
_FORMATS = {
    "csv": (_table, "text/csv"),
    "ndjson": (_lines, "application/x-ndjson"),
    "parquet": (_parquet, "application/vnd.apache.parquet"),
}


def _written(row: Stored) -> dict[str, object]:
    """The event's data goes out as it came, digit by digit."""
    return {
        "source": row.source,
        "id": row.id,
        "type": row.type,
        "time": row.occurred_at,
        "received_at": row.received_at,
        "day": row.day,
        "data": msgspec.Raw(row.data.encode()),
        "meters": row.meters,
        "void": row.void,
    }


_KEYS = msgspec.json.Decoder(tuple[Annotated[datetime, msgspec.Meta(tz=True)], str, str])
