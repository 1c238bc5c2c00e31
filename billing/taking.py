"""What a meter takes of one event: its quantity, the values of its dimensions, and what it is kept apart by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache, partial
from hashlib import sha256

from billing.aggregation import bucket
from billing.catalog import Meter
from billing.field_formula import BOUND, Unfit, formula
from billing.meter_check import LONGEST_VALUE
from billing.portion import NO_PROPERTIES, Properties

Taken = tuple[int | Decimal, Properties, Decimal | None]
"""What a meter takes of one event: its quantity, the values of its dimensions, and what it is kept apart by."""
Take = Callable[[Mapping[str, object]], Taken | None]

OPERATIONS = {"add": 1, "remove": 0}
"""What an operation may say, and what is kept of it."""

_LEAST = -BOUND


@lru_cache(maxsize=4096)
def taker(meter: Meter) -> Take:
    """How a meter takes its share of an event's data; None if it does not pass, or has no sane quantity for it."""
    names, filters, per_event = sorted(meter.dimensions), meter.filters, meter.per_event
    plain, kept_of = _WAYS.get(meter.aggregation, _number)(meter), _dimensions(names)
    if not names and not per_event and not filters:
        return plain

    def full(data: Mapping[str, object]) -> Taken | None:
        for one in filters:
            if not one.passes(as_text(data.get(one.field))):
                return None
        if (taken := plain(data)) is None:
            return None
        quantity, _, each = taken
        return quantity, kept_of(data), Decimal(quantity) if per_event else each

    return full


def _number(meter: Meter) -> Take:
    if meter.expression:
        return _worked_out(meter.expression)
    if not meter.quantity_field:
        return _event(meter)
    field = meter.quantity_field

    def take(data: Mapping[str, object]) -> Taken | None:
        quantity = data.get(field)
        if (quantity.__class__ is int or quantity.__class__ is Decimal) and _LEAST < quantity < BOUND:
            return quantity, NO_PROPERTIES, None
        return None

    return take


def _worked_out(expression: str) -> Take:
    """By a formula; what it has no result for is not counted (who sends it hears of it before)."""
    result = formula(expression)

    def take(data: Mapping[str, object]) -> Taken | None:
        try:
            quantity = result(data)
        except Unfit:
            return None
        return None if quantity is None else (quantity, NO_PROPERTIES, None)

    return take


def _event(meter: Meter) -> Take:
    def take(data: Mapping[str, object]) -> Taken | None:
        return 1, NO_PROPERTIES, None

    return take


def _value(meter: Meter) -> Take:
    """Values are told apart by 128 bits of a digest of their text: no two that occur are taken for one."""
    field = meter.quantity_field

    def take(data: Mapping[str, object]) -> Taken | None:
        text = as_text(data.get(field))
        if text is None:
            return None
        return 1, NO_PROPERTIES, Decimal(int.from_bytes(sha256(text.encode()).digest()[:16]))

    return _operated(take, meter.operation_field) if meter.operation_field else take


def _operated(take: Take, operation_field: str) -> Take:
    """The value with 1 if it is added and 0 if it is removed."""

    def take_operation(data: Mapping[str, object]) -> Taken | None:
        operation = data.get(operation_field)
        if not isinstance(operation, str) or operation not in OPERATIONS or (taken := take(data)) is None:
            return None
        return OPERATIONS[operation], NO_PROPERTIES, taken[2]

    return take_operation


def _bucket(meter: Meter) -> Take:
    number = _number(meter)

    def take(data: Mapping[str, object]) -> Taken | None:
        if (taken := number(data)) is None:
            return None
        return 1, NO_PROPERTIES, bucket(Decimal(taken[0]))

    return take


_WAYS: dict[str, Callable[[Meter], Take]] = {"count": _event, "unique": _value, "percentile": _bucket}


def _dimensions(names: Sequence[str]) -> Callable[[Mapping[str, object]], Properties]:
    """`properties` of these names; a single one, which is usual, in half the time."""
    if len(names) != 1:
        return partial(properties, names)
    name = names[0]

    def one(data: Mapping[str, object]) -> Properties:
        text = as_text(data.get(name))
        return NO_PROPERTIES if text is None else ((name, text),)

    return one


def properties(names: Iterable[str], data: Mapping[str, object]) -> Properties:
    """The values of the dimensions that the event has, as text, in the order of `names`."""
    found = []
    for name in names:
        if (text := as_text(data.get(name))) is not None:
            found.append((name, text))
    return tuple(found)


def as_text(value: object) -> str | None:
    """As JSON writes it, without quotes; None for what is no text, number or truth, or too long."""
    if value.__class__ is str:
        text = value
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, Decimal):
        text = f"{value:f}" if value else f"{abs(value):f}"  # PostgreSQL knows no -0.0, and reads it as 0.0.
    elif isinstance(value, int):
        text = str(value)
    else:
        return None
    return text if len(text) <= LONGEST_VALUE else None
