"""Meters and plans."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, StringConstraints

from api.access import Administrator, Database, Reader
from api.bodies import ExactRoute
from api.fields import Currency, Id, Name
from billing.errors import Fault, Refused
from billing.period import Interval
from billing.plan import Plan, PlanItem
from models import catalog
from models.catalog import Meter

router = APIRouter(prefix="/v1", tags=["Catalog"], route_class=ExactRoute)

DIGITS = 12
PLACES = 30
MOST_INTERVALS = 120


class MeterIn(BaseModel):
    """Adds up the field `quantity_field` of the events of one type."""

    model_config = ConfigDict(extra="forbid")
    id: Id
    name: Name
    event_type: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    quantity_field: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    unit: Annotated[str, StringConstraints(max_length=50)] = ""


class PlanIn(BaseModel):
    """A plan to be published. Write rates as text ("0.0000025"), so that no program on the way rounds them."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    currency: Currency
    items: list[PlanItem]
    interval: Interval = Interval()


@router.post("/meters", status_code=201)
def create_meter(body: MeterIn, session: Database, key: Administrator) -> Meter:
    """Make a meter; the same again changes nothing, another one under the same id is refused."""
    row = Meter(**body.model_dump())
    standing = session.get(Meter, row.id)
    if standing is None:
        session.add(row)
        return row
    if standing.model_dump() != row.model_dump():
        raise Refused(
            f"The meter {row.id!r} exists and differs.", code="conflict", remedy="Give the new meter another id."
        )
    return standing


@router.get("/meters")
def list_meters(session: Database, key: Reader) -> list[Meter]:
    """All meters."""
    return catalog.meters(session)


@router.put("/plans/{plan_id}")
def publish_plan(plan_id: Id, body: PlanIn, session: Database, key: Administrator) -> Plan:
    """Publish a plan as its next version. What was sold before keeps its version; the same content is no new one."""
    _refuse_absurd(body)
    draft = Plan(plan_id, 1, body.name, body.currency, tuple(body.items), body.interval)
    return catalog.publish(session, draft, datetime.now(UTC))


def _refuse_absurd(body: PlanIn) -> None:
    """Prices that no invoice could state, and intervals that no calendar could hold."""
    faults = [
        Fault(f"items.{i}.price.{path}", f"must be below 10^{DIGITS} and have at most {PLACES} decimal places")
        for i, item in enumerate(body.items)
        for path, number in _numbers(asdict(item.price))
        if number.is_finite() and (number.adjusted() >= DIGITS or int(number.as_tuple().exponent) < -PLACES)
    ]
    if body.interval.count > MOST_INTERVALS:
        faults.append(Fault("interval.count", f"must be at most {MOST_INTERVALS}"))
    if faults:
        raise Refused("The plan cannot be billed as it stands.", code="invalid_plan", faults=faults)


def _numbers(value: object, path: str = "") -> Iterator[tuple[str, Decimal]]:
    match value:
        case Decimal():
            yield path, value
        case dict():
            for key, inner in value.items():
                yield from _numbers(inner, f"{path}.{key}".strip("."))
        case list() | tuple():
            for no, inner in enumerate(value):
                yield from _numbers(inner, f"{path}.{no}".strip("."))


@router.get("/plans")
def list_plans(session: Database, key: Reader) -> list[Plan]:
    """Every version of every plan."""
    return catalog.plans(session)


@router.get("/plans/{plan_id}")
def read_plan(plan_id: str, session: Database, key: Reader, version: int | None = None) -> Plan:
    """A plan's newest version, or the one asked for."""
    return catalog.plan(session, plan_id, version)
