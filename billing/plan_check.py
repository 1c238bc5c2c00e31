"""What makes a plan billable: every fault is named with its path before anything is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from billing.errors import Fault, Refused
from billing.modifiers import NO_BOUNDS, Discount, wrong_bounds, wrong_discounts
from billing.money import CURRENCIES
from billing.plan import Entitlement, InCurrency, Plan, PlanItem

NO_NAMES: frozenset[str] = frozenset()


MOST_DISCOUNTS = 100


@dataclass(frozen=True, slots=True)
class MeterShape:
    """What a meter keeps of its events: the named properties, and whether it keeps single events apart."""

    dimensions: frozenset[str] = NO_NAMES
    per_event: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """What a plan may name: meters with their shape, features with their kind, products."""

    meters: Mapping[str, MeterShape]
    features: Mapping[str, str]
    products: frozenset[str] = NO_NAMES


def check(plan: Plan, known: Known) -> None:
    """Refuse a plan that cannot be billed, naming every fault with its path."""
    faults = list(plan_faults(plan, known))
    if faults:
        raise Refused(
            f"The plan {plan.plan_id!r} cannot be billed as it stands.",
            code="invalid_plan",
            faults=faults,
            remedy="Mend the named fields and send it again; nothing was stored.",
        )


def plan_faults(plan: Plan, known: Known) -> Iterator[Fault]:
    if plan.currency not in CURRENCIES:
        yield Fault("currency", f"{plan.currency!r} is not an ISO 4217 currency in use")
    if plan.interval.count < 1:
        yield Fault("interval.count", "must be at least 1")
    if plan.product is not None and plan.product not in known.products:
        yield Fault("product", f"there is no product {plan.product!r}; create it first")
    yield from _priced_faults(plan, plan.items, known)
    yield from entitlement_faults(plan.entitlements, known)
    yield from _add_on_faults(plan)
    for i, other in enumerate(plan.in_currencies):
        yield from under(f"in_currencies.{i}", _currency_faults(plan, other, known))


def under(where: str, faults: Iterator[Fault]) -> Iterator[Fault]:
    """The same faults, found at a place inside."""
    return (Fault(f"{where}.{fault.field}", fault.reason) for fault in faults)


def _priced_faults(plan: Plan | InCurrency, items: Sequence[PlanItem], known: Known) -> Iterator[Fault]:
    if not items:
        yield Fault("items", "at least one item is needed")
    yield from items_faults(items, known)
    yield from discounts_faults(plan.discounts, {item.key for item in items})
    yield from under("bounds", iter(wrong_bounds(plan.bounds)))
    yield from under("invoice_bounds", iter(wrong_bounds(plan.invoice_bounds)))
    if plan.invoice_bounds.commitment:
        yield Fault("invoice_bounds.commitment", "belongs to a price or to the plan")


def _currency_faults(plan: Plan, other: InCurrency, known: Known) -> Iterator[Fault]:
    if other.currency not in CURRENCIES:
        yield Fault("currency", f"{other.currency!r} is not an ISO 4217 currency in use")
    elif plan.currencies.count(other.currency) > 1:
        yield Fault("currency", f"the plan has prices in {other.currency} already")
    here, there = ({(x.key, x.basis, x.meter, x.in_advance) for x in some} for some in (plan.items, other.items))
    if here != there:
        odd = ", ".join(sorted({key for key, *_ in here ^ there}))
        yield Fault("items", f"must be those of the plan, with the same meters and billing; these differ: {odd}")
    yield from _priced_faults(other, other.items, known)


def items_faults(items: Sequence[PlanItem], known: Known) -> Iterator[Fault]:
    """Faults of items that stand together: each key once, and each item by itself."""
    times = Counter(item.key for item in items)
    for i, item in enumerate(items):
        if not item.key or ":" in item.key or "/" in item.key:
            yield Fault(f"items.{i}.key", "must not be empty, nor hold ':' or '/'")
        elif times[item.key] > 1:
            yield Fault(f"items.{i}.key", f"{item.key!r} is listed more than once")
        yield from under(f"items.{i}", _item_faults(item, known))


def discounts_faults(discounts: Sequence[Discount], keys: Collection[str]) -> Iterator[Fault]:
    """Faults of discounts on lines, which may name items of these keys."""
    if len(discounts) > MOST_DISCOUNTS:
        yield Fault("discounts", f"are {len(discounts)}; at most {MOST_DISCOUNTS} are worked out for each line")
        return
    yield from wrong_discounts(discounts, units=False)
    for i, discount in enumerate(discounts):
        for strange in sorted(set(discount.on) - set(keys)):
            yield Fault(f"discounts.{i}.on", f"there is no item {strange!r}")


def _item_faults(item: PlanItem, known: Known) -> Iterator[Fault]:
    """Faults of one item, with paths inside it."""
    if (item.basis == "meter") != (item.meter is not None):
        yield Fault("meter", "a meter goes with basis 'meter', and only with it")
    elif item.meter is not None:
        yield from _meter_faults(item, item.meter, known)
    elif item.apart:
        yield Fault("basis", f"a price of kind {item.price.kind!r} as it stands needs a meter")
    yield from under("price", iter(item.price.faults(negative=item.allow_negative)))
    if item.product is not None and item.product not in known.products:
        yield Fault("product", f"there is no product {item.product!r}; create it first")
    if item.seats != "prorated" and (item.basis != "seats" or item.in_advance):
        yield Fault("seats", "peak and average are known at the end: they need basis 'seats' and in_advance false")
    if item.price.once and item.seats != "prorated":
        yield Fault("seats", "a one-time fee is charged at once, by the seats of that day")
    if item.price.once and item.basis == "meter":
        yield Fault("price.kind", "a one-time fee has no meter")
    if not item.count.is_finite() or item.count < 0:
        yield Fault("count", "must be a number, and not negative")
    yield from _quantity_faults(item)
    yield from wrong_discounts(item.discounts, units=True)
    yield from under("bounds", iter(wrong_bounds(item.bounds)))


def _meter_faults(item: PlanItem, meter: str, known: Known) -> Iterator[Fault]:
    if meter not in known.meters:
        yield Fault("meter", f"there is no meter {meter!r}; create it first")
        return
    shape = known.meters[meter]
    for name in item.price.dimensions():
        if name not in shape.dimensions:
            yield Fault("price.by", f"the meter {meter!r} does not keep {name!r}; add it to the meter's dimensions")
    if item.price.per_event() and not shape.per_event:
        yield Fault("meter", f"{meter!r} adds events up, but the price looks at each one: make it `per_event`")
    for i, other in enumerate(item.price.meters()):
        if other not in known.meters:
            yield Fault(f"price.quantities.{i}.meter", f"there is no meter {other!r}; create it first")


def _quantity_faults(item: PlanItem) -> Iterator[Fault]:
    if item.convert:
        yield from under("convert", iter(item.convert.faults()))
    if not item.free.is_finite() or item.free < 0:
        yield Fault("free", "must be a number, and not negative")
    taken = item.free != Decimal(0) or any(d.kind.startswith("units") for d in item.discounts)
    if taken and item.apart:
        yield Fault("free", f"a price of kind {item.price.kind!r} has no single quantity that units can be taken off")


def _add_on_faults(plan: Plan) -> Iterator[Fault]:
    """Bounds of all lines together are the plan's with which an add-on is sold."""
    if plan.kind == "plan":
        return
    priced = [("", plan), *((f"in_currencies.{i}.", other) for i, other in enumerate(plan.in_currencies))]
    for where, one in priced:
        for name in ("bounds", "invoice_bounds"):
            if getattr(one, name) != NO_BOUNDS:
                yield Fault(f"{where}{name}", "belong to a plan; bounds of an add-on stand at its prices")


def entitlement_faults(entitlements: Sequence[Entitlement], known: Known) -> Iterator[Fault]:
    named = [entitlement.feature for entitlement in entitlements]
    for i, given in enumerate(entitlements):
        at = f"entitlements.{i}"
        kind = known.features.get(given.feature)
        if kind is None:
            yield Fault(f"{at}.feature", f"there is no feature {given.feature!r}; create it first")
            continue
        if named.count(given.feature) > 1:
            yield Fault(f"{at}.feature", f"{given.feature!r} is listed more than once")
        for name in ("limit", "value"):
            if (getattr(given, name) is not None) != (kind == name) and given.enabled:
                says = f"the feature is a {kind}"
                yield Fault(f"{at}.{name}", f"is needed: {says}" if kind == name else f"does not belong here: {says}")
        if given.limit is not None and (not given.limit.is_finite() or given.limit < 0):
            yield Fault(f"{at}.limit", "must be a number, and not negative")
