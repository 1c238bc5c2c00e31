"""Live totals by windows, from a minute to a month: of a customer, or of one subscription."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlmodel import Session

from api.access import Database, Reader
from api.bodies import ExactRoute
from api.fields import Day, Days
from billing.catalog import Meter
from billing.errors import Fault, NotFound, Refused
from billing.period import Period, instant, local_day, refuse_empty, zone
from billing.standing import Standing
from billing.subscription_usage import metered, metered_days, periods_back
from billing.windows import UsageWindow, WindowSize, by_window, level_by_window
from models import meter_version, usage
from models.customer import customer
from models.entity import now_on
from models.meter_version import counting
from models.standing import standing

router = APIRouter(prefix="/v1", tags=["Usage"], route_class=ExactRoute)

LONGEST_DAYS: dict[WindowSize, int] = {"minute": 2, "hour": 62, "day": 800, "week": 3700, "month": 3700}
"""How many days one answer covers, by size of windows."""


class Window(BaseModel):
    """What a meter counted from a moment up to, and not including, another one."""

    starts_at: datetime
    ends_at: datetime
    properties: dict[str, str]
    quantity: Decimal
    events: int


@router.get("/customers/{customer_id}/usage/windows")
def read_windows(
    customer_id: str,
    session: Database,
    key: Reader,
    meter: str,
    days: Days,
    window: WindowSize = "day",
    by: Annotated[tuple[str, ...], Query()] = (),
) -> list[Window]:
    """A meter's live totals by windows of the customer's clock, from `since` up to but not including `until`.

    From folded totals, whatever the number of events. Windows without events are left out, unless the meter carries
    over and has a level in them; time that has not passed yet counts as if nothing changed.
    """
    where = zone(customer(session, customer_id).time_zone)
    asked = Question(meter_version.meter(session, meter), window, by)
    asked.refuse_what_cannot_be_told(session, days)
    return [_out(one) for one in asked.answered(session, customer_id, where, days)]


@router.get("/subscriptions/{subscription_id}/usage/windows")
def read_subscription_windows(
    subscription_id: str,
    session: Database,
    key: Reader,
    meter: str,
    since: Day | None = None,
    until: Day | None = None,
    window: WindowSize = "day",
    by: Annotated[tuple[str, ...], Query()] = (),
) -> list[Window]:
    """The same of a subscription: of the days on which it runs and has an item of the meter, and windows cut at them.

    Without `until`, up to today or the end; without `since`, of the last period until then, or of as many of its last
    days as one answer covers.
    """
    one = standing(session, subscription_id)
    if one is None:
        raise NotFound("subscription", subscription_id)
    asked = Question(meter_version.meter(session, meter), window, by)
    if meter not in (meters := metered(one)):
        raise Refused(
            f"The subscription {subscription_id!r} has no item of the meter {meter!r}.",
            code="not_metered",
            faults=[Fault("meter", f"must be one of its meters: {', '.join(meters) or 'it has none'}")],
            remedy="Name a meter of its items, or ask for the customer's usage.",
        )
    days = _days_of(one, local_day(now_on(session, one.clock_id), one.zone), window, since, until)
    asked.refuse_what_cannot_be_told(session, days)
    return [
        _out(found.within(instant(part.start, one.zone), instant(part.end, one.zone)))
        for part in metered_days(one, meter, days)
        for found in asked.answered(session, one.customer_id, one.zone, part)
    ]


def _days_of(one: Standing, today: date, window: WindowSize, since: date | None, until: date | None) -> Period:
    """The days of its life that are asked for; refused if both are said, and hold nothing."""
    if since and until:
        refuse_empty(since, until)
    [period] = periods_back(one, today if until is None else until - timedelta(days=1), 1)
    end = until or max(period.start, min(period.end, today + timedelta(days=1)))
    first = since or max(period.start, end - timedelta(days=LONGEST_DAYS[window]))
    return Period(first, max(first, end)).overlap(one.life)


@dataclass(frozen=True, slots=True)
class Question:
    """Which windows of which meter, and the dimensions whose values are told apart."""

    meter: Meter
    window: WindowSize
    by: tuple[str, ...]

    @property
    def short(self) -> bool:
        return self.window in ("minute", "hour")

    def refuse_what_cannot_be_told(self, session: Session, days: Period) -> None:
        """Refused (422) if the meter does not keep such windows or dimensions, or they are too many for one answer."""
        kept_by = counting(session).holding(self.meter.meter_id).kept_by(days.start, days.end)
        if self.short and (kept_by == "day" or (self.window == "minute" and kept_by == "hour")):
            raise Refused(
                f"The meter {self.meter.meter_id!r} is kept by {kept_by}.",
                code="too_fine",
                faults=[Fault("window", f"must not be shorter than the meter's resolution, {kept_by}")],
                remedy="Ask for longer windows, or make a meter of a finer resolution.",
            )
        if days.days > LONGEST_DAYS[self.window]:
            raise Refused(
                "So many windows are too many for one answer.",
                code="too_many_windows",
                faults=[
                    Fault("until", f"must lie at most {LONGEST_DAYS[self.window]} days after `since` for this window")
                ],
                remedy="Ask for them part by part.",
            )
        strange = sorted(set(self.by) - set(self.meter.dimensions))
        if strange:
            its = ", ".join(self.meter.dimensions) or "it has none"
            raise Refused(
                f"The meter {self.meter.meter_id!r} does not keep {', '.join(map(repr, strange))} apart.",
                code="unknown_dimension",
                faults=[Fault("by", f"must be of the meter's dimensions: {its}")],
                remedy="Name other dimensions.",
            )

    def answered(self, session: Session, customer_id: str, where: ZoneInfo, days: Period) -> list[UsageWindow]:
        """The windows of a customer's days."""
        counted = usage.windows_of(session, customer_id, self.meter, where, days.start, days.end, short=self.short)
        if self.meter.carries:
            before = usage.level_before(session, customer_id, self.meter, days.start)
            return level_by_window(before, counted, self.window, where, days, self.by)
        return by_window(counted, self.window, where, self.by)


def _out(one: UsageWindow) -> Window:
    return Window(
        starts_at=one.starts_at,
        ends_at=one.ends_at,
        properties=dict(one.properties),
        quantity=one.quantity,
        events=one.events,
    )
