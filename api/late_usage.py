"""What came after its window was billed, and what becomes of it."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

from fastapi import APIRouter
from pydantic import BaseModel

from api.access import Database, Reader
from api.bodies import ExactRoute
from billing.errors import NotFound
from models.held import State, came_late
from models.standing import standing

router = APIRouter(prefix="/v1", tags=["Usage"], route_class=ExactRoute)


class CameLateOut(BaseModel):
    """Late usage of one window of a metered item, that is on no invoice."""

    state: State
    item: str
    meter: str
    first_day: date
    last_day: date
    quantity: Decimal
    net_minor: int
    currency: str
    task_id: str | None


@router.get("/subscriptions/{subscription_id}/late-usage")
def read_late_usage(subscription_id: str, session: Database, key: Reader) -> list[CameLateOut]:
    """A subscription's late usage that is on no invoice and what becomes of it, live."""
    one = standing(session, subscription_id)
    if one is None:
        raise NotFound("subscription", subscription_id)
    return [
        CameLateOut(
            state=came.state,
            item=came.item,
            meter=came.meter,
            first_day=came.period.start,
            last_day=came.period.end - timedelta(days=1),
            quantity=came.quantity,
            net_minor=came.net.minor,
            currency=came.net.currency,
            task_id=came.task_id,
        )
        for came in came_late(session, one)
    ]
