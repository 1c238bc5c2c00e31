"""What stands in columns of Parquet, as JSON has it, moments aside. A cell that cannot be had spoils no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from math import isfinite
from struct import pack, unpack
from typing import TYPE_CHECKING

from perennial_client import Json

if TYPE_CHECKING:
    import pyarrow

_UNREADABLE = (ArithmeticError, LookupError, TypeError, ValueError)
"""Times that no calendar shows, texts that are not UTF-8, maps that name a key twice or that no dictionary can hold."""
_FORMS = {"halffloat": "e", "float": "f"}
"""Arrow's names for floats of 16 and 32 bits (IEEE 754), and those of `struct`."""
_MOST_DIGITS = 9
"""So many tell apart all floats of 32 bits."""


@dataclass(frozen=True, slots=True, repr=False)
class Unreadable:
    """A cell that Python has no value for, why, and as it stands."""

    reason: str
    text: str

    def __repr__(self) -> str:
        return self.text


def cells_of(column: pyarrow.Array) -> Sequence[object]:
    """Python's values of a column: times as finely as events have them, maps as dictionaries, floats without noise."""
    kind = _in_microseconds(column.type)
    if kind != column.type:
        column = column.cast(kind, safe=False)
    try:
        cells: Sequence[object] = column.to_pylist(maps_as_pydicts="strict")
    except _UNREADABLE:
        cells = [_cell(column, number) for number in range(len(column))]
    return [_shortened(cell, kind) for cell in cells] if "float" in str(kind) else cells


def plain(cell: object) -> Json | date:
    """A value as JSON has it, moments aside; a float as the shortest number that means it. Raises ValueError."""
    if cell is None or isinstance(cell, bool | int | str | date):
        return cell
    if isinstance(cell, Unreadable):
        raise ValueError(cell.reason)
    if isinstance(cell, float):
        cell = Decimal(repr(cell))
    if isinstance(cell, Decimal):
        if not cell.is_finite():
            raise ValueError(f"{cell} is no number")
        return cell
    if isinstance(cell, Mapping):
        return {_name(key): _in_json(value) for key, value in cell.items()}
    if isinstance(cell, list):
        return [_in_json(value) for value in cell]
    raise ValueError(f"values of {type(cell).__name__} cannot stand in an event")


def _in_microseconds(kind: pyarrow.DataType) -> pyarrow.DataType:
    """The same type, however deep its times lie."""
    import pyarrow
    from pyarrow import types

    if types.is_timestamp(kind) and kind.unit == "ns":
        return pyarrow.timestamp("us", tz=kind.tz)
    if types.is_time64(kind):
        return pyarrow.time64("us")
    if types.is_duration(kind) and kind.unit == "ns":
        return pyarrow.duration("us")
    if types.is_dictionary(kind):
        return _in_microseconds(kind.value_type)
    if types.is_struct(kind):
        return pyarrow.struct([field.with_type(_in_microseconds(field.type)) for field in kind])
    if types.is_map(kind):
        return pyarrow.map_(kind.key_field, kind.item_field.with_type(_in_microseconds(kind.item_type)))
    if types.is_list(kind) or types.is_large_list(kind):
        made = pyarrow.list_ if types.is_list(kind) else pyarrow.large_list
        return made(kind.value_field.with_type(_in_microseconds(kind.value_type)))
    if types.is_fixed_size_list(kind):
        return pyarrow.list_(kind.value_field.with_type(_in_microseconds(kind.value_type)), kind.list_size)
    return kind


def _cell(column: pyarrow.Array, number: int) -> object:
    try:
        return column[number].as_py(maps_as_pydicts="strict")
    except _UNREADABLE as error:
        text = " ".join(column.slice(number, 1).to_string().split())
        return Unreadable(f"cannot be read: {error.args[0] if isinstance(error, KeyError) else error}", text)


def _shortened(cell: object, kind: pyarrow.DataType) -> object:
    """The same with floats of 16 and 32 bits as numbers, where Python would give them the digits of 64."""
    from pyarrow import types

    if isinstance(cell, float) and (form := _FORMS.get(str(kind))):
        return _shortest(cell, form)
    if isinstance(cell, dict) and types.is_map(kind):
        return {key: _shortened(value, kind.item_type) for key, value in cell.items()}
    if isinstance(cell, dict) and types.is_struct(kind):
        return {field.name: _shortened(cell[field.name], field.type) for field in kind}
    if isinstance(cell, list) and types.is_nested(kind):
        return [_shortened(value, kind.value_type) for value in cell]
    return cell


def _shortest(value: float, form: str) -> float | Decimal:
    """The fewest digits that mean it among floats of its form; a whole number has the digits that it has."""
    if not isfinite(value) or value.is_integer():
        return value
    texts = (f"{value:.{digits}g}" for digits in range(1, _MOST_DIGITS + 1))
    return next(Decimal(text) for text in texts if unpack(form, pack(form, float(text))) == (value,))


def _name(key: object) -> str:
    if not isinstance(key, str):
        raise ValueError(f"names must be text, not {type(key).__name__}")
    return key


def _in_json(cell: object) -> Json:
    value = plain(cell)
    return value.isoformat() if isinstance(value, date) else value
