"""Small arithmetic expressions, worked out exactly: numbers, names, + - * /, comparisons, a few functions.

There are no loops, no powers and no calls of anything else, and an expression is short; so it always ends, and its
figures stay as small as a few products. Nothing is rounded but by ceil, floor and round.

    expression = sum [("<" | "<=" | ">" | ">=" | "==" | "!=") sum]
    sum        = product {("+" | "-") product}
    product    = factor {("*" | "/") factor}
    factor     = number | name | function "(" expression {"," expression} ")" | "(" expression ")" | "-" factor
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise

from billing.errors import Refused
from billing.quantity import in_steps

MOST_CHARACTERS, MOST_DEPTH = 500, 30
POINTS = 3
"""At so many a divisor is worked out to see whether it is always zero."""

_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?(?![\w.]))|([A-Za-z_]\w*)|(<=|>=|==|!=|[-+*/(),<>]))")
Number = int | Fraction
"""Exact both, and the whole ones fast."""

_COMPARE: dict[str, Callable[[Number, Number], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def _divided(one: Number, other: Number) -> Number:
    return Fraction(one) / other


def _round(value: Number, places: Number = 0) -> Number:
    """To so many decimal places (0 to 30), ties away from zero."""
    return in_steps(Fraction(value), Decimal(1).scaleb(-min(30, max(0, int(places)))), "nearest")


# Each with how many arguments it takes, at least and at most.
_FUNCTIONS: dict[str, tuple[Callable[..., Number], int, int]] = {
    "min": (min, 2, 10),
    "max": (max, 2, 10),
    "abs": (abs, 1, 1),
    "ceil": (lambda x: -(-x.numerator // x.denominator), 1, 1),
    "floor": (lambda x: x.numerator // x.denominator, 1, 1),
    "round": (_round, 1, 2),
}


class Unreadable(ValueError):
    """The text is no expression; the words say where and why."""


Values = Mapping[str, Number]


@dataclass(frozen=True)
class Expression:
    """A read expression: the names it asks for, how to work it out, of how many parts it is, and by which parts it
    divides though they are zero whatever the names stand for.
    """

    names: frozenset[str]
    work_out: Callable[[Values], Number]
    parts: int
    zero_divisors: tuple[str, ...] = ()


@lru_cache(maxsize=1000)
def read(text: str) -> Expression:
    """Raises Unreadable, with the place."""
    if len(text) > MOST_CHARACTERS:
        raise Unreadable(f"is longer than {MOST_CHARACTERS} characters")
    reader = _Reader(text)
    found = reader.comparison(0)
    reader.expect_end()
    return Expression(frozenset(reader.names), found, len(reader.tokens), tuple(reader.zero_divisors))


def worked_out(text: str, values: Values) -> Fraction:
    """The exact result. Refused where it divides by zero: a person has to mend the formula."""
    try:
        return Fraction(read(text).work_out(values))
    except ZeroDivisionError as error:
        said = ", ".join(f"{name} {value}" for name, value in sorted(values.items()))
        raise Refused(
            f"The formula {text!r} divides by zero with {said}.",
            code="formula_failed",
            remedy="Publish a version of the plan whose formula holds for these quantities, such as with max(1, ...).",
        ) from error


class _Reader:
    """Reads from left to right; each method reads one rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.names: set[str] = set()
        self.zero_divisors: list[str] = []
        self.tokens = list(_tokens(text))
        self.at = 0

    def comparison(self, depth: int) -> Callable[[Values], Number]:
        left = self.sum(depth)
        if self.next in _COMPARE:
            compare, right = _COMPARE[self.take()], self.sum(depth)
            return lambda values: int(compare(left(values), right(values)))
        return left

    def sum(self, depth: int) -> Callable[[Values], Number]:
        return self._chain(depth, self.product, {"+": operator.add, "-": operator.sub})

    def product(self, depth: int) -> Callable[[Values], Number]:
        return self._chain(depth, self.factor, {"*": operator.mul, "/": _divided})

    def _chain(
        self,
        depth: int,
        part: Callable[[int], Callable[[Values], Number]],
        signs: Mapping[str, Callable[[Number, Number], Number]],
    ) -> Callable[[Values], Number]:
        parts: list[tuple[Callable[[Number, Number], Number], Callable[[Values], Number]]] = []
        first = part(depth)
        while self.next in signs:
            sign, start = self.take(), self.at
            parts.append((signs[sign], part(depth)))
            if sign == "/":
                self._look_at_divisor(parts[-1][1], start)
        if not parts:
            return first

        def chained(values: Values) -> Number:
            found: Number = first(values)
            for combine, following in parts:
                found = combine(found, following(values))
            return found

        return chained

    def _look_at_divisor(self, divisor: Callable[[Values], Number], start: int) -> None:
        """What has no names is the same for all values. What is nothing but + - * / and is not always zero has, in each
        name, fewer zeros than the text has characters; so none of several points drawn from 2^64 is among them, and to
        be zero at all of these is to be zero everywhere (Schwartz and Zippel).
        """
        told = self.tokens[start : self.at]
        points = [_point(self.names, no) for no in range(POINTS)] if _is_arithmetic(told) else [{}]
        try:
            zero = all(divisor(point) == 0 for point in points)
        except (KeyError, ZeroDivisionError):
            return
        if zero:
            self.zero_divisors.append(" ".join(told))

    def factor(self, depth: int) -> Callable[[Values], Number]:
        if depth > MOST_DEPTH:
            raise Unreadable(f"is nested deeper than {MOST_DEPTH}")
        token = self.take()
        if token == "-":
            inner = self.factor(depth + 1)
            return lambda values: -inner(values)
        if token == "(":
            inner = self.comparison(depth + 1)
            self.expect(")")
            return inner
        if token[:1].isdigit():
            number = Fraction(token)
            figure = number.numerator if number.denominator == 1 else number
            return lambda values: figure
        if _is_word(token):
            return self._call(token, depth) if self.next == "(" else self._name(token)
        raise Unreadable(f"has {token or 'its end'!r} where a number, a name or a bracket was expected")

    def _name(self, name: str) -> Callable[[Values], Number]:
        self.names.add(name)
        return lambda values: values[name]

    def _call(self, name: str, depth: int) -> Callable[[Values], Number]:
        if name == "if":
            condition, then, otherwise = self._arguments(name, depth, 3, 3)
            return lambda values: then(values) if condition(values) else otherwise(values)
        if name not in _FUNCTIONS:
            raise Unreadable(f"calls {name!r}; there are {', '.join(sorted([*_FUNCTIONS, 'if']))}")
        function, least, most = _FUNCTIONS[name]
        arguments = self._arguments(name, depth, least, most)
        return lambda values: function(*(argument(values) for argument in arguments))

    def _arguments(self, name: str, depth: int, least: int, most: int) -> list[Callable[[Values], Number]]:
        self.expect("(")
        found = [self.comparison(depth + 1)]
        while self.next == ",":
            self.take()
            found.append(self.comparison(depth + 1))
        self.expect(")")
        if not least <= len(found) <= most:
            raise Unreadable(f"gives {name} {len(found)} arguments; it takes {least} to {most}")
        return found

    @property
    def next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.next
        self.at += 1
        return token

    def expect(self, token: str) -> None:
        if self.take() != token:
            raise Unreadable(f"lacks {token!r} after {' '.join(self.tokens[: self.at - 1])!r}")

    def expect_end(self) -> None:
        if self.next:
            raise Unreadable(f"goes on with {self.next!r} after {' '.join(self.tokens[: self.at])!r}")


def _is_arithmetic(tokens: Sequence[str]) -> bool:
    """Without functions and comparisons, by which a part may be zero in one place and not in another."""
    calls = any(_is_word(one) and following == "(" for one, following in pairwise(tokens))
    return not calls and _COMPARE.keys().isdisjoint(tokens)


def _is_word(token: str) -> bool:
    return token[:1].isalpha() or token[:1] == "_"


def _point(names: Iterable[str], no: int) -> dict[str, Number]:
    """Whole numbers that have nothing to do with one another, the same each time."""
    return {name: int.from_bytes(sha256(f"{no} {name}".encode()).digest()[:8]) for name in names}


def _tokens(text: str) -> Iterator[str]:
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None:
            raise Unreadable(f"cannot be read from {text[at : at + 20].strip()!r} on")
        yield found[found.lastindex or 0]
        at = found.end()
