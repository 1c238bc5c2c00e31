"""JSON with exact numbers: a Decimal is written digit by digit, and read back as one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | Decimal | str | Sequence[Json] | Mapping[str, Json] | None"


_LONGEST = 100
"""A number with a larger exponent keeps it: written out it would take up as many digits as it names."""


_plain = json.JSONEncoder(allow_nan=False).encode


def dumps(value: Json | date | datetime) -> str:
    """Raises ValueError for what is no finite number, TypeError for what JSON does not know."""
    if isinstance(value, str | int):
        return _plain(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} is not a number that can be sent")
        return f"{value:f}" if abs(value.adjusted()) < _LONGEST else str(value)
    if isinstance(value, dict | Mapping):
        return "{" + ",".join(f"{_plain(str(key))}:{dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, date):
        return _plain(value.isoformat())
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return "[" + ",".join(dumps(item) for item in value) + "]"
    return _plain(value)


def loads(text: str | bytes) -> Json:
    """Raises ValueError if it is not JSON."""
    value: Json = json.loads(text, parse_float=Decimal)
    return value
