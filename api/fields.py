"""Fields that several requests have: ids, names, days and moments, in the bounds within which billing can work."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated

from fastapi import Depends, Query
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from billing.countries import wrong_country
from billing.errors import Refused
from billing.money import exponent
from billing.period import Period, days_between, zone
from models import reasons

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NUMBER = re.compile(r"[+-]?[0-9.]+")


def _day(value: object) -> date:
    """No moment: whose day it would lie on is not said, and its zone would count for nothing."""
    if isinstance(value, str) and _DAY.fullmatch(value):
        with suppress(ValueError):
            return date.fromisoformat(value)
    elif isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise ValueError(reasons.DAY)


def _moment(value: object, read: ValidatorFunctionWrapHandler) -> object:
    """A bare number would be read as seconds since 1970, also in quotes."""
    if not (isinstance(value, int | float | Decimal) or (isinstance(value, str) and _NUMBER.fullmatch(value.strip()))):
        with suppress(ValidationError):
            return read(value)
    raise ValueError(reasons.MOMENT)


def _in_range(value: date) -> date:
    if value.year not in reasons.YEARS:
        raise ValueError(reasons.OUT_OF_YEARS)
    return value


def _time_zone(name: str) -> str:
    try:
        zone(name)
    except Refused as refusal:
        raise ValueError(f"{refusal.reason} {refusal.remedy}") from refusal
    return name


def _currency(code: str) -> str:
    try:
        exponent(code)
    except Refused as refusal:
        raise ValueError(f"{refusal.reason} {refusal.remedy}") from refusal
    return code


def _country(code: str) -> str:
    if wrong := wrong_country(code):
        raise ValueError(wrong)
    return code


Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Id = Annotated[str, StringConstraints(pattern=reasons.ENTRY_ID)]
CallersId = Annotated[str, StringConstraints(pattern=reasons.CALLERS_ID)]
Code = Annotated[str, StringConstraints(pattern=reasons.COUPON_CODE)]
Country = Annotated[
    str,
    StringConstraints(pattern=reasons.COUNTRY),
    AfterValidator(_country),
    Field(description="ISO 3166 code, such as DE."),
]
Currency = Annotated[str, StringConstraints(pattern=reasons.CURRENCY), Field(description="ISO 4217 code, such as EUR.")]
KnownCurrency = Annotated[Currency, AfterValidator(_currency)]
TimeZone = Annotated[
    str, AfterValidator(_time_zone), Field(description="Name in the IANA database, such as Europe/Berlin.")
]
Day = Annotated[date, BeforeValidator(_day), AfterValidator(_in_range)]
Moment = Annotated[AwareDatetime, WrapValidator(_moment), AfterValidator(_in_range)]


def _days(since: Day, until: Day) -> Period:
    return days_between(since, until)


Days = Annotated[Period, Depends(_days)]
"""Of the parameters `since` and `until`, which is not part of them; refused (422) if there are none."""
Page = Annotated[int, Query(ge=1, le=500)]
Seats = Annotated[Decimal, Field(ge=0, le=10**9, description="A whole number.")]
Percent = Annotated[Decimal, Field(ge=0, le=100, description="0 to 100.")]
LongText = Annotated[str, StringConstraints(max_length=2000)]
Person = Annotated[str, StringConstraints(min_length=2, max_length=200), Field(description="Who does this, by name.")]


VersionBehind = Annotated[int, Query(ge=0, le=2**31 - 1)]
"""Of pages of versions: the one behind which to go on."""
