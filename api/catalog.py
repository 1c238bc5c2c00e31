"""Meters, and the whole catalog at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, StringConstraints

import billing.catalog
from api.access import Administrator, Database, Reader
from api.bodies import ExactRoute
from api.fields import Day, Id, Name
from api.plans import PlanContent
from billing.catalog import Catalog, Feature, Offer, Override, Product
from billing.errors import Refused
from billing.meter_check import dimension_faults
from billing.modifiers import Coupon
from billing.plan import Plan
from models import catalog
from models.catalog import Meter, Published

router = APIRouter(prefix="/v1", tags=["Catalog"], route_class=ExactRoute)


class MeterIn(BaseModel):
    """Adds up the field `quantity_field` of the events of one type."""

    model_config = ConfigDict(extra="forbid")
    id: Id
    name: Name
    event_type: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    quantity_field: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    unit: Annotated[str, StringConstraints(max_length=50)] = ""
    dimensions: list[str] = []
    per_event: bool = False


@router.post("/meters", status_code=201)
def create_meter(body: MeterIn, session: Database, key: Administrator) -> Meter:
    """Make a meter; the same again changes nothing, another one under the same id is refused."""
    faults = list(dimension_faults(body.dimensions, body.quantity_field))
    if faults:
        reason = f"The meter {body.id!r} cannot count as it stands."
        remedy = "Mend the named fields and send it again; nothing was stored."
        raise Refused(reason, code="invalid_meter", faults=faults, remedy=remedy)
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


@dataclass(frozen=True, slots=True)
class MeterEntry(billing.catalog.Meter):
    """A meter of the catalog."""


class PlanEntry(PlanContent):
    """A plan or add-on of the catalog. Publishing gives the version; the one written here does not count."""

    plan_id: Id
    version: int | None = None


class OfferEntry(BaseModel):
    """A plan or add-on, and the day from which its newest version is sold to new customers; null for not yet."""

    model_config = ConfigDict(extra="forbid")
    plan: PlanEntry
    sold_from: Day | None = None


class CatalogBody(BaseModel):
    """Everything that can be sold, each kind in order of id."""

    model_config = ConfigDict(extra="forbid")
    products: list[Product] = []
    features: list[Feature] = []
    meters: list[MeterEntry] = []
    coupons: list[Coupon] = []
    offers: list[OfferEntry] = []
    overrides: list[Override] = []


@router.get("/catalog")
def read_catalog(session: Database, key: Reader) -> CatalogBody:
    """The whole catalog as it is now, every plan in its newest version."""
    live = catalog.live(session)
    return CatalogBody(
        products=list(live.products),
        features=list(live.features),
        meters=[MeterEntry(**asdict(meter)) for meter in live.meters],
        coupons=list(live.coupons),
        offers=[OfferEntry(plan=_entry(offer.plan), sold_from=offer.sold_from) for offer in live.offers],
        overrides=list(live.overrides),
    )


@router.put("/catalog")
def apply_catalog(body: CatalogBody, session: Database, key: Administrator) -> list[Published]:
    """Publish what differs from the catalog as it is, all or nothing. What is left out stays as it is.

    The answer says what has changed; the same again changes nothing.
    """
    draft = Catalog(
        products=tuple(body.products),
        features=tuple(body.features),
        meters=tuple(billing.catalog.Meter(**asdict(meter)) for meter in body.meters),
        coupons=tuple(body.coupons),
        offers=tuple(Offer(offer.plan.as_plan(offer.plan.plan_id), offer.sold_from) for offer in body.offers),
        overrides=tuple(body.overrides),
    )
    return catalog.apply(session, draft, datetime.now(UTC))


def _entry(plan: Plan) -> PlanEntry:
    return PlanEntry(**{field.name: getattr(plan, field.name) for field in fields(Plan)})
