"""What a subscription has used so far, and what it would cost."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.access import Database, Reader
from api.bodies import ExactRoute
from billing.errors import NotFound
from billing.period import local_day
from billing.subscription_usage import WindowUsage, periods_back, window_usage
from models.entity import now_on
from models.standing import standing
from models.usage import totals_of

router = APIRouter(prefix="/v1/subscriptions", tags=["Usage"], route_class=ExactRoute)


class WindowUsageOut(BaseModel):
    """A metered item over a window of a period: what was counted, what was billed, and what it costs by now."""

    item: str
    name: str
    meter: str
    unit: str
    first_day: date
    last_day: date
    quantity: Decimal
    events: int
    net_minor: int
    billed_quantity: Decimal
    billed_net_minor: int
    currency: str


@router.get("/{subscription_id}/usage")
def read_subscription_usage(
    subscription_id: str, session: Database, key: Reader, periods: Annotated[int, Query(ge=1, le=24)] = 2
) -> list[WindowUsageOut]:
    """The usage of the running period and of those before it, live, by item and window.

    Read from totals of days, so it takes the same time whatever the number of events. Where what was counted and what
    was billed differ in a past period, the next invoice has a line of late usage.
    """
    one = standing(session, subscription_id)
    if one is None:
        raise NotFound("subscription", subscription_id)
    asked = periods_back(one, local_day(now_on(session, one.clock_id), one.zone), periods)
    totals = totals_of(session, [one.customer_id], asked[0].start)[one.customer_id]
    return [_out(window) for window in window_usage(one, totals, asked)]


def _out(one: WindowUsage) -> WindowUsageOut:
    return WindowUsageOut(
        item=one.item,
        name=one.name,
        meter=one.meter,
        unit=one.unit,
        first_day=one.period.start,
        last_day=one.period.end - timedelta(days=1),
        quantity=one.quantity,
        events=one.events,
        net_minor=one.net.minor,
        billed_quantity=one.billed_quantity,
        billed_net_minor=one.billed_net.minor,
        currency=one.net.currency,
    )
