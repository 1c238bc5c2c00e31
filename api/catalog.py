"""Meters, and the whole catalog at once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, StringConstraints

import billing.catalog
from api.access import Administrator, Database, Reader
from api.bodies import ExactRoute
from api.fields import Day, Id, Name
from api.items import WithItems
from api.plans import PlanContent
from billing.aggregation import RateWindow
from billing.catalog import Catalog, Feature, Filter, Offer, Override, Product, Resolution
from billing.late import NEXT_INVOICE, Late
from billing.modifiers import Coupon
from billing.plan import Plan
from billing.portion import Aggregation, TimeUnit
from models import catalog, meter_version
from models.catalog import Published

router = APIRouter(prefix="/v1", tags=["Catalog"], route_class=ExactRoute)


class MeterBody(BaseModel):
    """How usage is counted: what is made of a field of the events of one type, and of which of them."""

    model_config = ConfigDict(extra="forbid")
    id: Id
    name: Name
    event_type: str
    quantity_field: str = ""
    unit: Annotated[str, StringConstraints(max_length=50)] = ""
    dimensions: list[str] = []
    per_event: bool = False
    resolution: Resolution = "hour"
    aggregation: Aggregation = "sum"
    filters: list[Filter] = []
    percent: Decimal | None = None
    rate_window: RateWindow | None = None
    time_unit: TimeUnit | None = None
    operation_field: str = ""
    carries_over: bool = False
    expression: str = ""
    late: Late = NEXT_INVOICE

    @classmethod
    def of(cls, meter: billing.catalog.Meter) -> MeterBody:
        rest = _fields(meter)
        return cls(id=rest.pop("meter_id"), **rest)

    def as_meter(self) -> billing.catalog.Meter:
        rest = {name: getattr(self, name) for name in MeterBody.model_fields if name != "id"}
        lists = {"dimensions": tuple(self.dimensions), "filters": tuple(self.filters)}
        return billing.catalog.Meter(meter_id=self.id, **rest | lists)


@router.post("/meters", status_code=201)
def create_meter(body: MeterBody, session: Database, key: Administrator) -> MeterBody:
    """Make a meter; the same again changes nothing. Of one that exists `name` and `late` may change, and nothing
    else: how it counts is changed by a rebuild.
    """
    catalog.put_meter(session, body.as_meter())
    return body


@router.get("/meters")
def list_meters(session: Database, key: Reader) -> list[MeterBody]:
    """All meters, in order of id."""
    return [MeterBody.of(meter) for meter in catalog.live_meters(session)]


@router.get("/meters/{meter_id}")
def read_meter(meter_id: str, session: Database, key: Reader) -> MeterBody:
    """One meter, as it counts from its newest version on."""
    return MeterBody.of(meter_version.meter(session, meter_id))


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


class CatalogBody(WithItems):
    """Everything that can be sold, each kind in order of id."""

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
        meters=[MeterEntry(**_fields(meter)) for meter in live.meters],
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
        meters=tuple(billing.catalog.Meter(**_fields(meter)) for meter in body.meters),
        coupons=tuple(body.coupons),
        offers=tuple(Offer(offer.plan.as_plan(offer.plan.plan_id), offer.sold_from) for offer in body.offers),
        overrides=tuple(body.overrides),
    )
    return catalog.apply(session, draft, datetime.now(UTC))


def _fields(meter: billing.catalog.Meter) -> dict[str, Any]:
    return {field.name: getattr(meter, field.name) for field in fields(billing.catalog.Meter)}


def _entry(plan: Plan) -> PlanEntry:
    return PlanEntry(**{field.name: getattr(plan, field.name) for field in fields(Plan)})
