"""The catalog: meters, and what can be sold. What is published never changes, and what was sold keeps its version.

Plans are in models/plan.py, the other entries in models/entry.py; here is what concerns them together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, TypeVar

from sqlalchemy import ARRAY, Column, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, Session, SQLModel, col, select

from billing import catalog
from billing.catalog import Catalog, Feature, Filter, Offer, Override, Product
from billing.catalog_check import (
    MAY_CHANGE,
    catalog_faults,
    coupon_faults,
    feature_faults,
    offer_faults,
    override_faults,
)
from billing.errors import Fault, Refused
from billing.late import NEXT_INVOICE, late_faults
from billing.meter_check import counting_faults
from billing.modifiers import Coupon
from billing.plan import Plan
from billing.plan_check import Known, MeterShape
from models.database import cursor
from models.entry import COUPONS, FEATURES, OVERRIDES, PRODUCTS
from models.plan import AT_ONCE, PlanVersion, add_version, latest, newest_plans, plan, plan_versions, plans, sales, sell
from models.subscription import forget_seen_of
from models.values import read_late, to_json

T = TypeVar("T")

__all__ = [
    "AT_ONCE",
    "Meter",
    "PlanVersion",
    "Published",
    "apply",
    "decide_sale",
    "known",
    "latest",
    "live",
    "lock",
    "meters",
    "plan",
    "plan_versions",
    "plans",
    "publish",
    "put_coupon",
    "put_feature",
    "put_override",
    "put_product",
    "sell",
]


class Meter(SQLModel, table=True):
    """How usage is counted (billing/catalog.py); `filters` and `late` are kept as JSON."""

    __tablename__ = "meter"
    id: str = Field(primary_key=True)
    name: str
    event_type: str
    quantity_field: str
    unit: str
    dimensions: list[str] = Field(default_factory=list, sa_column=Column(ARRAY(Text), nullable=False))
    per_event: bool = False
    resolution: str = "hour"
    aggregation: str = "sum"
    filters: Any = Field(default_factory=list, sa_column=Column(JSONB, nullable=False))
    percent: Decimal | None = None
    rate_window: str | None = None
    time_unit: str | None = None
    operation_field: str = ""
    carries_over: bool = False
    expression: str = ""
    late: Any = Field(default_factory=lambda: to_json(NEXT_INVOICE), sa_column=Column(JSONB, nullable=False))
    version: int = 1


@dataclass(frozen=True, slots=True)
class Published:
    """What publishing changed: a new entry, a changed one, or (sale) only the day from which a plan is sold.

    `version` is the one that stands now; meters have none.
    """

    kind: Literal["product", "feature", "meter", "coupon", "plan", "override"]
    id: str
    what: Literal["new", "changed", "sale"]
    version: int | None = None


def meters(session: Session) -> list[Meter]:
    return list(session.exec(select(Meter).order_by(col(Meter.id))))


def known(session: Session) -> Known:
    """What a plan may name."""
    return Known(
        {m.id: MeterShape(frozenset(m.dimensions), m.per_event) for m in meters(session)},
        {f.feature_id: f.kind for f in FEATURES.newest(session)},
        frozenset(p.product_id for p in PRODUCTS.newest(session)),
    )


def publish(session: Session, draft: Plan, at: datetime, sold_from: date | None = AT_ONCE) -> Plan:
    """The plan as its next version, sold from that day on (None: not yet); the same content again is no new version."""
    lock(session)
    faults = offer_faults(draft, known(session), latest(session, draft.plan_id))
    _refuse(faults, f"The plan {draft.plan_id!r} cannot be billed as it stands.", "invalid_plan")
    found, _ = add_version(session, draft, at)
    sell(session, found.plan_id, found.version, sold_from, at)
    return found


def decide_sale(session: Session, plan_id: str, version: int, since: date | None, at: datetime, cause: str) -> bool:
    """From when on a published version is sold, or (None) that it is not; whether that is a change."""
    lock(session)
    return sell(session, plan_id, version, since, at, cause)


def put_product(session: Session, product: Product, at: datetime) -> Product:
    lock(session)
    PRODUCTS.put(session, product, at)
    return product


def put_feature(session: Session, feature: Feature, at: datetime) -> Feature:
    """The feature by that name from now on; its kind and unit stay as they are."""
    lock(session)
    standing = FEATURES.find(session, feature.feature_id)
    _refuse(feature_faults(feature, standing), f"The feature {feature.feature_id!r} cannot be so.", "invalid_feature")
    FEATURES.put(session, feature, at)
    return feature


def put_coupon(session: Session, coupon: Coupon, at: datetime) -> Coupon:
    """The coupon for whoever redeems it from now on."""
    lock(session)
    _refuse(coupon_faults(coupon), f"The coupon {coupon.coupon_id!r} cannot be redeemed so.", "invalid_coupon")
    COUPONS.put(session, coupon, at)
    return coupon


def put_override(session: Session, override: Override, at: datetime) -> Override:
    """The override for terms that are agreed from now on; its customer and its plan stay as they are."""
    lock(session)
    newest = latest(session, override.plan_id)
    offered = {newest.plan_id: newest} if newest else {}
    customers = _existing_customers(session, [override])
    standing = OVERRIDES.find(session, override.override_id)
    faults = override_faults(override, offered, customers, known(session), standing)
    _refuse(faults, f"The override {override.override_id!r} cannot be billed as it stands.", "invalid_override")
    OVERRIDES.put(session, override, at)
    return override


def put_meter(session: Session, meter: catalog.Meter) -> None:
    """Make the meter; of one that exists the name and what becomes of its late usage may differ, and nothing else."""
    lock(session)
    standing = next((m for m in live_meters(session) if m.meter_id == meter.meter_id), None)
    faults = [*late_faults(meter.late), *(counting_faults(meter) if standing is None else ())]
    _refuse(faults, f"The meter {meter.meter_id!r} cannot count as it stands.", "invalid_meter")
    if standing is None:
        session.add(row_of(meter))
    elif standing == replace(meter, name=standing.name, late=standing.late):
        _change(session, session.get_one(Meter, meter.meter_id), meter)
    else:
        raise _differs(meter, standing)


def _differs(meter: catalog.Meter, standing: catalog.Meter) -> Refused:
    """With each field that differs, as it stands, and how such fields are changed."""
    now, wanted = to_json(standing), to_json(meter)
    differing = [name for name in now if now[name] != wanted[name]]
    remedies = ["Send what stands, or give this meter another id."]
    if "event_type" in differing:
        remedies.append("Its event_type stays as it is.")
    if counting := [name for name in differing if name not in (*MAY_CHANGE, "event_type")]:
        path = f"POST /v1/meters/{meter.meter_id}/rebuilds"
        remedies.append(f"To change {', '.join(counting)}, ask by {path}, which shows first what that changes.")
    if free := [name for name in differing if name in MAY_CHANGE]:
        remedies.append(f"What may change here, once all else is as it stands: {', '.join(free)}.")
    return Refused(
        f"The meter {meter.meter_id!r} exists and differs.",
        code="conflict",
        faults=[Fault(name, f"stands as {json.dumps(now[name])}") for name in differing],
        remedy=" ".join(remedies),
    )


def live(session: Session) -> Catalog:
    """The whole catalog as it is now, each kind in order of id."""
    since = sales(session)
    return Catalog(
        products=tuple(PRODUCTS.newest(session)),
        features=tuple(FEATURES.newest(session)),
        meters=live_meters(session),
        coupons=tuple(COUPONS.newest(session)),
        offers=tuple(Offer(p, since.get((p.plan_id, p.version))) for p in newest_plans(session)),
        overrides=tuple(OVERRIDES.newest(session)),
    )


def live_meters(session: Session) -> tuple[catalog.Meter, ...]:
    """Every meter as the engine knows it, in order of id."""
    rows = cursor(session).execute(f"select {columns_of('m')} from meter m")
    return tuple(sorted(map(meter_from, rows), key=lambda meter: meter.meter_id))


def columns_of(table: str) -> str:
    """For SQL: what `meter_from` reads, of a table or of one version's content as such a row."""
    names = (
        "id name event_type quantity_field unit dimensions per_event resolution aggregation filters percent rate_window"
        " time_unit operation_field carries_over expression late"
    )
    return ", ".join(f"{table}.{name}" for name in names.split())


