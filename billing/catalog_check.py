"""What is wrong with entries of the catalog, and with a whole one: each fault with its path, before it is stored."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from decimal import Decimal

from billing.catalog import Catalog, Feature, Meter, Offer, Override
from billing.errors import Fault
from billing.late import late_faults
from billing.meter_check import counting_faults
from billing.modifiers import Coupon, Discount, wrong_discounts
from billing.money import CURRENCIES
from billing.plan import Plan
from billing.plan_check import Known, MeterShape, discounts_faults, entitlement_faults, items_faults, plan_faults, under

DIGITS, PLACES = 12, 30
MOST_QUANTITY = Decimal("1E24")
MOST_INTERVALS = 120
MOST_ENTRIES = 2_000

# What may change of a meter by which usage was counted.
MAY_CHANGE = ("name", "late")

# Numbers that count something; all others are money, percent or factors.
_QUANTITIES = frozenset("up_to size included free multiply divide step count limit".split())
ID = re.compile(r"[a-z0-9][a-z0-9_.-]{1,63}")
CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{1,63}")


def known_of(catalog: Catalog) -> Known:
    """What plans may name in it."""
    return Known(
        {m.meter_id: MeterShape(frozenset(m.dimensions), m.per_event) for m in catalog.meters},
        {f.feature_id: f.kind for f in catalog.features},
        frozenset(p.product_id for p in catalog.products),
    )


def catalog_faults(draft: Catalog, live: Catalog, customers: Collection[str]) -> Iterator[Fault]:
    """What keeps a draft from being published over the live catalog. Entries that are as they stand are not looked at.

    `customers` are those of the draft's overrides that exist.
    """
    yield from _name_faults(draft)
    both = known_of(live), known_of(draft)
    known = Known(
        {**both[0].meters, **both[1].meters},
        {**both[0].features, **both[1].features},
        both[0].products | both[1].products,
    )
    features, meters = {f.feature_id: f for f in live.features}, {m.meter_id: m for m in live.meters}
    coupons, overrides = {c.coupon_id: c for c in live.coupons}, {o.override_id: o for o in live.overrides}
    for i, feature in enumerate(draft.features):
        yield from under(f"features.{i}", feature_faults(feature, features.get(feature.feature_id)))
    for i, meter in enumerate(draft.meters):
        yield from under(f"meters.{i}", meter_faults(meter, meters.get(meter.meter_id)))
    for i, coupon in enumerate(draft.coupons):
        if coupon != coupons.get(coupon.coupon_id):
            yield from under(f"coupons.{i}", coupon_faults(coupon))
    standing = {o.plan.plan_id: o.plan for o in live.offers}
    for i, offer in enumerate(draft.offers):
        before = standing.get(offer.plan.plan_id)
        if not _same(offer.plan, before):
            yield from under(f"offers.{i}.plan", iter(offer_faults(offer.plan, known, before)))
    plans = standing | {o.plan.plan_id: o.plan for o in draft.offers}
    for i, override in enumerate(draft.overrides):
        before_it = overrides.get(override.override_id)
        if override != before_it:
            yield from under(f"overrides.{i}", override_faults(override, plans, customers, known, before_it))


def _same(plan: Plan, before: Plan | None) -> bool:
    return before is not None and plan.named(plan.plan_id, before.version) == before


def _name_faults(draft: Catalog) -> Iterator[Fault]:
    """Ids as the API has them, each once; and names that people can read."""
    kinds: list[tuple[str, str, Sequence[object]]] = [
        ("products", "product_id", draft.products),
        ("features", "feature_id", draft.features),
        ("meters", "meter_id", draft.meters),
        ("coupons", "coupon_id", draft.coupons),
        ("offers", "plan.plan_id", draft.offers),
        ("overrides", "override_id", draft.overrides),
    ]
    for kind, field, entries in kinds:
        ids = [_id_of(entry, field) for entry in entries]
        times = Counter(ids)
        for i, found in enumerate(ids):
            at = f"{kind}.{i}.{field}"
            if said := wrong_id(kind, found):
                yield Fault(at, said)
            elif times[found] > 1:
                yield Fault(at, f"{found!r} is listed more than once")
        for i, entry in enumerate(entries):
            named = entry.plan if isinstance(entry, Offer) else entry
            if not isinstance(named, Override) and not 1 <= len(str(getattr(named, "name", "")).strip()) <= 200:
                yield Fault(
                    f"{kind}.{i}.{'plan.' if isinstance(entry, Offer) else ''}name", "must have 1 to 200 letters"
                )


def wrong_id(kind: str, name: str) -> str:
    """Why a name cannot be the id of an entry of that kind; empty if it can. People type codes of coupons."""
    pattern, letters = (CODE, "letters") if kind == "coupons" else (ID, "small letters")
    if pattern.fullmatch(name):
        return ""
    return f"must be 2 to 64 {letters}, digits, '_', '.' or '-', beginning with a letter or digit"


def _id_of(entry: object, field: str) -> str:
    return entry.plan.plan_id if isinstance(entry, Offer) else str(getattr(entry, field))


def offer_faults(plan: Plan, known: Known, before: Plan | None = None) -> list[Fault]:
    """Faults of a plan that follows the version `before`. Figures that no invoice could state are found first: they are
    not worked with.
    """
    faults = list(absurd_faults(plan))
    if before and plan.kind != before.kind:
        faults.append(Fault("kind", f"must stay {before.kind!r}; publish it under another id"))
    if plan.interval.count > MOST_INTERVALS:
        faults.append(Fault("interval.count", f"must be at most {MOST_INTERVALS}"))
    return faults or list(plan_faults(plan, known))


def feature_faults(feature: Feature, standing: Feature | None) -> Iterator[Fault]:
    """Plans were sold with it: what their entitlements say must go on meaning the same."""
    for name in ("kind", "unit"):
        if standing and getattr(feature, name) != getattr(standing, name):
            yield Fault(name, f"must stay {getattr(standing, name)!r}: plans were sold with it; make another feature")


def meter_faults(meter: Meter, standing: Meter | None) -> Iterator[Fault]:
    """A meter that exists goes on counting as it does; people may call it otherwise, and decide what becomes of usage
    that comes late.
    """
    yield from late_faults(meter.late)
    if standing is None:
        yield from counting_faults(meter)
        return
    for name in (field.name for field in fields(Meter) if field.name not in MAY_CHANGE):
        if getattr(meter, name) != getattr(standing, name):
            yield Fault(name, _OTHER_TYPE if name == "event_type" else _REBUILT)


_OTHER_TYPE = "must stay as it is: usage was counted by it; make another meter"
_REBUILT = (
    "changes what was counted: ask for it by POST /v1/meters/{id}/rebuilds, which shows it first; then write it here"
)


def coupon_faults(coupon: Coupon) -> Iterator[Fault]:
    if absurd := list(absurd_faults(coupon)):
        yield from absurd
        return
    if not coupon.discounts:
        yield Fault("discounts", "at least one is needed")
    yield from wrong_discounts(coupon.discounts, units=False)
    if coupon.currency is None and any(discount.kind == "amount" for discount in coupon.discounts):
        yield Fault("currency", "is needed: an amount is taken off")
    elif coupon.currency is not None and coupon.currency not in CURRENCIES:
        yield Fault("currency", f"{coupon.currency!r} is not an ISO 4217 currency in use")
    if coupon.most is not None and coupon.most < 1:
        yield Fault("most", "must be at least 1, or left out for any number")


def override_faults(
    override: Override,
    plans: Mapping[str, Plan],
    customers: Collection[str],
    known: Known,
    standing: Override | None = None,
) -> Iterator[Fault]:
    """Faults against the plans in their newest versions, and of one that is handed to another customer or plan."""
    if absurd := list(absurd_faults(override)):
        yield from absurd
        return
    for name in ("customer_id", "plan_id"):
        if standing and getattr(override, name) != getattr(standing, name):
            yield Fault(name, f"must stay {getattr(standing, name)!r}: it was agreed so; make another override")
    if override.customer_id not in customers:
        yield Fault("customer_id", f"there is no customer {override.customer_id!r}")
    plan = plans.get(override.plan_id)
    if plan is None:
        yield Fault("plan_id", f"there is no plan {override.plan_id!r}")
    elif plan.kind != "plan":
        yield Fault("plan_id", f"{override.plan_id!r} is an add-on; overrides belong to plans")
    elif override.currency not in plan.currencies:
        yield Fault("currency", f"the plan is priced in {', '.join(plan.currencies)}")
    yield from items_faults(override.items, known)
    beside = plan.items if plan else ()
    yield from discounts_faults(override.discounts, {item.key for item in (*override.items, *beside)})
    yield from entitlement_faults(override.entitlements, known)


def absurd_faults(value: object, path: str = "") -> Iterator[Fault]:
    """Figures that no invoice could state (money from 10^12 on, quantities above 10^24, more than 30 decimals), and
    lists that are too long.
    """
    for at, many in _crowds(value, path):
        yield Fault(at, f"has {many:,} entries; at most {MOST_ENTRIES:,} are taken")
    for at, name, number in _numbers(value, path):
        if not number.is_finite():
            continue
        counts = name in _QUANTITIES
        too_large = number.copy_abs() > MOST_QUANTITY if counts else number.adjusted() >= DIGITS
        if too_large or int(number.as_tuple().exponent) < -PLACES:
            most = "at most 10^24" if counts else f"below 10^{DIGITS}"
            yield Fault(at, f"must be {most} and have at most {PLACES} decimal places")


def _crowds(value: object, path: str) -> Iterator[tuple[str, int]]:
    """Every list in it that is too long, with its path and its length."""
    if isinstance(value, tuple):
        if len(value) > MOST_ENTRIES:
            yield path, len(value)
        for no, inner in enumerate(value[:MOST_ENTRIES]):
            yield from _crowds(inner, f"{path}.{no}".strip("."))
    elif is_dataclass(value):
        for field in fields(value):
            yield from _crowds(getattr(value, field.name), f"{path}.{field.name}".strip("."))


def _numbers(value: object, path: str, name: str = "") -> Iterator[tuple[str, str, Decimal]]:
    """Every number in it, with its path and the name of its field."""
    match value:
        case bool():
            return
        case Decimal() | int():
            yield path, name, Decimal(value)
        case tuple():
            for no, inner in enumerate(value):
                yield from _numbers(inner, f"{path}.{no}".strip("."), name)
        case _ if is_dataclass(value):
            units = isinstance(value, Discount) and value.kind == "units"
            for field in fields(value):
                inner = getattr(value, field.name)
                yield from _numbers(inner, f"{path}.{field.name}".strip("."), "count" if units else field.name)
