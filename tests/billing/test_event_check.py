"""What a meter would not count of an event, its sender is told: which field, and why."""

from __future__ import annotations

from decimal import Decimal

import pytest

from billing.catalog import Meter
from billing.errors import Fault
from billing.event_check import event_check
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
    "text": ({"n": "3"}, "data.n", "must be a number"),
    "truth": ({"n": True}, "data.n", "must be a number"),
    "list": ({"n": [3]}, "data.n", "must be a number"),
    "too large": ({"n": 10**30}, "data.n", "must be below 10^30"),
    "too negative": ({"n": Decimal(-(10**30))}, "data.n", "must be below 10^30"),
    "object in a dimension": ({"model": {}}, "data.model", "must be text, a number, true or false"),
    "long dimension": ({"model": "m" * 101}, "data.model", "must have at most 100 characters"),
    "long value": ({"user": "u" * 101}, "data.user", "must have at most 100 characters"),
    "operation": ({"what": "drop"}, "data.what", "must be add or remove"),
    "operation that has no hash": ({"what": ["add"]}, "data.what", "must be add or remove"),
    "text in a formula": ({"n": 1, "rest": "2"}, "data.rest", "must be a number"),
    "a result too large": (
        {"n": 10**30 - 1, "rest": Decimal("0.5")},
        "data",
        "n / rest must give a number below 10^30",
    ),
    "a field before what a formula gives": (
        {"n": 1, "rest": 0, "model": "m" * 101},
        "data.model",
        "must have at most 100 characters",
    ),
    "division": ({"n": 1, "rest": 0}, "data", "n / rest divides by zero"),
}


@pytest.mark.parametrize("data", FITS.values(), ids=FITS)
def test_what_fits_has_no_fault(data: dict[str, object]) -> None:
    assert event_check(ALL)(data) is None


@pytest.mark.parametrize(("data", "field", "reason"), FAULTS.values(), ids=FAULTS)
def test_what_no_meter_would_count_is_told(data: dict[str, object], field: str, reason: str) -> None:
    assert event_check(ALL)(data) == Fault(field, reason)
    spoilt = [m for m in ALL if event_check([m])(data) == Fault(field, reason)]
    assert spoilt
    for meter in spoilt:  # A dimension that does not fit counts as none.
        assert taker(meter)(data) is None or field.removeprefix("data.") in meter.dimensions


def test_each_field_is_looked_at_as_every_meter_needs_it() -> None:
    """Two meters may ask the same field for a number and for a short word."""
    apart = Meter("apart", "Apart", "llm", "n", aggregation="unique")
    assert event_check([apart, TOKENS])({"n": "word"}) == Fault("data.n", "must be a number")
    assert event_check([apart, TOKENS])({"n": 12}) is None
    assert event_check([])({"n": "word"}) is None
