"""Usage that is not billed, so that somebody says whose it is, what counts it, or what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.access import Database, Reader
from api.bodies import ExactRoute
from api.fields import Days
from billing.errors import Fault, Refused
from billing.unpriced import Why
from models import unbilled
from models.unbilled import ByNoMeter, Estimate, WhyWaiting

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


class WithoutPriceOut(BaseModel):
    """What a meter counts of a customer's days on which no price looks at it."""

    customer_id: str
    meter: str
    quantity: Decimal
    events: int
    days: int
    first_day: date
    last_day: date
    why: Why
    estimates: list[WorthOut]


class WithoutPricePageOut(BaseModel):
    """Usage without a price, by customer and meter."""

    usage: list[WithoutPriceOut]
    next: str | None


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
            estimates=_worth(one.estimates),
        )
        for one in unbilled.of_nobody(session, after, limit)
    ]


@router.get("/by-no-meter")
def list_usage_by_no_meter(
    session: Database,
    key: Reader,
    days: Days,
    after_customer: str = "",
    after_type: str = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[ByNoMeter]:
    """A page of events that no meter counted, by customer and type, of days from `since` to before `until`: days of
    which some were counted are left out (the audit of the customer has how many were not).
    """
    return unbilled.by_no_meter(session, days.start, days.end, (after_customer, after_type), limit)


LONGEST_DAYS = 400


@router.get("/without-price")
def list_usage_without_price(
    session: Database,
    key: Reader,
    days: Days,
    after_customer: str = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> WithoutPricePageOut:
    """What meters count of days from `since` to before `until`, and no subscription of the customer has a price for.

    A page looks at `limit` customers that have usage, behind `after_customer`; it may show none of them. A subscription
    that is signed from the first day on bills what is shown here; an amended plan, what comes from its day on.
    """
    if days.days > LONGEST_DAYS:
        raise Refused(
            "So many days are too many for one answer.",
            code="too_many_days",
            faults=[Fault("until", f"must lie at most {LONGEST_DAYS} days after `since`")],
            remedy="Ask for them part by part.",
        )
    page = unbilled.without_price(session, days, after_customer, limit)
    return WithoutPricePageOut(
        usage=[
            WithoutPriceOut(
                customer_id=one.customer_id,
                meter=one.usage.meter,
                quantity=one.usage.quantity,
                events=one.usage.events,
                days=one.usage.days,
                first_day=one.usage.first_day,
                last_day=one.usage.last_day,
                why=one.usage.why,
                estimates=_worth(one.estimates),
            )
            for one in page.found
        ],
        next=page.after,
    )


def _worth(estimates: Sequence[Estimate]) -> list[WorthOut]:
    return [
        WorthOut(meter=e.meter, quantity=e.quantity, amount_minor=e.amount.minor, currency=e.amount.currency)
        for e in estimates
    ]
