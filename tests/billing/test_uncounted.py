"""Of what a meter does not count it is told why, and of nothing else."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from billing.catalog import Filter, Meter
from billing.taking import taker
from billing.uncounted import BEFORE, why_uncounted

LARGE = (Filter("model", ("large", "huge")),)
NO_TESTS = (Filter("test", ("true",), without=True),)
METERS = {
    "sum": Meter("tokens", "Tokens", "llm", "n", dimensions=("region",)),
    "filtered": Meter("large", "Large", "llm", "n", filters=(*LARGE, *NO_TESTS), per_event=True),
    "count": Meter("calls", "Calls", "llm", aggregation="count", filters=NO_TESTS),
    "unique": Meter("models", "Models", "llm", "model", aggregation="unique"),
    "seats": Meter("seats", "Seats", "llm", "user", aggregation="unique", operation_field="what", carries_over=True),
    "formula": Meter("ratio", "Ratio", "llm", expression="n / rest"),
    "percentile": Meter("slow", "Slow", "llm", "n", aggregation="percentile", percent=Decimal(95)),
}
REASONS: dict[str, tuple[str, dict[str, object], str]] = {
    "misspelt": ("sum", {"N": 5}, "data.n is missing"),
    "null": ("sum", {"n": None}, "data.n is missing"),
    "text": ("sum", {"n": "5"}, "data.n must be a number"),
    "filter": ("filtered", {"n": 5, "model": "small"}, "does not pass the filter on model"),
    "misspelt filter": (
        "filtered",
        {"n": 5, "modell": "large"},
        "does not pass the filter on model, for data.model is missing",
    ),
    "all that is to be mended": (
        "filtered",
        {"model": "small", "test": True},
        "does not pass the filter on model; does not pass the filter on test; data.n is missing",
    ),
    "operation": ("seats", {"user": "ann"}, "data.what is missing"),
    "both fields of a formula": ("formula", {}, "data.n is missing; data.rest is missing"),
    "formula": ("formula", {"n": 5, "rest": 0}, "n / rest divides by zero"),
    "too large a field of a formula": ("formula", {"n": 0, "rest": 10**30}, "data.rest must be below 10^30"),
    "would be counted by now": ("sum", {"n": 5}, BEFORE),
    "a dimension is not needed": ("sum", {"n": 5, "region": ["eu"]}, BEFORE),
}


@pytest.mark.parametrize(("meter", "data", "reason"), REASONS.values(), ids=REASONS)
def test_the_reason_says_what_is_to_be_mended(meter: str, data: dict[str, object], reason: str) -> None:
    assert why_uncounted(METERS[meter])(data) == reason


VALUES = st.one_of(
    st.sampled_from([None, True, False, 0, 1, 10**30, -(10**30), "", "add", "remove", "large", "true", "m" * 101, []]),
    st.decimals(-5, 5, places=2),
)


@given(
    st.sampled_from([*METERS.values()]), st.dictionaries(st.sampled_from("n rest model test user what".split()), VALUES)
)
@example(METERS["formula"], {"n": 0, "rest": 10**30})
def test_there_is_a_reason_exactly_where_nothing_is_taken(meter: Meter, data: dict[str, object]) -> None:
    assert (why_uncounted(meter)(data) == BEFORE) == (taker(meter)(data) is not None)
