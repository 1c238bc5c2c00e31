"""Random numbers, names, prices of every kind, and what meters could have counted for them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

from hypothesis import strategies as st

from billing.plan_check import MeterShape
from billing.portion import Portion
from billing.pricing import (
    Capacity,
    Cell,
    CostPlus,
    Dynamic,
    Flat,
    Formula,
    Graduated,
    GraduatedPercentage,
    Grouped,
    Matrix,
    OneTime,
    Package,
    Percentage,
    PercentTier,
    PerUnit,
    Price,
    Quantity,
    Stair,
    Stairstep,
    Tier,
    Volume,
)
from billing.quantity import added_up
from billing.usage import Measured

Drawing = st.SearchStrategy
VALUES = ("eu", "us", "*", "", "no", "größer 1")


# Numbers and words


def decimals(digits: int = 9, places: int = 6) -> Drawing[Decimal]:
    """From zero on, with up to so many digits before and after the point."""

    def of(number: int) -> Decimal:
        number, after = divmod(number, places + 1)
        return Decimal(f"{number % 10 ** (digits + after)}e-{after}")

    return st.integers(0, 10 ** (digits + places) * (places + 1)).map(of)


def signed(number: Drawing[Decimal]) -> Drawing[Decimal]:
    return st.builds(lambda n, below: n.copy_negate() if below and n else n, number, st.booleans())


RATES = decimals(6, 12) | decimals(9, 30)
ABOVE_ZERO = decimals(9, 6).map(lambda number: number or Decimal(1))
# More digits than the decimal module keeps unasked.
LONG = st.sampled_from(["0.123456789012345678901234567891", "12.3456789012345678901234567891"]).map(Decimal)
PERCENTS = st.integers(0, 10**6).map(lambda n: Decimal(n).scaleb(-4)) | LONG
FACTORS = st.sampled_from(["0", "0.5", "1", "1.25", "3"]).map(Decimal)
TRICKY = (
    "yes|null|~|1.0|1e3|12:30|0x1F|a: b|- c|# d|{e}|[f, g]|'h\"|i\\n|=j|!k|&l|*m|@n|`o|%p|Größe 9 €|漢字 🙂|2026-01-31"
).split("|")
WORDS = st.text("abcXYZ 019äß€-_.,:;#&*!|>'\"%@`{}[]?/\\", max_size=9).map(lambda text: " ".join(text.split()))
NAMES = st.sampled_from(TRICKY) | st.sampled_from(TRICKY) | WORDS.map(lambda text: text or "x")
MAYBE_WORDS = st.sampled_from(["", *TRICKY])
IDS = st.sampled_from(["0x", "1e3", "null", "no.1"]) | st.integers(0, 10**9).map(lambda n: f"p{n:x}-v.{n % 7}")
KEYS = st.sampled_from(["on", "no", "null", "1e3", "base"]) | st.integers(0, 10**6).map(lambda n: f"k{n:x}_{n % 5}")


# Prices


KINDS = (
    "flat one_time per_unit package graduated volume stairstep percentage graduated_percentage dynamic matrix grouped "
    "capacity cost_plus formula"
).split()
EVERYTHING = MeterShape(frozenset(["region", "size"]), per_event=True)
NOTHING_KEPT = MeterShape()


def prices_of(kinds: list[str], shape: MeterShape, negative: bool, further: tuple[str, ...]) -> Drawing[Price]:
    found = {kind: price_of(kind, shape, negative=negative, further=further) for kind in kinds}
    return st.sampled_from(kinds).flatmap(lambda kind: found[kind])


@cache
def price_of(
    kind: str, shape: MeterShape = EVERYTHING, *, negative: bool = False, further: tuple[str, ...] = ("calls", "cost")
) -> Drawing[Price]:
    """Prices of a kind for a meter of that shape; with `negative`, some rates are below zero.

    `further` meters are those that a formula may ask for.
    """
    rate = signed(RATES) if negative else RATES
    fee = st.just(Decimal(0)) | rate
    tier = st.builds(Tier, st.none(), rate, fee)
    by = sorted(shape.dimensions)
    match kind:
        case "flat":
            return st.builds(Flat, rate)
        case "one_time":
            return st.builds(OneTime, rate)
        case "per_unit":
            return st.builds(PerUnit, rate)
        case "package":
            return st.builds(Package, ABOVE_ZERO, rate, st.sampled_from(["whole", "proportional"]))
        case "graduated":
            return _tiered(tier).map(Graduated)
        case "volume":
            return _tiered(tier).map(Volume)
        case "stairstep":
            return _tiered(st.builds(Stair, st.none(), rate)).map(Stairstep)
        case "graduated_percentage":
            return _tiered(st.builds(PercentTier, st.none(), PERCENTS, fee)).map(GraduatedPercentage)
        case "percentage":
            return _percentages() if shape.per_event else st.builds(Percentage, PERCENTS)
        case "matrix":
            return st.one_of(*(_matrices(some, rate) for some in ((by[0],), (by[-1],), tuple(by))))
        case "grouped":
            inside = prices_of(["graduated", "volume", "stairstep", "package"], shape, negative, ())
            return st.builds(Grouped, st.sampled_from(by), inside)
        case "capacity":
            return st.builds(Capacity, ABOVE_ZERO, rate, rate)
        case "cost_plus":
            return st.builds(CostPlus, PERCENTS, fee)
        case "formula":
            return _formulas(further)
    return st.just(Dynamic())


def _tiered(one: Drawing[Any]) -> Drawing[tuple[Any, ...]]:
    """Tiers like `one`, up to bounds that rise, the last without end."""

    def bounded(some: list[tuple[Any, Decimal]]) -> tuple[Any, ...]:
        ends = [added_up(width for _, width in some[: i + 1]) for i in range(len(some))]
        return tuple(replace(tier, up_to=end) for (tier, _), end in zip(some, [*ends[:-1], None], strict=True))

    return st.lists(st.tuples(one, ABOVE_ZERO), min_size=1, max_size=4).map(bounded)


def _percentages() -> Drawing[Price]:
    money, none = decimals(4, 4), st.none()

    def in_order(price: Percentage) -> Percentage:
        low, high = price.minimum_per_transaction, price.maximum_per_transaction
        if low is None or high is None or low <= high:
            return price
        return replace(price, minimum_per_transaction=high, maximum_per_transaction=low)

    zero = st.just(Decimal(0))
    free = zero | decimals(5, 2)
    whole = st.builds(Percentage, PERCENTS, zero | money, st.integers(0, 5), free, none | money, none | money)
    return st.builds(Percentage, PERCENTS) | whole.map(in_order)


def _matrices(by: tuple[str, ...], rate: Drawing[Decimal]) -> Drawing[Price]:
    values = st.tuples(*(st.sampled_from(VALUES) for _ in by))
    cells = st.lists(st.builds(Cell, values, rate), max_size=4, unique_by=lambda cell: cell.values)
    return st.builds(Matrix, st.just(by), cells.map(tuple), rate)


SHAPES = ["{} + {}", "max({}, {})", "({} - {}) / 3", "if({} > {}, 1, 2.5)", "round({} / (1 + abs({})), 2)"]


def _formulas(further: tuple[str, ...]) -> Drawing[Price]:
    """Formulas over own and further quantities that hold at zero and are not negative there."""

    def of(meters: tuple[str, ...]) -> Drawing[Price]:
        quantities = tuple(Quantity(f"{meter}_too", meter) for meter in meters)
        name = st.sampled_from(["quantity", "events", *(q.name for q in quantities)])
        term = st.builds(lambda n, x: f"{n:f} * {x}", decimals(4, 4), name) | name
        written = st.builds(lambda s, a, b: f"max(0, {s.format(a, b)})", st.sampled_from(SHAPES), term, term)
        return written.map(lambda text: Formula(text, quantities))

    asked = [of(further[:n]) for n in range(len(further) + 1)]
    return st.integers(0, len(further)).flatmap(lambda n: asked[n])


# Usage


@cache
def quantities(*, negative: bool = False) -> Drawing[Decimal]:
    number = decimals(7, 4)
    return signed(number) if negative else number


def measured(price: Price, *, negative: bool = False) -> Drawing[Measured]:
    """What the meters that the price needs could have counted."""
    quantity = quantities(negative=negative)
    if price.per_event():
        own = st.lists(st.builds(_single, quantity, st.integers(1, 4)), max_size=5).map(_or_nothing)
    elif names := sorted(price.dimensions()):
        values = st.tuples(*(st.sampled_from(VALUES) for _ in names))
        own = st.lists(
            st.builds(lambda q, some: Portion(q, 2, _properties(names, some)), quantity, values),
            max_size=5,
            unique_by=lambda portion: portion.properties,
        ).map(_or_nothing)
    else:
        own = st.builds(Portion, quantity, st.integers(0, 9)).map(lambda portion: [portion])
    further = st.tuples(*(st.builds(lambda q, m=meter: Portion(q, 1, meter=m), quantity) for meter in price.meters()))
    return st.builds(lambda mine, others: Measured((*mine, *others)), own, further)


def _or_nothing(portions: list[Portion]) -> list[Portion]:
    return portions or [Portion(Decimal(0), 0)]


def _single(each: Decimal, events: int) -> Portion:
    return Portion(added_up([each] * events), events, each=each)


def _properties(names: list[str], values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Properties as events have them: an empty value is a property that is not there."""
    return tuple((name, value) for name, value in zip(names, values, strict=True) if value)
