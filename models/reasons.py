"""Why a value does not fit, in one vocabulary whichever library found it: short, and what to send instead.

Where in a document it stands is not said here; misfits.py does that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

from billing.catalog_check import CODE, ID, wrong_id

COUNTRY = r"^[A-Z]{2}$"
CURRENCY = r"^[A-Z]{3}$"
ENTRY_ID = f"^{ID.pattern}$"
COUPON_CODE = f"^{CODE.pattern}$"
CALLERS_ID = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{1,63}$"
EMAIL = r"^[^@\s]+@[^@\s]+$"
MONTH = r"^(19|20|21)[0-9]{2}-(0[1-9]|1[0-2])$"
INVOICE_PREFIX = r"^[A-Za-z0-9-]{0,19}[A-Za-z-]$"

PATTERNS = {
    COUNTRY: "must be a country in two capital letters (ISO 3166-1), such as DE",
    CURRENCY: "must be a currency in three capital letters (ISO 4217), such as EUR",
    ENTRY_ID: wrong_id("products", ""),
    COUPON_CODE: wrong_id("coupons", ""),
    CALLERS_ID: "must be 2 to 64 letters, digits, '_', '.', ':' or '-', beginning with a letter or digit",
    EMAIL: "must be an address such as billing@example.com",
    MONTH: "must be a month such as 2026-01",
    INVOICE_PREFIX: "must be at most 20 letters, digits or '-', the last of them no digit",
}
"""What a person is told of each pattern that the API document shows."""

NEEDED = "is needed"
NOT_NOTHING = "must not be 0"
NO_SUCH_FIELD = "there is no such field"
DAY = "must be a day such as 2026-01-31"
MOMENT = "must be a moment with its zone, such as 2026-01-31T12:00:00Z"
YEARS = range(1970, 2200)
OUT_OF_YEARS = f"must lie in the years {YEARS.start} to {YEARS.stop - 1}"
IN_ARREARS = "must be false or left out: usage is billed at the end of its period"
_TEXT, _LIST, _NUMBER, _WHOLE = "must be text", "must be a list", "must be a number", "must be a whole number"
_FIELDS, _TRUTH, _NULL = "must be fields with their values", "must be true or false", "must be null or left out"

_SAID = {
    "missing": NEEDED,
    "extra_forbidden": NO_SUCH_FIELD,
    "unexpected_keyword_argument": NO_SUCH_FIELD,
    **dict.fromkeys(("dataclass_type", "dict_type", "mapping_type", "model_type", "model_attributes_type"), _FIELDS),
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), _LIST),
    **dict.fromkeys(("string_type", "string_unicode"), _TEXT),
    **dict.fromkeys(("bool_type", "bool_parsing"), _TRUTH),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), _WHOLE),
    "int_parsing_size": f"{_WHOLE} of fewer digits",
    **dict.fromkeys(("decimal_type", "decimal_parsing", "float_type", "float_parsing", "finite_number"), _NUMBER),
    **dict.fromkeys(("date_type", "date_parsing", "date_from_datetime_parsing", "date_from_datetime_inexact"), DAY),
    **dict.fromkeys(
        ("datetime_type", "datetime_parsing", "datetime_from_date_parsing", "datetime_object_invalid"), MOMENT
    ),
    "timezone_aware": MOMENT,
    "none_required": _NULL,
}
_BOUNDS = {
    "greater_than": ("gt", "must be above"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be below"),
    "less_than_equal": ("le", "must be at most"),
}
_DIGITS = {
    "decimal_max_digits": ("max_digits", "digits"),
    "decimal_max_places": ("decimal_places", "decimal places"),
    "decimal_whole_digits": ("whole_digits", "digits before the point"),
}


def of_pydantic(error: Mapping[str, Any]) -> str:
    """The reason in one of pydantic's errors."""
    kind, about = error["type"], error.get("ctx", {})
    if kind in _SAID:
        return _SAID[kind]
    if kind in _BOUNDS:
        name, says = _BOUNDS[kind]
        return f"{says} {_figure(about[name])}"
    if kind in _DIGITS:
        name, of = _DIGITS[kind]
        return f"must have at most {about[name]} {of}"
    match kind:
        case "string_too_short" | "too_short":
            return _at_least(about["min_length"], text=kind.startswith("string"))
        case "string_too_long" | "too_long":
            return _at_most(about["max_length"], text=kind.startswith("string"))
        case "string_pattern_mismatch" if about["pattern"] in PATTERNS:
            return PATTERNS[about["pattern"]]
        case "literal_error" | "enum":
            return f"must be {options_of(about['expected'])}"
    return str(error["msg"]).removeprefix("Value error, ")


def options_of(expected: str) -> str:
    """`'a', 'b' or 'c'` without the quotes."""
    return re.sub(r"'([^']+)'", r"\1", expected)


_MOST_OF_A_NAME = 100
"""A longer one is not repeated whole, and was meant for none that there is: to look for likeness takes its length."""


def or_rather(name: str, known: Iterable[str]) -> str:
    """What was meant by a name that there is not, if it is like one of those that there are."""
    if len(name) > _MOST_OF_A_NAME:
        return ""
    return "".join(f"; did you mean {other}" for other in get_close_matches(name, list(known), n=1, cutoff=0.65))


_TYPES = {
    "str": _TEXT,
    "array": _LIST,
    "object": _FIELDS,
    "bool": _TRUTH,
    "int": _WHOLE,
    "float": _NUMBER,
    "decimal": _NUMBER,
    "datetime": MOMENT,
    "null": _NULL,
}
_NAMED = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL)
_LENGTH = re.compile(r"Expected `(str|array)` of length (>=|<=) (\d+)")
_TYPE = re.compile(r"Expected `(\w+)[^`]*`")


def of_msgspec(message: str, field: str = "", known: Iterable[str] = ()) -> str:
    """The reason in one of msgspec's messages, without its place. `field` is the field that will be named with it,
    `known` are those that may stand there.
    """
    if message == "Invalid RFC3339 encoded datetime":
        return MOMENT
    if named := _NAMED.fullmatch(message):
        missing, name = named[1] == "missing required", named[2]
        if missing:
            return NEEDED if name == field else f"the field `{name}` is needed"
        return f"there is no field `{name[:_MOST_OF_A_NAME]}`{or_rather(name, known)}"
    if length := _LENGTH.fullmatch(message):
        bound = _at_least if length[2] == ">=" else _at_most
        return bound(int(length[3]), text=length[1] == "str")
    if kind := _TYPE.match(message):
        return _TYPES.get(kind[1], message)
    return message


def _at_least(least: int, *, text: bool) -> str:
    if least == 1:
        return "must not be empty"
    return f"must have at least {least:,} {'characters' if text else 'entries'}"


def _at_most(most: int, *, text: bool) -> str:
    return f"must have at most {most:,} {'characters' if text else 'entries'}"


def _figure(bound: object) -> str:
    """Powers of ten that nobody would count the zeros of are written as such."""
    number = Decimal(str(bound))
    if number.adjusted() >= 15 and abs(number) == Decimal(10) ** number.adjusted():
        return f"{'-' if number < 0 else ''}10^{number.adjusted()}"
    return f"{number:,}"
