"""Usage that is not billed, so that somebody says whose it is or what counts it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.access import Database, Reader
from api.bodies import ExactRoute
from api.fields import Day
from models import unbilled
from models.unbilled import ByNoMeter, WhyWaiting

router = APIRouter(prefix="/v1/usage", tags=["Usage"], route_class=ExactRoute)


class WorthOut(BaseModel):
    """A quantity at the mean net price of a unit on all invoices of 90 days up to the newest."""

    meter: str
    quantity: Decimal
    amount_minor: int
    currency: str


class OfNobodyOut(BaseModel):
    """Events of a subject that wait in quarantine: nobody is known by it, or their times are out of bounds."""

    subject: str
    customer_id: str | None
    types: list[str]
    reasons: list[WhyWaiting]
    events: int
    first_received_at: datetime
    last_received_at: datetime
    estimated_events: int
    estimates: list[WorthOut]


@router.get("/of-nobody")
def list_usage_of_nobody(
    session: Database, key: Reader, after: str = "", limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> list[OfNobodyOut]:
    """A page of what waits in quarantine, by subject, behind the subject `after`; with what it may be worth.

    If nobody is known by the subject, give it to a customer as an alias; then replay the quarantine. What waits for its
    time, as `reasons` say, is replayed with `whatever_time` if the time is meant.
    """
    return [
        OfNobodyOut(
            subject=one.subject,
            customer_id=one.customer_id,
            types=list(one.types),
            reasons=list(one.reasons),
            events=one.events,
            first_received_at=one.first_received_at,
            last_received_at=one.last_received_at,
            estimated_events=one.estimated_events,
            estimates=[
                WorthOut(meter=e.meter, quantity=e.quantity, amount_minor=e.amount.minor, currency=e.amount.currency)
                for e in one.estimates
            ],
        )
        for one in unbilled.of_nobody(session, after, limit)
    ]


@router.get("/by-no-meter")
def list_usage_by_no_meter(
    session: Database,
    key: Reader,
    since: Day,
    until: Day,
    after_customer: str = "",
    after_type: str = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[ByNoMeter]:
    """A page of events that no meter looks at, by customer and type, of days from `since` to before `until`."""
    return unbilled.by_no_meter(session, since, until, (after_customer, after_type), limit)
