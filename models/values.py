"""Engine values stored whole in one JSON column, and read back as they were; and the column types tables share."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from psycopg.types.json import Jsonb
from pydantic import TypeAdapter
from sqlalchemy import BigInteger, DateTime, Dialect, types
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from billing.late import Late

T = TypeVar("T")


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}
_LATE: TypeAdapter[Late] = TypeAdapter(Late)


def adapter(of: type[T]) -> TypeAdapter[T]:
    """pydantic's reader and writer of a type, made once."""
    if of not in _ADAPTERS:
        _ADAPTERS[of] = TypeAdapter(of)
    return _ADAPTERS[of]


def to_json(value: object) -> Any:
    """Decimals and dates as text, so that nothing is lost on the way."""
    return adapter(type(value)).dump_python(value, mode="json")


def whole(value: object) -> Jsonb:
    """For a JSON column in SQL."""
    return Jsonb(to_json(value))


def copied(value: object) -> str:
    """For a JSON column in COPY, without what is as it is by default: it is read back the same, and many are stored."""
    return json.dumps(adapter(type(value)).dump_python(value, mode="json", exclude_defaults=True))


def read(of: type[T], data: object) -> T:
    """The value of type `of` that `data` was made from."""
    return adapter(of).validate_python(data)


def read_late(data: object) -> Late:
    """A meter's policy for late usage."""
    found: Late = _LATE.validate_python(data)
    return found


class Whole(types.TypeDecorator[Any]):
    """A JSON column that holds one engine value."""

    impl = JSONB
    cache_ok = True

    def __init__(self, of: type) -> None:
        super().__init__(none_as_null=True)
        self.of = of

    def process_bind_param(self, value: object, dialect: Dialect) -> Any:
        return None if value is None else to_json(value)

    def process_result_value(self, value: object, dialect: Dialect) -> Any:
        return None if value is None else read(self.of, value)


def moment(**options: Any) -> Any:
    """A point in time, kept in UTC."""
    return Field(sa_type=DateTime(timezone=True), **options)


def large(**options: Any) -> Any:
    """A whole number of up to 18 digits: money in minor units, how many events there are."""
    return Field(sa_type=BigInteger, **options)
