"""Events that are only tried, before usage is brought in from elsewhere: what it would change, in money by customer."""

from __future__ import annotations

from collections import Counter
from datetime import date
from decimal import Decimal
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from api.access import Doors, Open, Writer
from api.event_formats import Read, invalid
from api.event_media import LINES, is_stream, no_media
from api.events import BODY_OF_EVENTS, Answered, as_fault, batch_of, whatever_time
from api.rebuilds import RebuildWorth
from models.event import Event
from models.intake import Outcome
from models.trying import Tried, tried

router = APIRouter(prefix="/v1/events", tags=["Usage"])
_MEDIA = {media: body for media, body in BODY_OF_EVENTS["requestBody"]["content"].items() if media != LINES}
_DOCUMENT: dict[str, Any] = {
    "parameters": BODY_OF_EVENTS["parameters"],
    "requestBody": {"required": True, "content": _MEDIA},
}


class TriedDay(BaseModel):
    """A meter's quantity of a customer's local day: as it is, and with the events."""

    meter: str
    day: date
    before: Decimal
    after: Decimal


class TriedCustomer(BaseModel):
    """What the events would change for a customer: days, and money by currency; or why the money cannot be said."""

    customer_id: str
    days: list[TriedDay]
    money: list[RebuildWorth]
    refused: list[str]


class EventPreview(BaseModel):
    """What would become of the events, in numbers that add up to how many were sent, and what they would change."""

    accepted: int
    duplicate: int
    conflict: int
    quarantined: int
    invalid: int
    customers: list[TriedCustomer]


@router.post("/preview", openapi_extra=_DOCUMENT)
async def preview_events(request: Request, open_: Open, key: Writer) -> EventPreview:
    """Say what a batch of events would change for each customer, in quantity and money; nothing is kept. It is said as
    of one moment: what others send meanwhile is not in it. Who sends for the same customers and days may have to wait
    for it, about a second for 10,000 events.

    `late_minor` is what the next invoices would have more for periods that are billed, `open_minor` what periods that
    are not billed yet would come to more by now. With 422 all events are invalid.
    """
    free = whatever_time(request)
    if is_stream(request):
        raise no_media("A preview is of one batch, and not of a stream.")
    with open_.intake.room.holding() as hold:
        return await run_in_threadpool(_preview, open_, await batch_of(request, hold), free)


def _preview(open_: Doors, found: list[Read], free: bool) -> EventPreview:
    events = [one for one in found if isinstance(one, Event)]
    made = tried(open_.engine, events, open_.bounds, range(len(events)) if free else ())
    stored = iter(made.outcomes)
    outcomes = [one if isinstance(one, Outcome) else next(stored) for one in found]
    counts = Counter(outcome.kind for outcome in outcomes)
    if counts["invalid"] == len(found):
        unfit = (Answered(no, one.kind, one.reason, one.field) for no, one in enumerate(outcomes))
        raise invalid([as_fault(one) for one in unfit])
    return EventPreview(
        accepted=counts["accepted"],
        duplicate=counts["duplicate"],
        conflict=counts["conflict"],
        quarantined=counts["quarantined"],
        invalid=counts["invalid"],
        customers=[_customer(name, made) for name in made.days],
    )


def _customer(name: str, made: Tried) -> TriedCustomer:
    mine = [one for one in made.worth if one.customer_id == name]
    return TriedCustomer(
        customer_id=name,
        days=[TriedDay(meter=d.meter_id, day=d.day, before=d.before, after=d.after) for d in made.days[name]],
        money=[
            RebuildWorth(currency=one.currency, late_minor=one.worth.late.minor, open_minor=one.worth.open.minor)
            for one in mine
            if not one.refused
        ],
        refused=[one.refused for one in mine if one.refused],
    )
