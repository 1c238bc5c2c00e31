"""What a price does not tell apart is counted together: dimensions that are kept for display change no bill."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.aggregation import APART, MEAN_STEP, WHOLE, bucket
from billing.catalog import Meter
from billing.folding import Clocks, Folding, portion_of
from billing.period import Period, zone
from billing.portion import Aggregation, Portion, Properties
from billing.pricing import Price
from billing.pricing.matrix import Cell, Matrix
from billing.pricing.per_unit import PerUnit
from billing.quantity import decimal_of, in_steps
from billing.usage import Totals, measure, quantity_of
from billing.windows import by_window

MONTH = Period(date(2026, 2, 1), date(2026, 3, 1))
FIRST = datetime(2026, 2, 1, tzinfo=UTC)
Event = tuple[datetime, dict[str, Any]]

DATA = st.fixed_dictionaries(
    {"n": st.integers(-40, 400), "who": st.sampled_from("abcd")},
    optional={"region": st.sampled_from(["eu", "us"]), "tier": st.sampled_from(["1", "2"])},
)
EVENTS = st.lists(
    st.tuples(st.integers(0, 28 * 24 * 60 - 1).map(lambda n: FIRST + timedelta(minutes=n)), DATA),
    min_size=1,
    max_size=25,
    unique_by=lambda event: event[0],
)


def meter(aggregation: Aggregation, *dimensions: str) -> Meter:
    field = {"count": "", "unique": "who"}.get(aggregation, "n")
    more: dict[str, Any] = {
        "percentile": {"percent": Decimal(80)},
        "peak_rate": {"rate_window": "hour"},
    }.get(aggregation, {})
    return Meter("m", "M", "job", field, aggregation=aggregation, dimensions=dimensions, **more)


def folded(one: Meter, events: Collection[Event]) -> Totals:
    folding, found = Folding([one], Clocks()), defaultdict[tuple[str, date], list[Portion]](list)
    for moment, data in events:
        folding.add("c", zone("UTC"), "job", moment, data)
    for (_, name, day, kept, each), total in folding.days().items():
        apart = each if one.aggregation in APART else None
        found[name, day].append(portion_of(one, "UTC", kept, apart, total))
    return {place: tuple(some) for place, some in found.items()}


def worked_out(aggregation: Aggregation, events: Collection[Event]) -> Decimal:
    """Event by event, without any totals."""
    numbers = sorted(Decimal(data["n"]) for _, data in events)
    match aggregation:
        case "sum":
            return sum(numbers, Decimal(0))
        case "count":
            return Decimal(len(events))
        case "average":
            return decimal_of(in_steps(Fraction(sum(numbers)) / len(numbers), MEAN_STEP, "nearest"))
        case "max":
            return numbers[-1]
        case "min":
            return numbers[0]
        case "latest":
            return Decimal(max(events, key=lambda event: event[0])[1]["n"])
        case "unique":
            return Decimal(len({data["who"] for _, data in events}))
        case "percentile":
            return bucket(numbers[math.ceil(Fraction(80 * len(numbers), 100)) - 1])
        case "peak_rate":
            hours = defaultdict[datetime, Decimal](Decimal)
            for moment, data in events:
                hours[moment.replace(minute=0)] += data["n"]
            return max(hours.values())
        case _:
            raise AssertionError(aggregation)


def by_values(events: Collection[Event], names: Collection[str]) -> Mapping[Properties, list[Event]]:
    found: dict[Properties, list[Event]] = {}
    for event in events:
        values = tuple((name, event[1][name]) for name in sorted(names) if name in event[1])
        found.setdefault(values, []).append(event)
    return found


@pytest.mark.parametrize("aggregation", sorted({*get_args(Aggregation)} - {"latest", "weighted_sum"}))
@settings(derandomize=True, deadline=None, max_examples=60)
@given(EVENTS)
def test_a_quantity_is_of_the_events_that_the_price_does_not_tell_apart(
    aggregation: Aggregation, events: list[Event]
) -> None:
    kept = folded(meter(aggregation, "region", "tier"), events)
    assert quantity_of(p for _, some in sorted(kept.items()) for p in some) == worked_out(aggregation, events)
    assert measure(kept, "m", MONTH).quantity == worked_out(aggregation, events)
    for by in (("region",), ("tier",), ("region", "tier")):
        found = measure(kept, "m", MONTH, by=by)
        groups = by_values(events, by)
        assert found.quantity == sum(worked_out(aggregation, some) for some in groups.values())
        assert found.events == len(events)
        if aggregation in WHOLE:
            told = {p.properties: p.quantity for p in found.portions}
            assert told == {values: worked_out(aggregation, some) for values, some in groups.items()}


@settings(derandomize=True, deadline=None, max_examples=60)
@given(EVENTS)
def test_of_the_latest_each_combination_is_a_quantity_of_its_own(events: list[Event]) -> None:
    kept = folded(meter("latest", "region"), events)
    each = by_values(events, ["region"]).values()
    assert measure(kept, "m", MONTH).quantity == sum(worked_out("latest", some) for some in each)


@pytest.mark.parametrize("aggregation", sorted(WHOLE))
@settings(derandomize=True, deadline=None, max_examples=20)
@given(events=EVENTS)
def test_a_dimension_for_display_changes_no_charge(aggregation: Aggregation, events: list[Event]) -> None:
    for price in (PerUnit(Decimal("0.3")), Matrix(("region",), (Cell(("eu",), Decimal(2)),), Decimal("0.7"))):
        without = folded(meter(aggregation, *price.dimensions()), events)
        shown = folded(meter(aggregation, *price.dimensions(), "tier", "who"), events)
        assert charge(price, without) == charge(price, shown)


def charge(price: Price, totals: Totals) -> Fraction:
    return price.charge(measure(totals, "m", MONTH, price.meters(), price.dimensions())).amount


def test_a_dimension_that_was_added_in_the_month_does_not_split_it() -> None:
    """Ann was seen on the 1st, when nothing was told apart, and on the 20th, in two regions."""
    early = folded(meter("unique"), [(FIRST, {"who": "ann"})])
    later = FIRST + timedelta(days=19)
    late = folded(meter("unique", "region"), [(later, {"who": "ann", "region": place}) for place in ("eu", "us")])
    assert measure({**early, **late}, "m", MONTH).quantity == 1
    assert measure({**early, **late}, "m", MONTH, by=["region"]).quantity == 3


def test_an_empty_value_is_none() -> None:
    """As a price and the windows have it."""
    kept = folded(meter("unique", "region"), [(FIRST, {"who": "ann", "region": ""}), (FIRST, {"who": "ann"})])
    assert measure(kept, "m", MONTH, by=["region"]).quantity == 1


@pytest.mark.parametrize(("by", "told"), [((), [1]), (("region",), [1, 1]), (("tier",), [1])])
def test_windows_are_of_what_is_asked_for(by: tuple[str, ...], told: list[int]) -> None:
    events = [(FIRST, {"who": "ann", "region": place, "tier": "1"}) for place in ("eu", "us")]
    [some] = folded(meter("unique", "region", "tier"), events).values()
    counted = [(FIRST, portion) for portion in some]
    assert [one.quantity for one in by_window(counted, "day", zone("UTC"), by)] == told