def meter_from(row: Sequence[Any]) -> catalog.Meter:
    key, name, kind, field, unit, dimensions, apart, shortest, way, kept, *more, late = row
    rest: tuple[Any, ...] = (*more, read_late(late))
    return catalog.Meter(key, name, kind, field, unit, tuple(dimensions), apart, shortest, way, _filters(kept), *rest)


def apply(session: Session, draft: Catalog, at: datetime) -> list[Published]:
    """Publish what differs from the live catalog, and say what did. All of it, or nothing: refused with every fault.

    What the draft does not have stays as it is. Versions in the draft do not count; publishing gives them.
    """
    lock(session)
    standing = live(session)
    faults = catalog_faults(draft, standing, _existing_customers(session, draft.overrides))
    _refuse(faults, "The catalog cannot be published as it stands.", "invalid_catalog")
    done = _put_entries(session, draft, standing, at)
    done += _put_meters(session, draft.meters, standing.meters)
    offered = {offer.plan.plan_id: offer for offer in standing.offers}
    for offer in draft.offers:
        if offer.stands_as(offered.get(offer.plan.plan_id)):
            continue
        found, fresh = add_version(session, offer.plan, at)
        sold = sell(session, found.plan_id, found.version, offer.sold_from, at)
        if fresh:
            done.append(Published("plan", found.plan_id, "new" if found.version == 1 else "changed", found.version))
        elif sold:
            done.append(Published("plan", found.plan_id, "sale", found.version))
    for override in _differing(draft.overrides, standing.overrides):
        done += _published("override", override.override_id, OVERRIDES.put(session, override, at))
    return done


