"""The catalog: everything that can be sold, as values; and what becomes of a plan with add-ons and overrides.

A catalog holds the newest version of each thing. What was sold keeps its version (subscription terms name it).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Literal

from billing.aggregation import Kept, RateWindow, kept_by
from billing.errors import Fault, Refused
from billing.late import NEXT_INVOICE, Late
from billing.modifiers import Coupon, Discount, Redeemed
from billing.plan import Entitlement, Plan, PlanItem
from billing.portion import Aggregation, Course, TimeUnit
from billing.pricing import Capacity, Flat
from billing.quantity import added_up, product

FeatureKind = Literal["switch", "limit", "value"]
Resolution = Literal["minute", "hour", "day"]


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
class Filter:
    """Lets an event pass if its `field` has one of the values `among` (as text), or, with `without`, none of them."""

    field: str
    among: tuple[str, ...]
    without: bool = False

    def passes(self, value: str | None) -> bool:
        return (value in self.among) != self.without


@dataclass(frozen=True, slots=True)
class Meter:
    """Makes one quantity of the events of one type that pass all `filters`.

    `aggregation` says which: the sum, mean, largest, smallest or latest of `quantity_field`, how many events there were
    (count, which has no field), how many different values the field had (unique), the quantity that `percent` of the
    events do not exceed (percentile, within one percent), or the largest sum (without a field, number of events) of
    a minute or hour of the customer's clock, as `rate_window` says (peak_rate). Of a weighted_sum each quantity changes
    a level, and what counts is the level times the time that it stood, in `time_unit`s.

    `expression` is a formula over the event's fields in place of `quantity_field`. `operation_field` says of each value
    of unique whether it is added or removed. What `carries_over` begins a period with the level of before.

    `dimensions` are fields of the event that prices may tell apart; with `per_event`, single events are kept apart, for
    prices with a fee or a bound per transaction. Both cost a row a day for each value that occurs. `resolution` is the
    shortest window that totals are kept for, beside the day. `late` is what becomes of usage that comes after
    its window was billed.
    """

    meter_id: str
    name: str
    event_type: str
    quantity_field: str = ""
    unit: str = ""
    dimensions: tuple[str, ...] = ()
    per_event: bool = False
    resolution: Resolution = "hour"
    aggregation: Aggregation = "sum"
    filters: tuple[Filter, ...] = ()
    percent: Decimal | None = None
    rate_window: RateWindow | None = None
    time_unit: TimeUnit | None = None
    operation_field: str = ""
    carries_over: bool = False
    expression: str = ""
    late: Late = NEXT_INVOICE

    @property
    def kept(self) -> Kept:
        """How a further event changes what is kept of a day."""
        return kept_by(self.aggregation, operations=bool(self.operation_field))

    @property
    def carries(self) -> bool:
        """Whether a period begins with the level of before."""
        return self.carries_over or self.aggregation == "weighted_sum"

    def course(self, zone: str) -> Course | None:
        """How the quantity goes on in time, of a customer in that time zone; None if each period is by itself."""
        if not self.carries and not self.operation_field:
            return None
        return Course(self.carries, bool(self.operation_field), self.time_unit, zone)


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

    def stands_as(self, other: Offer | None) -> bool:
        """Whether the other says the same; versions aside, which publishing gives."""
        return other is not None and other == Offer(
            self.plan.named(self.plan.plan_id, other.plan.version), self.sold_from
        )


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
    """`count` times an add-on's version, sold with a plan: once only, if an item is metered or by seat."""

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


@dataclass(frozen=True, slots=True)
class ExtrasAsked:
    """What an amendment changes in the extras: add-ons that replace the former ones (None: they stay), and coupons that
    are redeemed besides the former ones.
    """

    add_ons: tuple[AddOnSold, ...] | None = None
    coupons: tuple[Redeemed, ...] = ()


def override_in_force(overrides: Iterable[Override], plan_id: str, currency: str, on: date) -> Override | None:
    """The one that holds for terms that begin on that day: the latest to come into force, then the last by id."""
    fitting = [o for o in overrides if (o.plan_id, o.currency) == (plan_id, currency) and o.effective_from <= on]
    return max(fitting, key=lambda o: (o.effective_from, o.override_id), default=None)


