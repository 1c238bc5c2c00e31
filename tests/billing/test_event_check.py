"""What a meter would not count of an event, its sender is told: which field, and why."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from billing.catalog import Meter
from billing.errors import Fault
from billing.event_check import event_check
from billing.field_formula import formula_faults
from billing.taking import taker

TOKENS = Meter("tokens", "Tokens", "llm", "n", dimensions=("model",))
MODELS = Meter("models", "Models", "llm", "model", aggregation="unique")
SEATS = Meter("seats", "Seats", "llm", "user", aggregation="unique", operation_field="what", carries_over=True)
RATIO = Meter("ratio", "Ratio", "llm", expression="n / rest")
CALLS = Meter("calls", "Calls", "llm", aggregation="count")
ALL = (TOKENS, MODELS, SEATS, RATIO, CALLS)

FITS: dict[str, dict[str, object]] = {
    "nothing at all": {},
    "whole": {"n": 3, "model": "large", "rest": 2, "user": "u1", "what": "add"},
    "null is nothing": {"n": None, "model": None, "rest": None, "user": None, "what": None},
    "largest": {"n": 10**30 - 1, "rest": 1},
    "longest": {"model": "m" * 100, "user": "u" * 100},
    "what is no text but written like one": {"model": True, "user": Decimal("1.50")},
}
FAULTS: dict[str, tuple[dict[str, object], str, str]] = {
    "text": ({"n": "3"}, "data.n", "must be a number (meters tokens, ratio)"),
    "truth": ({"n": True}, "data.n", "must be a number (meters tokens, ratio)"),
    "list": ({"n": [3]}, "data.n", "must be a number (meters tokens, ratio)"),
    "too large": ({"n": 10**30}, "data.n", "must be below 10^30 (meters tokens, ratio)"),
    "too negative": ({"n": Decimal(-(10**30))}, "data.n", "must be below 10^30 (meters tokens, ratio)"),
    "object in a dimension": (
        {"model": {}},
        "data.model",
        "must be text, a number, true or false (meters tokens, models)",
    ),
    "long dimension": ({"model": "m" * 101}, "data.model", "must have at most 100 characters (meters tokens, models)"),
    "long value": ({"user": "u" * 101}, "data.user", "must have at most 100 characters (meter seats)"),
    "operation": ({"what": "drop"}, "data.what", "must be add or remove (meter seats)"),
    "operation that has no hash": ({"what": ["add"]}, "data.what", "must be add or remove (meter seats)"),
    "text in a formula": ({"n": 1, "rest": "2"}, "data.rest", "must be a number (meter ratio)"),
    "a result too large": (
        {"n": 10**30 - 1, "rest": Decimal("0.5")},
        "data",
        "n / rest must give a number below 10^30 (meter ratio)",
    ),
    "a field before what a formula gives": (
        {"n": 1, "rest": 0, "model": "m" * 101},
        "data.model",
        "must have at most 100 characters (meters tokens, models)",
    ),
    "division": ({"n": 1, "rest": 0}, "data", "n / rest divides by zero (meter ratio)"),
}


@pytest.mark.parametrize("value", [None, "eu", "m" * 100, "m" * 101, True, 3, Decimal("1.50"), [], {}])
def test_one_dimension_is_taken_like_any_number_of_them(value: object) -> None:
    data = {"n": 3} if value is None else {"n": 3, "model": value}
    two = taker(replace(TOKENS, dimensions=("model", "zone")))
    assert taker(TOKENS)(data) == two(data)


def test_a_dimension_is_zero_in_one_way() -> None:
    """As the events behind a total are found again (models/event.py): PostgreSQL reads -0.0 as 0.0."""
    for written in ("-0.0", "0.0"):
        assert taker(TOKENS)({"n": 3, "model": Decimal(written)}) == (3, (("model", "0.0"),), None)


@pytest.mark.parametrize("data", FITS.values(), ids=FITS)
def test_what_fits_has_no_fault(data: dict[str, object]) -> None:
    assert event_check(ALL)(data) is None


@pytest.mark.parametrize(("data", "field", "reason"), FAULTS.values(), ids=FAULTS)
def test_what_no_meter_would_count_is_told(data: dict[str, object], field: str, reason: str) -> None:
    assert event_check(ALL)(data) == Fault(field, reason)
    why, _, named = reason.rstrip(")").rpartition(" (")
    spoilt = [m for m in ALL if event_check([m])(data) == Fault(field, f"{why} (meter {m.meter_id})")]
    assert {m.meter_id for m in spoilt} == {*named.removeprefix("meters ").removeprefix("meter ").split(", ")}
    for meter in spoilt:  # A dimension that does not fit counts as none.
        assert taker(meter)(data) is None or field.removeprefix("data.") in meter.dimensions


def test_each_field_is_looked_at_as_every_meter_needs_it() -> None:
    """Two meters may ask the same field for a number and for a short word."""
    apart = Meter("apart", "Apart", "llm", "n", aggregation="unique")
    assert event_check([apart, TOKENS])({"n": "word"}) == Fault("data.n", "must be a number (meter tokens)")
    assert event_check([apart, TOKENS])({"n": 12}) is None
    assert event_check([])({"n": "word"}) is None


def test_few_of_many_meters_are_named() -> None:
    many = [replace(TOKENS, meter_id=f"m{no}") for no in range(5)]
    named = {no: event_check(many[:no])({"n": "word"}) for no in (1, 3, 5)}
    assert {no: fault.reason for no, fault in named.items() if fault} == {
        1: "must be a number (meter m0)",
        3: "must be a number (meters m0, m1, m2)",
        5: "must be a number (meters m0, m1, m2 and 2 more)",
    }


ZERO: dict[str, list[str]] = {
    "a / 0": ["0"],
    "a + b / (1 - 1) / 0.0": ["( 1 - 1 )", "0.0"],
    "if(a > 0, b, a / -0) / 0": ["- 0", "0"],
    "a / min(1, floor(0.5) * 2)": ["min ( 1 , floor ( 0.5 ) * 2 )"],
    "a / (1 / 0)": ["0"],
    "a / b": [],
    "a / (b - b)": ["( b - b )"],
    "a / (b - b + 0 * 2)": ["( b - b + 0 * 2 )"],
    "a / ((b + c) * (b - c) - b * b + c * c)": ["( ( b + c ) * ( b - c ) - b * b + c * c )"],
    "a / (b / c - b / c)": ["( b / c - b / c )"],
    "if(a > 0, a, a / (a - a))": ["( a - a )"],
    "max / (max - max)": ["( max - max )"],
    "a / (b - c)": [],
    "a / (b - 1) / (b - 2) / (b * b)": [],
    "a / ((b + c) * (b + c) - b * b - c * c)": [],
    # No arithmetic alone: what these come to may differ from one event to another.
    "a / (b == 3)": [],
    "a / (b - max(b, 5))": [],
    "a / max(0, b - b)": [],
    "0 / a / 2 * 0": [],
    "a / max(1, b)": [],
}


@pytest.mark.parametrize(("expression", "divisors"), ZERO.items(), ids=ZERO)
def test_a_formula_that_divides_by_what_is_always_zero_is_no_formula(expression: str, divisors: list[str]) -> None:
    """Every event would be refused for it."""
    wanted = [f"divides by {one!r}, which is zero whatever an event says" for one in divisors]
    assert [(f.field, f.reason) for f in formula_faults(expression)] == [("expression", one) for one in wanted]