def _put_entries(session: Session, draft: Catalog, standing: Catalog, at: datetime) -> list[Published]:
    done: list[Published] = []
    for product in _differing(draft.products, standing.products):
        done += _published("product", product.product_id, PRODUCTS.put(session, product, at))
    for feature in _differing(draft.features, standing.features):
        done += _published("feature", feature.feature_id, FEATURES.put(session, feature, at))
    for coupon in _differing(draft.coupons, standing.coupons):
        done += _published("coupon", coupon.coupon_id, COUPONS.put(session, coupon, at))
    return done


def _differing(wanted: Iterable[T], standing: Iterable[T]) -> list[T]:
    """What is not in the live catalog just so: only for that the database is asked."""
    same = set(standing)
    return [one for one in wanted if one not in same]


def _published(kind: Literal["product", "feature", "coupon", "override"], key: str, version: int) -> list[Published]:
    return [Published(kind, key, "new" if version == 1 else "changed", version)] if version else []


def _put_meters(
    session: Session, wanted: Iterable[catalog.Meter], live_ones: Iterable[catalog.Meter]
) -> list[Published]:
    """New ones are made; of those that exist, only the name and what becomes of late usage may differ by now."""
    done: list[Published] = []
    for meter in _differing(wanted, live_ones):
        standing = session.get(Meter, meter.meter_id)
        if standing is None:
            session.add(row_of(meter))
            done.append(Published("meter", meter.meter_id, "new"))
        else:
            _change(session, standing, meter)
            done.append(Published("meter", meter.meter_id, "changed"))
    session.flush()
    return done


def _change(session: Session, row: Meter, meter: catalog.Meter) -> None:
    """Its name, and the policy for late usage of whatever is billed from now on: ended subscriptions with such usage
    are looked at again.
    """
    row.name = meter.name
    if row.late != (late := to_json(meter.late)):
        row.late = late
        forget_seen_of(session, row.id)


def row_of(meter: catalog.Meter) -> Meter:
    """The meter as it is kept."""
    fields: dict[str, Any] = to_json(meter)
    return Meter(id=fields.pop("meter_id"), **fields | {"percent": meter.percent})


def _filters(kept: Sequence[dict[str, Any]]) -> tuple[Filter, ...]:
    return tuple(Filter(one["field"], tuple(one["among"]), one["without"]) for one in kept)


def _existing_customers(session: Session, overrides: Sequence[Override]) -> set[str]:
    wanted = list({override.customer_id for override in overrides})
    rows = cursor(session).execute("select id from customer where id = any(%s)", (wanted,))
    return {customer_id for (customer_id,) in rows}


def lock(session: Session) -> None:
    """One at a time may publish, until the commit; whoever compares first and then publishes takes it before."""
    cursor(session).execute("select pg_advisory_xact_lock(hashtext('catalog'))")


def _refuse(faults: Iterable[Fault], reason: str, code: str) -> None:
    if found := list(faults):
        remedy = "Mend the named fields and send it again; nothing was stored."
        raise Refused(reason, code=code, faults=found, remedy=remedy)