def composed(plan: Plan, currency: str, add_ons: Sequence[AddOn] = (), override: Override | None = None) -> Plan:
    """The plan as one customer has it: in their currency, with add-ons and overrides in its items.

    Refused if something has no prices in the currency or another interval, or if they do not go together.
    """
    found = _in_currency(plan, currency)
    if not add_ons and override is None and plan.kind == "plan":
        return found
    faults = _misfits(plan, add_ons)
    if override is not None and override.currency != currency:
        faults.append(Fault("override", f"{override.override_id!r} is in {override.currency}, not in {currency}"))
    if faults:
        raise _not_together(faults)
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
            discounts=(*found.discounts, *(_discount_of_add_on(sold, one, add_on.count) for one in sold.discounts)),
            entitlements=entitled([*found.entitlements, *_many(sold.entitlements, add_on.count)], adding=True),
        )
    keys = [item.key for item in found.items]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise _not_together([Fault("add_ons", f"would give the plan two items called {', '.join(twice)}")])
    return found


def _not_together(faults: Sequence[Fault]) -> Refused:
    return Refused(
        "These cannot be sold together.",
        code="not_sold_together",
        faults=faults,
        remedy="Leave out what is named, or publish a version that fits.",
    )


def _misfits(plan: Plan, add_ons: Sequence[AddOn]) -> list[Fault]:
    """Add-ons that are none, come twice or cannot be multiplied, or whose interval is another one than the plan's."""
    faults = [] if plan.kind == "plan" else [Fault("plan", f"{plan.plan_id!r} is an add-on; it is sold with a plan")]
    sold = [add_on.plan.plan_id for add_on in add_ons]
    for i, add_on in enumerate(add_ons):
        name = add_on.plan.plan_id
        if add_on.plan.kind != "add_on":
            faults.append(Fault(f"add_ons.{i}", f"{name!r} is a plan and no add-on"))
        elif name in sold[:i]:
            faults.append(Fault(f"add_ons.{i}", f"{name!r} is listed more than once; give its count"))
        elif add_on.plan.interval != plan.interval:
            faults.append(Fault(f"add_ons.{i}", f"{name!r} is billed at another interval than {plan.plan_id!r}"))
        elif add_on.count != 1 and (counted := [item.key for item in add_on.plan.items if item.basis != "fixed"]):
            said = f"{name!r} can be sold once only: {', '.join(counted)} counts what is used or the seats already"
            faults.append(Fault(f"add_ons.{i}.count", said))
    return faults


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
    return replace(
        item if count == 1 else _times(item, count),
        key=f"{plan.plan_id}.{item.key}",
        product=item.product or plan.product,
        origin=f"add-on {plan.plan_id}, version {plan.version}",
    )


def _times(item: PlanItem, count: Decimal) -> PlanItem:
    """A fixed item so many times: its units, which are priced together, and every amount that asks for no units."""
    price = item.price
    if isinstance(price, Flat):
        price = Flat(product(price.amount, count))
    elif isinstance(price, Capacity):
        price = replace(price, included=product(price.included, count), amount=product(price.amount, count))
    return replace(
        item,
        price=price,
        count=product(item.count, count),
        free=product(item.free, count),
        discounts=tuple(one.times(count) for one in item.discounts),
        bounds=item.bounds.times(count),
    )


def _many(given: Sequence[Entitlement], count: Decimal) -> list[Entitlement]:
    return [one if one.limit is None else replace(one, limit=product(one.limit, count)) for one in given]


def _discount_of_add_on(plan: Plan, discount: Discount, count: Decimal) -> Discount:
    """It reduces the add-on's items only; an amount so many times."""
    on = tuple(f"{plan.plan_id}.{key}" for key in discount.on or [item.key for item in plan.items])
    return replace(discount.times(count), on=on)


def entitled(given: Iterable[Entitlement], *, adding: bool) -> tuple[Entitlement, ...]:
    """One entitlement for each feature: the last one given counts; `adding`, limits add up instead."""
    found: dict[str, Entitlement] = {}
    for one in given:
        before = found.get(one.feature)
        if before and adding and one.enabled and before.limit is not None and one.limit is not None:
            one = replace(one, limit=added_up((before.limit, one.limit)))
        found[one.feature] = one
    return tuple(found.values())
