"""What must hold for every formula: it is read as it was meant, worked out exactly, and always ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.errors import Refused
from billing.portion import Portion
from billing.pricing import Formula, Quantity
from billing.pricing.expression import MOST_CHARACTERS, MOST_DEPTH, Unreadable, read, worked_out
from billing.usage import Measured
from tests.billing.price_strategies import decimals, signed

steady = settings(derandomize=True, deadline=None, max_examples=300)
NAMES = ("quantity", "events", "other")


@dataclass(frozen=True)
class Meant:
    """A formula as a tree: how it is written, and what it comes to; ZeroDivisionError where it divides by zero."""

    text: str
    value: Callable[[Mapping[str, Fraction]], Fraction]
    binds: int
    """How tightly: 0 a comparison, 1 a sum, 2 a product, 3 a number, a name, or anything in brackets."""

    def within(self, binds: int) -> str:
        return self.text if self.binds >= binds else f"({self.text})"


def number(written: Decimal) -> Meant:
    return Meant(f"{written:f}", lambda values: Fraction(written), 3)


def name(called: str) -> Meant:
    return Meant(called, lambda values: values[called], 3)


def two(sign: str, left: Meant, right: Meant) -> Meant:
    """A sign between two; what stands right of it is bracketed unless it binds tighter, for chains go left to right."""
    work = {
        "+": (1, lambda a, b: a + b),
        "-": (1, lambda a, b: a - b),
        "*": (2, lambda a, b: a * b),
        "/": (2, lambda a, b: a / b),
        "<": (0, lambda a, b: Fraction(a < b)),
        "<=": (0, lambda a, b: Fraction(a <= b)),
        ">": (0, lambda a, b: Fraction(a > b)),
        ">=": (0, lambda a, b: Fraction(a >= b)),
        "==": (0, lambda a, b: Fraction(a == b)),
        "!=": (0, lambda a, b: Fraction(a != b)),
    }
    binds, do = work[sign]
    text = f"{left.within(max(binds, 1))} {sign} {right.within(binds + 1)}"
    return Meant(text, lambda values: do(left.value(values), right.value(values)), binds)


def minus(inner: Meant) -> Meant:
    return Meant(f"-{inner.within(3)}", lambda values: -inner.value(values), 3)


def call(function: str, arguments: list[Meant]) -> Meant:
    def value(values: Mapping[str, Fraction]) -> Fraction:
        if function == "if":
            return arguments[1 if arguments[0].value(values) else 2].value(values)
        given = [argument.value(values) for argument in arguments]
        match function:
            case "min":
                return sorted(given)[0]
            case "max":
                return sorted(given)[-1]
            case "abs":
                return given[0] if given[0] >= 0 else -given[0]
            case "ceil":
                return Fraction(ceil(given[0]))
            case "floor":
                return Fraction(floor(given[0]))
        places = min(30, max(0, int(given[1]))) if len(given) > 1 else 0
        scaled = abs(given[0]) * 10**places + Fraction(1, 2)
        return Fraction(floor(scaled), 10**places) * (-1 if given[0] < 0 else 1)

    return Meant(f"{function}({', '.join(argument.text for argument in arguments)})", value, 3)


LEAVES = decimals(4, 4).map(number) | st.sampled_from(NAMES).map(name)


def _grown(inner: st.SearchStrategy[Meant]) -> st.SearchStrategy[Meant]:
    signs = st.sampled_from(["+", "-", "*", "/", "<", "<=", ">", ">=", "==", "!="])
    several = st.lists(inner, min_size=2, max_size=3)
    return st.one_of(
        st.builds(two, signs, inner, inner),
        st.builds(two, signs, inner, inner),
        inner.map(minus),
        st.builds(call, st.sampled_from(["min", "max"]), several),
        st.builds(call, st.sampled_from(["abs", "ceil", "floor", "round"]), inner.map(lambda one: [one])),
        st.builds(lambda one, places: call("round", [one, number(Decimal(places))]), inner, st.integers(0, 40)),
        st.builds(lambda *three: call("if", list(three)), inner, inner, inner),
    )


MEANT = st.recursive(LEAVES, _grown, max_leaves=12).filter(lambda meant: len(meant.text) <= MOST_CHARACTERS)
VALUES = st.fixed_dictionaries({name: signed(decimals(5, 3)).map(Fraction) | st.just(Fraction(0)) for name in NAMES})


@steady
@given(MEANT, VALUES, st.data())
def test_a_formula_comes_to_what_was_meant(meant: Meant, values: dict[str, Fraction], data: st.DataObject) -> None:
    text = meant.text
    if data.draw(st.booleans()):
        text = text.replace(" ", data.draw(st.sampled_from(["", "  ", "\n", "\t"])))
    try:
        expected = meant.value(values)
    except ZeroDivisionError:
        with pytest.raises(Refused) as refused:
            worked_out(text, values)
        assert refused.value.code == "formula_failed"
        return
    found = worked_out(text, values)
    assert found == expected
    assert type(found) is Fraction


@steady
@given(MEANT, signed(decimals(5, 3)), st.integers(0, 9), signed(decimals(5, 3)))
def test_a_formula_as_a_price_charges_what_it_comes_to(
    meant: Meant, quantity: Decimal, events: int, other: Decimal
) -> None:
    price = Formula(meant.text, (Quantity("other", "traffic"),))
    used = Measured((Portion(quantity, events), Portion(other, 1, meter="traffic")))
    values = {"quantity": Fraction(quantity), "events": Fraction(events), "other": Fraction(other)}
    try:
        assert price.charge(used).amount.value == meant.value(values)
    except (ZeroDivisionError, Refused) as failed:
        with pytest.raises(ZeroDivisionError):
            meant.value(values)
        assert isinstance(failed, Refused)


SOUP = st.lists(
    st.sampled_from(
        "quantity events other x _ 1 0 2.50 1. .5 1e3 ( ) , + - * / < <= > >= == != = ** // min max abs ceil floor "
        "round if if( max( round( __import__ lambda . [ ] ' \" \\ ; : ² ٣ é \x00 \u2028 1_000".split()
    )
    | st.text(max_size=2),
    max_size=25,
)


@settings(steady, max_examples=700)
@given(SOUP, st.sampled_from(["", " "]), VALUES)
def test_any_text_is_read_or_unreadable_and_fails_only_by_dividing_by_zero(
    tokens: list[str], between: str, values: dict[str, Fraction]
) -> None:
    text = between.join(tokens)
    try:
        expression = read(text)
    except Unreadable as why:
        assert str(why)
        return
    known = dict.fromkeys(expression.names, Fraction(3)) | values
    try:
        assert type(worked_out(text, known)) is Fraction
    except Refused as refused:
        assert refused.code == "formula_failed"
        assert "/" in text


@pytest.mark.parametrize("opened", ["(", "-", "max(1,", "if(1,2,", "round("])
def test_nesting_is_read_up_to_its_limit_and_never_overflows(opened: str) -> None:
    def nested(times: int) -> str:
        return opened * times + "1" + ")" * (times if "(" in opened else 0)

    assert worked_out(nested(MOST_DEPTH), {}) in (1, 2)
    with pytest.raises(Unreadable, match="nested deeper"):
        read(nested(MOST_DEPTH + 1))
    with pytest.raises(Unreadable, match="longer than"):
        read(nested(MOST_CHARACTERS))


def test_the_longest_formula_of_the_largest_numbers_ends_at_once() -> None:
    text = "*".join(["quantity"] * 55)
    assert MOST_CHARACTERS - 10 <= len(text) <= MOST_CHARACTERS
    assert worked_out(text, {"quantity": Fraction(10**24)}) == 10 ** (24 * 55)
