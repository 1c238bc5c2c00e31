"""The catalog: everything that can be sold, as values; and what becomes of a plan with add-ons and overrides.

A catalog holds the newest version of each thing. What was sold keeps its version (subscription terms name it).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Literal

from billing.errors import Fault, Refused
from billing.modifiers import Coupon, Discount, Redeemed
from billing.plan import Entitlement, Plan, PlanItem

FeatureKind = Literal["switch", "limit", "value"]


@dataclass(frozen=True, slots=True)
class Product:
    """What revenue is reported by; plans and items may name one."""

    product_id: str
    name: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Feature:
    """What plans entitle to: a switch that is on or off, a limit in `unit`, or a value (text)."""

    feature_id: str
    name: str
    kind: FeatureKind = "switch"
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Meter:
    """Adds up `quantity_field` of the events of one type.

    `dimensions` are fields of the event that prices may tell apart; with `per_event`, single events are kept apart, for
    prices with a fee or a bound per transaction. Both cost a row a day for each value that occurs.
    """

    meter_id: str
    name: str
    event_type: str
    quantity_field: str
    unit: str = ""
    dimensions: tuple[str, ...] = ()
    per_event: bool = False


@dataclass(frozen=True, slots=True)
class Override:
    """A customer's own items and entitlements in a plan, for terms that begin from `effective_from` on.

    Items replace those of the same key, or come on top; amounts are in `currency`.
    """

    override_id: str
    customer_id: str
    plan_id: str
    currency: str
    effective_from: date
    items: tuple[PlanItem, ...] = ()
    discounts: tuple[Discount, ...] = ()
    entitlements: tuple[Entitlement, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """A plan or add-on in its newest version; sold to new customers from that day on, None being not yet."""

    plan: Plan
    sold_from: date | None


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything by kind, each kind in order of id."""

    products: tuple[Product, ...] = ()
    features: tuple[Feature, ...] = ()
    meters: tuple[Meter, ...] = ()
    coupons: tuple[Coupon, ...] = ()
    offers: tuple[Offer, ...] = ()
    overrides: tuple[Override, ...] = ()


@dataclass(frozen=True, slots=True)
class AddOn:
    """`count` times an add-on's version, sold with a plan."""

    plan: Plan
    count: Decimal = Decimal(1)


@dataclass(frozen=True, slots=True)
class AddOnSold:
    """Which version of an add-on terms name, and how many times."""

    plan_id: str
    version: int
    count: Decimal = Decimal(1)


@dataclass(frozen=True, slots=True)
class Extras:
    """What terms have besides the plan: stored with them, so that nothing published later rewrites what was sold."""

    add_ons: tuple[AddOnSold, ...] = ()
    override: Override | None = None
    coupons: tuple[Redeemed, ...] = ()


NO_EXTRAS = Extras()


def composed(plan: Plan, currency: str, add_ons: Sequence[AddOn] = (), override: Override | None = None) -> Plan:
    """The plan as one customer has it: in their currency, with add-ons and overrides in its items.

    Refused if something has no prices in the currency or another interval.
    """
    found = _in_currency(plan, currency)
    faults = [
        Fault("add_ons", f"{a.plan.plan_id!r} is billed at another interval than {plan.plan_id!r}")
        for a in add_ons
        if a.plan.interval != plan.interval
    ]
    if override is not None and override.currency != currency:
        faults.append(Fault("override", f"{override.override_id!r} is in {override.currency}, not in {currency}"))
    if faults:
        raise Refused("These cannot be sold together.", code="not_sold_together", faults=faults)
    if override is not None:
        own = tuple(replace(item, origin=f"override {override.override_id}") for item in override.items)
        found = replace(
            found,
            items=_replaced(found.items, own),
            discounts=(*found.discounts, *override.discounts),
            entitlements=entitled([*found.entitlements, *override.entitlements], adding=False),
        )
    for add_on in add_ons:
        sold = _in_currency(add_on.plan, currency)
        found = replace(
            found,
            items=(*found.items, *(_of_add_on(sold, item, add_on.count) for item in sold.items)),
            entitlements=entitled([*found.entitlements, *sold.entitlements], adding=True),
        )
    return found


def _in_currency(plan: Plan, currency: str) -> Plan:
    found = plan.priced_in(currency)
    if found is None:
        raise Refused(
            f"{plan.plan_id!r} has no prices in {currency}.",
            code="no_price_in_currency",
            faults=[Fault("plan", f"is priced in {', '.join(plan.currencies)}")],
            remedy=f"Publish a version with prices in {currency}, or sell another plan.",
        )
    return found


def _replaced(items: Sequence[PlanItem], own: Sequence[PlanItem]) -> tuple[PlanItem, ...]:
    """The items with those of the same key replaced in their place, and the others at the end."""
    mine = {item.key: item for item in own}
    kept = tuple(mine.pop(item.key, item) for item in items)
    return (*kept, *mine.values())


def _of_add_on(plan: Plan, item: PlanItem, count: Decimal) -> PlanItem:
    many = item.count * count if item.basis == "fixed" else item.count
    return replace(
        item,
        key=f"{plan.plan_id}.{item.key}",
        count=many,
        product=item.product or plan.product,
        origin=f"add-on {plan.plan_id}, version {plan.version}",
    )


def entitled(given: Iterable[Entitlement], *, adding: bool) -> tuple[Entitlement, ...]:
    """One entitlement for each feature: the last one given counts; `adding`, limits add up instead."""
    found: dict[str, Entitlement] = {}
    for one in given:
        before = found.get(one.feature)
        if before and adding and one.enabled and before.limit is not None and one.limit is not None:
            one = replace(one, limit=before.limit + one.limit)
        found[one.feature] = one
    return tuple(found.values())
