"""Random prices, items, plans and usage, valid by billing/plan_check.py, for tests with hypothesis.

`plans()` draws whole plans that name only what `PRODUCTS`, `FEATURES` and `METERS` hold. `drawn` takes a number of
values from a strategy under a seed, for tests that want a list: the same seed gives the same values.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, reject, seed, settings
from hypothesis import strategies as st

from billing.catalog import Feature, Meter, Product
from billing.errors import Refused
from billing.modifiers import NO_BOUNDS, Bounds, Commitment, Discount
from billing.period import Interval
from billing.plan import Basis, Entitlement, InCurrency, Plan, PlanItem
from billing.plan_check import Known, MeterShape
from billing.pricing import Price
from billing.quantity import Conversion
from tests.billing.price_strategies import (
    FACTORS,
    IDS,
    KEYS,
    KINDS,
    MAYBE_WORDS,
    NAMES,
    NOTHING_KEPT,
    PERCENTS,
    Drawing,
    decimals,
    prices_of,
)

T = TypeVar("T")

PRODUCTS = (Product("core", "Core"), Product("storage", "Storage"))
FEATURES = (
    Feature("sso", "Single sign-on"),
    Feature("audit", "Audit trail"),
    Feature("projects", "Projects", "limit", "projects"),
    Feature("retention", "Retention", "limit", "days"),
    Feature("support", "Support", "value"),
)
METERS = (
    Meter("calls", "Calls", "call", "n"),
    Meter("cost", "Cost", "cost", "amount"),
    Meter("traffic", "Traffic", "traffic", "bytes", dimensions=("region", "size")),
    Meter("payments", "Payments", "payment", "amount", dimensions=("region",), per_event=True),
)
KNOWN = Known(
    {meter.meter_id: MeterShape(frozenset(meter.dimensions), meter.per_event) for meter in METERS},
    {feature.feature_id: feature.kind for feature in FEATURES},
    frozenset(product.product_id for product in PRODUCTS),
)


PLANS = int(os.environ.get("PLANS", "200"))
"""How many random plans go through files and through the API; drawing them is what takes the time. `make storm` sends a
thousand."""
AT_ONCE = 40


@contextmanager
def without_too_much_money() -> Iterator[None]:
    """What is drawn may be a price and a quantity that no invoice can have; it is left out."""
    try:
        yield
    except Refused as refused:
        if refused.code != "amount_too_large":
            raise
        reject()


def drawn(strategy: Drawing[T], count: int, number: int = 0) -> list[T]:
    """`count` values of the strategy, the same ones for the same `number` in the same process.

    Drawn in small parts: within one, many values are variations of an earlier one.
    """
    parts = [_part(strategy, min(AT_ONCE, count - n), number * count + n) for n in range(0, count, AT_ONCE)]
    return [value for part in parts for value in part]


def _part(strategy: Drawing[T], count: int, number: int) -> list[T]:
    found: list[T] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(value: T) -> None:
        found.append(value)

    draw()
    return found[:count]


# Items


@dataclass(frozen=True, slots=True)
class Place:
    """What an item has in every currency: its key, how it is counted and when it is billed."""

    key: str
    basis: Basis
    meter: str | None
    in_advance: bool


@cache
def prices_at(meter: str | None, *, negative: bool) -> Drawing[Price]:
    """Prices that can be asked of that meter, or of a fee; those that only it can have more often."""
    if meter is None:
        kinds = [kind for kind in KINDS if kind not in ("matrix", "grouped")]
        return prices_of(kinds, NOTHING_KEPT, negative, ())
    shape = KNOWN.meters[meter]
    kinds = [kind for kind in KINDS if kind != "one_time" and (shape.dimensions or kind not in ("matrix", "grouped"))]
    kinds += ["matrix", "grouped"] * 3 if shape.dimensions else ["percentage"] * 3 if shape.per_event else []
    return prices_of(kinds, shape, negative, ("calls", "cost", "traffic"))


@st.composite
def places(draw: st.DrawFn) -> Place:
    basis: Basis = draw(st.sampled_from(["fixed", "seats", "meter", "meter", "meter"]))
    meter = draw(METER_IDS) if basis == "meter" else None
    return Place(draw(KEYS), basis, meter, draw(st.booleans()))


METER_IDS = st.sampled_from([meter.meter_id for meter in METERS])


@st.composite
def items(draw: st.DrawFn, place: Place | None = None) -> PlanItem:
    """An item with modifiers; at the given place, if any."""
    place = place or draw(places())
    negative = draw(st.booleans())
    price = draw(prices_at(place.meter, negative=negative))
    late = place.basis == "seats" and not place.in_advance and not price.once
    item = PlanItem(
        place.key,
        draw(NAMES),
        price,
        place.basis,
        place.meter,
        unit=draw(MAYBE_WORDS),
        in_advance=place.in_advance,
        seats=draw(SEATS) if late else "prorated",
        count=draw(COUNTS),
        convert=draw(MAYBE_CONVERSION),
        bounds=draw(BOUNDS),
        zero_line=draw(st.booleans()),
        allow_negative=negative,
        product=draw(MAYBE_PRODUCT),
        origin=draw(ORIGINS),
    )
    free = Decimal(0) if item.apart else draw(FREE)
    return replace(item, free=free, discounts=draw(discounts(units=not item.apart)))


SEATS = st.sampled_from(["prorated", "peak", "average"])
FREE = st.just(Decimal(0)) | decimals(5, 3)
COUNTS = st.just(Decimal(1)) | decimals(4, 3)
ORIGINS = st.sampled_from(["", "", "add-on extra, version 2"])
PERIODS = st.sampled_from([None, 1, 2, 3, 12])
MAYBE_PRODUCT = st.none() | st.sampled_from([product.product_id for product in PRODUCTS])
SIZES = st.sampled_from(["1", "2", "5", "0.25", "100", "1000", "1024", "1073741824"]).map(Decimal)
STEPS = st.sampled_from(["1", "0.5", "0.01", "10"]).map(Decimal)
CONVERSIONS = st.builds(
    Conversion,
    SIZES,
    SIZES | st.sampled_from([Decimal(3), Decimal(60), Decimal("0.7")]),
    st.sampled_from(["up", "down", "nearest"]),
    STEPS,
) | st.builds(Conversion, SIZES, SIZES)
MAYBE_CONVERSION = st.none() | CONVERSIONS
COMMITMENTS = st.builds(Commitment, decimals(6, 2), FACTORS, st.booleans())


def _bounds(one: Decimal | None, other: Decimal | None, commitment: Commitment | None) -> Bounds:
    if one is not None and other is not None and other < one:
        one, other = other, one
    return Bounds(one, other, commitment)


LIMITS = st.none() | decimals(6, 4)
BOUNDS = st.just(NO_BOUNDS) | st.builds(_bounds, LIMITS, LIMITS, st.none() | COMMITMENTS)
INVOICE_BOUNDS = st.just(NO_BOUNDS) | st.builds(_bounds, LIMITS, LIMITS, st.none())


@cache
def discounts(*, units: bool, on: tuple[str, ...] = ()) -> Drawing[tuple[Discount, ...]]:
    """Up to three; `units` says whether units may be taken off, `on` which items can be named."""
    percent = st.builds(Discount, st.just("percent"), PERCENTS, PERIODS, MAYBE_WORDS)
    amount = st.builds(Discount, st.just("amount"), decimals(5, 3), PERIODS, MAYBE_WORDS)
    fewer = st.builds(Discount, st.just("units"), decimals(5, 3), PERIODS, MAYBE_WORDS)
    share = st.builds(Discount, st.just("units_percent"), PERCENTS, PERIODS, MAYBE_WORDS)
    one = st.one_of(percent, amount, fewer, share) if units else st.one_of(percent, amount)
    if on:
        some = st.lists(st.sampled_from(on), max_size=2, unique=True).map(tuple)
        one = st.builds(lambda discount, keys: replace(discount, on=keys), one, some)
    return st.lists(one, max_size=3).map(tuple)


# Plans

CURRENCIES = ("EUR", "USD", "JPY", "KWD")
INTERVALS = st.builds(Interval, st.sampled_from(["day", "week", "month", "quarter", "year"]), st.integers(1, 24))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A whole plan or add-on; some items say an origin, as those of composed plans do."""
    where = draw(st.lists(places(), min_size=1, max_size=3, unique_by=lambda place: place.key))
    currencies = draw(st.lists(st.sampled_from(CURRENCIES), min_size=1, max_size=3, unique=True))
    kind = draw(st.sampled_from(["plan", "add_on"]))
    here, *others = [draw(_in_currency(currency, where, kind)) for currency in currencies]
    return Plan(
        draw(IDS),
        draw(st.integers(1, 10**6)),
        draw(NAMES),
        here.currency,
        here.items,
        draw(INTERVALS),
        kind=kind,
        product=draw(MAYBE_PRODUCT),
        discounts=here.discounts,
        bounds=here.bounds,
        invoice_bounds=here.invoice_bounds,
        entitlements=draw(ENTITLEMENTS),
        ties=draw(st.sampled_from(["away_from_zero", "to_even"])),
        in_currencies=tuple(others),
    )


@st.composite
def _in_currency(draw: st.DrawFn, currency: str, where: list[Place], kind: str) -> InCurrency:
    whole = kind == "plan"  # An add-on's bounds stand at its prices.
    keys = tuple(place.key for place in where)
    return InCurrency(
        currency,
        tuple(draw(items(place)) for place in where),
        draw(BOUNDS) if whole else NO_BOUNDS,
        draw(INVOICE_BOUNDS) if whole else NO_BOUNDS,
        draw(discounts(units=False, on=keys)),
    )


@cache
def _entitlement(feature: Feature) -> Drawing[Entitlement]:
    limit = decimals(6, 2) if feature.kind == "limit" else st.none()
    value = NAMES if feature.kind == "value" else st.none()
    off = st.just(Entitlement(feature.feature_id, enabled=False))
    return st.builds(Entitlement, st.just(feature.feature_id), st.just(True), limit, value) | off


ENTITLEMENTS = st.lists(
    st.sampled_from(FEATURES).flatmap(_entitlement), max_size=3, unique_by=lambda given: given.feature
).map(tuple)
