"""What a meter may count: of which field, of which events, and by which fields its totals may be kept apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from billing.aggregation import MAY_CARRY_OVER
from billing.catalog import Filter, Meter
from billing.errors import Fault
from billing.field_formula import formula_faults

MOST_DIMENSIONS, MOST_FILTERS, MOST_VALUES = 5, 10, 100
LONGEST_TYPE = 200
LONGEST_NAME = 100
# Names and values of the dimensions are part of a key, and a key has to fit on a third of a page.
MOST_BYTES = 400
MOST_DECIMALS = 4
"""Of a percent."""
LONGEST_VALUE = 100
"""A dimension's value has at most so many characters as text; a longer one counts as none."""


def counting_faults(meter: Meter) -> Iterator[Fault]:
    """Faults of what a meter counts."""
    if not 1 <= len(meter.event_type) <= LONGEST_TYPE:
        yield Fault("event_type", f"must have 1 to {LONGEST_TYPE} letters")
    if meter.expression:
        yield from expression_faults(meter)
    elif meter.aggregation == "count":
        if meter.quantity_field:
            yield Fault("quantity_field", "must be left out: events are counted, whatever they hold")
    elif len(meter.quantity_field) > LONGEST_NAME or not (meter.quantity_field or meter.aggregation == "peak_rate"):
        yield Fault("quantity_field", f"must have 1 to {LONGEST_NAME} letters")
    if meter.per_event and meter.aggregation != "sum":
        yield Fault("per_event", f"goes with the aggregation 'sum'; this one is {meter.aggregation!r}")
    yield from percent_faults(meter)
    yield from window_faults(meter)
    yield from level_faults(meter)
    yield from filter_faults(meter.filters)
    yield from dimension_faults(meter.dimensions, meter.quantity_field)


def percent_faults(meter: Meter) -> Iterator[Fault]:
    """Faults of which percentile is asked for."""
    if meter.aggregation != "percentile":
        if meter.percent is not None:
            yield Fault("percent", f"goes with the aggregation 'percentile'; this one is {meter.aggregation!r}")
    elif meter.percent is None:
        yield Fault("percent", "is needed: which percentile, such as 95")
    elif not 0 < meter.percent < 100 or meter.percent != round(meter.percent, MOST_DECIMALS):
        yield Fault("percent", f"must lie between 0 and 100, with at most {MOST_DECIMALS} decimals")


def window_faults(meter: Meter) -> Iterator[Fault]:
    """Faults of the window by which a rate is taken."""
    if meter.aggregation != "peak_rate":
        if meter.rate_window is not None:
            yield Fault("rate_window", f"goes with the aggregation 'peak_rate'; this one is {meter.aggregation!r}")
    elif meter.rate_window is None:
        yield Fault("rate_window", "is needed: minute or hour")
    elif meter.rate_window == "hour" and meter.resolution == "minute":
        yield Fault("rate_window", "must not be longer than the resolution: a minute holds a part of an hour only")


def expression_faults(meter: Meter) -> Iterator[Fault]:
    """Faults of a formula in place of a field."""
    if meter.quantity_field:
        yield Fault("quantity_field", "must be left out where there is an `expression`")
    if meter.aggregation in ("count", "unique"):
        yield Fault("expression", f"gives a quantity; {meter.aggregation!r} does not look at any")
    yield from formula_faults(meter.expression)


def level_faults(meter: Meter) -> Iterator[Fault]:
    """Faults of how a meter's quantity goes on in time."""
    if meter.aggregation != "weighted_sum":
        if meter.time_unit is not None:
            yield Fault("time_unit", f"goes with the aggregation 'weighted_sum'; this one is {meter.aggregation!r}")
    elif meter.time_unit is None:
        yield Fault("time_unit", "is needed: second, hour or day")
    if meter.operation_field:
        yield from operation_faults(meter)
    if meter.carries_over:
        yield from carrying_faults(meter)


def operation_faults(meter: Meter) -> Iterator[Fault]:
    """Faults of the field that says whether a value is added or removed."""
    if meter.aggregation != "unique":
        yield Fault("operation_field", f"goes with the aggregation 'unique'; this one is {meter.aggregation!r}")
    elif len(meter.operation_field) > LONGEST_NAME:
        yield Fault("operation_field", f"must have 1 to {LONGEST_NAME} letters")
    elif meter.operation_field == meter.quantity_field:
        yield Fault("operation_field", "must be another field than the one whose values are counted")
    elif meter.operation_field in meter.dimensions:
        yield Fault("operation_field", "must not be a dimension: a value would be added in one and removed in another")


def carrying_faults(meter: Meter) -> Iterator[Fault]:
    """Faults of a meter that is to carry over."""
    if meter.aggregation == "weighted_sum":
        yield Fault("carries_over", "must be left out: the level of a weighted_sum always carries over")
    elif meter.aggregation == "unique" and not meter.operation_field:
        yield Fault("carries_over", "needs an `operation_field`: without it no value would ever be removed")
    elif meter.aggregation not in MAY_CARRY_OVER:
        some = "sum, latest and unique"
        yield Fault("carries_over", f"goes with {some}; a period of {meter.aggregation!r} is made of its own events")
    elif meter.per_event:
        yield Fault("carries_over", "does not go with `per_event`: single events are charged once, in their period")


def filter_faults(filters: Sequence[Filter]) -> Iterator[Fault]:
    """Faults of what events have to pass."""
    if len(filters) > MOST_FILTERS:
        yield Fault("filters", f"are {len(filters)}; a meter has at most {MOST_FILTERS}")
    for i, one in enumerate(filters):
        if not 1 <= len(one.field) <= LONGEST_NAME:
            yield Fault(f"filters.{i}.field", f"must have 1 to {LONGEST_NAME} letters")
        if not 1 <= len(one.among) <= MOST_VALUES:
            yield Fault(f"filters.{i}.among", f"must have 1 to {MOST_VALUES} values")
        elif any(len(value) > LONGEST_NAME for value in one.among):
            yield Fault(f"filters.{i}.among", f"has a value of more than {LONGEST_NAME} letters")


def dimension_faults(dimensions: Sequence[str], quantity_field: str) -> Iterator[Fault]:
    """Faults of a meter's dimensions, which must be other fields than the one that is added up."""
    if len(dimensions) > MOST_DIMENSIONS:
        yield Fault("dimensions", f"are {len(dimensions)}; a meter has at most {MOST_DIMENSIONS}")
    elif sum(len(name.encode()) for name in dimensions) > MOST_BYTES:
        yield Fault("dimensions", f"have names of more than {MOST_BYTES} bytes together")
    for i, name in enumerate(dimensions):
        if not 1 <= len(name) <= LONGEST_NAME:
            yield Fault(f"dimensions.{i}", f"must have 1 to {LONGEST_NAME} characters")
        elif name in dimensions[:i]:
            yield Fault(f"dimensions.{i}", f"{name!r} is listed more than once")
        elif name == quantity_field:
            yield Fault(f"dimensions.{i}", f"{name!r} is what is added up; `per_event` keeps its values apart")
