"""Products, features, coupons and customers' overrides."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlmodel import Session

from api.access import Administrator, Database, Reader
from api.bodies import ExactRoute
from api.fields import Code, Currency, Day, Id, LongText, Name, Page
from api.items import WithItems
from billing.catalog import Feature, FeatureKind, Override, Product
from billing.modifiers import Coupon, Discount
from billing.plan import Entitlement, PlanItem
from models import catalog
from models.customer import customer as known_customer
from models.entry import COUPONS, FEATURES, OVERRIDES, PRODUCTS, overrides_of, redeemed_count

router = APIRouter(prefix="/v1", tags=["Catalog"], route_class=ExactRoute)


class ProductIn(BaseModel):
    """What revenue is reported by."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    description: LongText = ""


class FeatureIn(BaseModel):
    """What plans entitle to: a switch, a limit in `unit`, or a value."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    kind: FeatureKind = "switch"
    unit: Annotated[str, StringConstraints(max_length=50)] = ""


class CouponIn(BaseModel):
    """A promise of discounts; `currency` is needed where an amount is taken off."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    discounts: list[Discount]
    currency: Currency | None = None
    redeem_by: Day | None = None
    most: Annotated[int, Field(ge=1, lt=10**12)] | None = None


class OverrideIn(WithItems):
    """A customer's own items and entitlements in a plan, for terms that begin from a day on."""

    customer_id: str
    plan_id: str
    currency: Currency
    effective_from: Day
    items: list[PlanItem] = []
    discounts: list[Discount] = []
    entitlements: list[Entitlement] = []


@dataclass(frozen=True, slots=True)
class CouponOut(Coupon):
    """A coupon, and how many subscriptions have redeemed it."""

    redeemed: int = 0


@router.put("/products/{product_id}")
def put_product(product_id: Id, body: ProductIn, session: Database, key: Administrator) -> Product:
    """Make a product, or call it otherwise from now on."""
    return catalog.put_product(session, Product(product_id, **body.model_dump()), datetime.now(UTC))


@router.get("/products")
def list_products(session: Database, key: Reader, after: str = "", limit: Page = 50) -> list[Product]:
    """A page of products, behind the id `after`."""
    return PRODUCTS.newest(session, after, limit)


@router.get("/products/{product_id}")
def read_product(product_id: str, session: Database, key: Reader) -> Product:
    """One product."""
    return PRODUCTS.get(session, product_id)


@router.put("/features/{feature_id}")
def put_feature(feature_id: Id, body: FeatureIn, session: Database, key: Administrator) -> Feature:
    """Make a feature, or call it otherwise; its kind and unit stay, since plans were sold with it."""
    return catalog.put_feature(session, Feature(feature_id, **body.model_dump()), datetime.now(UTC))


@router.get("/features")
def list_features(session: Database, key: Reader, after: str = "", limit: Page = 50) -> list[Feature]:
    """A page of features, behind the id `after`."""
    return FEATURES.newest(session, after, limit)


@router.get("/features/{feature_id}")
def read_feature(feature_id: str, session: Database, key: Reader) -> Feature:
    """One feature."""
    return FEATURES.get(session, feature_id)


@router.put("/coupons/{coupon_id}")
def put_coupon(coupon_id: Code, body: CouponIn, session: Database, key: Administrator) -> CouponOut:
    """Make a coupon, or change it for whoever redeems it from now on; who has redeemed it keeps what it was then."""
    made = Coupon(coupon_id, body.name, tuple(body.discounts), body.currency, body.redeem_by, body.most)
    return _counted(session, catalog.put_coupon(session, made, datetime.now(UTC)))


@router.get("/coupons")
def list_coupons(session: Database, key: Reader, after: str = "", limit: Page = 50) -> list[Coupon]:
    """A page of coupons, behind the id `after`."""
    return COUPONS.newest(session, after, limit)


@router.get("/coupons/{coupon_id}")
def read_coupon(coupon_id: str, session: Database, key: Reader) -> CouponOut:
    """One coupon, with how often it has been redeemed."""
    return _counted(session, COUPONS.get(session, coupon_id))


def _counted(session: Session, coupon: Coupon) -> CouponOut:
    same = {field.name: getattr(coupon, field.name) for field in fields(Coupon)}
    return CouponOut(**same, redeemed=redeemed_count(session, coupon.coupon_id))


@router.put("/overrides/{override_id}")
def put_override(override_id: Id, body: OverrideIn, session: Database, key: Administrator) -> Override:
    """Make an override, or change it for terms that are agreed from now on; terms that stand keep theirs."""
    made = Override(
        override_id,
        body.customer_id,
        body.plan_id,
        body.currency,
        body.effective_from,
        tuple(body.items),
        tuple(body.discounts),
        tuple(body.entitlements),
    )
    return catalog.put_override(session, made, datetime.now(UTC))


@router.get("/overrides")
def list_overrides(
    session: Database, key: Reader, customer: str | None = None, after: str = "", limit: Page = 50
) -> list[Override]:
    """A page of overrides, behind the id `after`; only one customer's, if named."""
    if customer is None:
        return OVERRIDES.newest(session, after, limit)
    known_customer(session, customer)
    mine = overrides_of(session, [customer])[customer]
    return sorted((one for one in mine if one.override_id > after), key=lambda one: one.override_id)[:limit]


@router.get("/overrides/{override_id}")
def read_override(override_id: str, session: Database, key: Reader) -> Override:
    """One override."""
    return OVERRIDES.get(session, override_id)
