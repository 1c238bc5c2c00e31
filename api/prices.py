"""Prices tried out: what a price or a plan costs for given quantities or events. Nothing is stored."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session

from api.access import Database, Reader
from api.bodies import ExactRoute
from api.fields import Day, Id, KnownCurrency, Moment, Percent, Seats
from api.items import WithItems
from api.plans import PlanContent
from billing import preview
from billing.errors import Fault, Refused
from billing.line import Because
from billing.period import Period
from billing.plan import Plan, PlanItem
from billing.portion import Portion
from billing.preview import ALONE, Trial, TriedEvent
from billing.pricing import Price
from billing.usage import Totals
from models import catalog

router = APIRouter(prefix="/v1/prices", tags=["Catalog"], route_class=ExactRoute)

MOST_PORTIONS = 10_000
Quantity = Annotated[Decimal, Field(ge=-(10**30), le=10**30, max_digits=60)]


class UsageIn(BaseModel):
    """Usage of one meter. A price that is tried alone has the meter `quantity`.

    `properties` are the values that the events have in common, `each` is the quantity of every single one of `events`.
    """

    model_config = ConfigDict(extra="forbid")
    meter: str = ALONE
    quantity: Quantity
    events: Annotated[int, Field(ge=0, le=10**12)] = 1
    properties: dict[str, str] = {}
    each: Quantity | None = None


class EventIn(BaseModel):
    """An event as the product would send it: its `type`, and in `data` what meters add up and tell apart.

    Of its `time` only a `weighted_sum` asks: the period begins with the level of before, and what lies behind it does
    not count. All others count it whenever it happened.
    """

    model_config = ConfigDict(extra="forbid")
    type: str
    data: dict[str, Any]
    time: Moment | None = None


class PreviewIn(WithItems):
    """What is tried, and with what: one of `price`, `item`, `plan`; and either `quantity`, or `usage` and `events`.

    `plan` is the id of one in the catalog (in `version`, or the newest) or a plan as it would be published. `currency`
    picks among a plan's currencies; a price or item alone needs it. `period_number` is which period of a subscription
    it is, from 0: discounts may hold in the first ones only. `events` are counted by the catalog's meters, and come on
    top of `usage`. Quantities may be below zero, as events that take usage back make them: they are priced as they are
    billed. `starts_on` is the first day of the period; today if left out.
    """

    price: Price | None = None
    item: PlanItem | None = None
    plan: Id | PlanContent | None = None
    version: int | None = None
    currency: KnownCurrency | None = None
    quantity: Quantity | None = None
    usage: Annotated[list[UsageIn], Field(max_length=MOST_PORTIONS)] = []
    events: Annotated[list[EventIn], Field(max_length=MOST_PORTIONS)] = []
    seats: Seats = Decimal(1)
    discount_percent: Percent = Decimal(0)
    period_number: Annotated[int, Field(ge=0, le=preview.MOST_PERIODS)] = 0
    starts_on: Day | None = None


class PricedLine(BaseModel):
    """A line as an invoice would have it, in units of the currency, explained in words and in figures."""

    item: str
    kind: str
    description: str
    quantity: Decimal
    unit: str
    gross: Decimal
    discount: Decimal
    net: Decimal
    explanation: list[str]
    because: Because


class Priced(BaseModel):
    """The lines of one whole period, and their sum before tax, in units of the `currency`."""

    currency: str
    period: Period
    lines: list[PricedLine]
    net: Decimal


@router.post("/preview")
def preview_price(body: PreviewIn, session: Database, key: Reader) -> Priced:
    """Price a whole period: fees, usage, discounts, bounds and commitments, each line explained. Nothing is stored."""
    plan = _plan(session, body)
    usage, dated = _usage(session, body, plan)
    trial = Trial(plan, usage, body.seats, body.discount_percent, number=body.period_number, dated=dated)
    try:
        preview.check_trial(trial)
        found = preview.quote(trial, body.starts_on or datetime.now(UTC).date())
    except Refused as refusal:
        faults = [Fault(_as_sent(fault.field, body), fault.reason) for fault in refusal.faults]
        remedy = "Mend what is named." if faults else refusal.remedy
        raise Refused(refusal.reason, code=refusal.code, faults=faults, remedy=remedy) from refusal
    return Priced(
        currency=plan.currency,
        period=found.period,
        net=found.net.major,
        lines=[
            PricedLine(
                item=tried.line.item,
                kind=tried.line.kind,
                description=tried.line.description,
                quantity=tried.line.because.quantity,
                unit=tried.line.because.unit,
                gross=tried.line.gross.major,
                discount=tried.line.discount.major,
                net=tried.line.net.major,
                explanation=list(tried.because),
                because=tried.line.because,
            )
            for tried in found.lines
        ],
    )


def _plan(session: Session, body: PreviewIn) -> Plan:
    """The one thing that is tried, as a plan in the currency asked for."""
    given = [name for name in ("price", "item", "plan") if getattr(body, name) is not None]
    if len(given) != 1:
        said = f"give one of price, item and plan; there is {' and '.join(given) or 'none'}"
        raise _refused("plan", said, "Send exactly one of these.")
    if body.plan is not None:
        if isinstance(body.plan, str):
            plan = catalog.plan(session, body.plan, body.version)
        else:
            plan = body.plan.as_plan("preview")
        priced = plan.priced_in(body.currency or plan.currency)
        if priced is None:
            said = f"the plan has prices in {', '.join(plan.currencies)}"
            raise _refused("currency", said, "Choose one of these, or leave it out.")
        return priced
    if body.currency is None:
        raise _refused("currency", "is needed for a price or item alone", "Add the `currency`, such as EUR.")
    if body.item is not None:
        return preview.of_item(body.item, body.currency)
    assert body.price is not None
    return preview.alone(body.price, body.currency)


def _as_sent(field: str, body: PreviewIn) -> str:
    """The path of a fault in the plan, as the caller wrote it."""
    if field == "number":
        return "period_number"
    if body.plan is not None:
        return f"plan.{field}" if field.startswith(("items", "discounts", "bounds", "invoice", "in_", "ent")) else field
    return field.replace("items.0.price", "price") if body.price is not None else field.replace("items.0", "item")


def _usage(session: Session, body: PreviewIn, plan: Plan) -> tuple[dict[str, tuple[Portion, ...]], Totals]:
    """By meter: a bare quantity, or usage and events together. And by day, where a meter asks for events' times."""
    found: dict[str, list[Portion]] = {}
    if body.quantity is not None:
        if others := [name for name in ("usage", "events") if getattr(body, name)]:
            said = f"cannot be given beside {' and '.join(others)}"
            raise _refused("quantity", said, "Leave it out, or give nothing but it.")
        found[_only_meter(plan)] = [Portion(body.quantity)]
    for used in body.usage:
        properties = tuple(sorted(used.properties.items()))
        found.setdefault(used.meter, []).append(Portion(used.quantity, used.events, properties, used.each))
    meters = catalog.live_meters(session) if body.events else ()
    events = [TriedEvent(event.type, event.data, event.time) for event in body.events]
    counted, dated = preview.count(plan, meters, events)
    for meter, portions in counted.items():
        found.setdefault(meter, []).extend(portions)
    return {meter: tuple(portions) for meter, portions in found.items()}, dated


def _only_meter(plan: Plan) -> str:
    """Which meter a bare quantity is of."""
    meters = {item.meter for item in plan.items if item.meter}
    if len(meters) != 1:
        said = f"say in `usage` of which meter it is; the plan has {', '.join(sorted(meters)) or 'none'}"
        raise _refused("quantity", said, "Give `usage` instead, of meters that the plan has.")
    return str(meters.pop())


def _refused(field: str, reason: str, remedy: str) -> Refused:
    return Refused(
        "The price cannot be tried as asked.", code="invalid_request", faults=[Fault(field, reason)], remedy=remedy
    )
