"""What meters ask of an event's data: what they count must be numbers of sane size, and dimensions short words.

What does not fit would not be counted (billing/taking.py); so that its sender hears of it, it is told beforehand, with
the meters that ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal

from billing.catalog import Meter
from billing.errors import Fault
from billing.field_formula import BOUND, Formula, Unfit, fields_of, formula
from billing.meter_check import LONGEST_VALUE
from billing.taking import OPERATIONS

DIGITS = 30
"""A quantity is below ten to the power of this."""
MOST_NAMED = 3
"""Meters in a reason."""

Check = Callable[[Mapping[str, object]], Fault | None]
Wrong = Callable[[object], str]
"""What is wrong with a value; empty if nothing is."""


def event_check(meters: Iterable[Meter]) -> Check:
    """The first fault of an event's data for these meters, if there is one: fields first, each looked at once, and then
    what formulas give.
    """
    askers: dict[tuple[str, Wrong], list[str]] = {}
    users: dict[Formula, list[str]] = {}
    for meter in meters:
        for one in dict.fromkeys(_asked_by(meter)):
            askers.setdefault(one, []).append(meter.meter_id)
        if meter.expression:
            users.setdefault(formula(meter.expression), []).append(meter.meter_id)
    asked, formulas = tuple(askers), tuple(users)

    def check(data: Mapping[str, object]) -> Fault | None:
        for field, wrong in asked:
            value = data.get(field)
            if value is not None and (reason := wrong(value)):
                return Fault(f"data.{field}", f"{reason} ({_named(askers[field, wrong])})")
        try:
            for result in formulas:
                result(data)
        except Unfit as error:
            return Fault("data", f"{error} ({_named(users[result])})")
        return None

    return check


def fields_read(meter: Meter) -> tuple[str, ...]:
    """The names of the fields that a meter looks at, those of its filters among them; in order."""
    return tuple(sorted({name for name, _ in _asked_by(meter)} | {one.field for one in meter.filters}))


def _named(meter_ids: Sequence[str]) -> str:
    """Only asked for when there is a fault: good events are many, and pay nothing for it."""
    more = len(meter_ids) - MOST_NAMED
    names = ", ".join(meter_ids[:MOST_NAMED])
    return f"meter{'s' if len(meter_ids) > 1 else ''} {names}{f' and {more} more' if more > 0 else ''}"


def _asked_by(meter: Meter) -> Iterable[tuple[str, Wrong]]:
    """The fields that a meter looks at, each with what is wrong with a value, or nothing; they may be missing."""
    yield from asked_for_quantity(meter)
    yield from ((name, _wrong_value) for name in meter.dimensions)


def asked_for_quantity(meter: Meter) -> Iterable[tuple[str, Wrong]]:
    """Those without which it counts nothing; an event without a dimension is counted."""
    if meter.quantity_field:
        yield meter.quantity_field, _wrong_value if meter.aggregation == "unique" else _wrong_quantity
    if meter.expression:
        yield from ((name, _wrong_quantity) for name in sorted(fields_of(meter.expression)))
    if meter.operation_field:
        yield meter.operation_field, _wrong_operation


def _wrong_quantity(value: object) -> str:
    if value.__class__ is int or value.__class__ is Decimal:
        return "" if -BOUND < value < BOUND else f"must be below 10^{DIGITS}"
    return "must be a number"


def _wrong_value(value: object) -> str:
    if value.__class__ is not str and not isinstance(value, str | int | Decimal):
        return "must be text, a number, true or false"
    return f"must have at most {LONGEST_VALUE} characters" if len(str(value)) > LONGEST_VALUE else ""


def _wrong_operation(value: object) -> str:
    return "" if value in (*OPERATIONS,) else "must be add or remove"
