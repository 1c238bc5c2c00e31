"""Why a meter does not count an event, as the meter is now: in words, for whoever looks for a misspelt field."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from billing.catalog import Meter
from billing.event_check import asked_for_quantity
from billing.field_formula import Unfit, formula
from billing.taking import as_text

BEFORE = "came before the meter was made, or it was another version"
"""Of an event that the meter would count by now."""

Why = Callable[[Mapping[str, object]], str]


def why_uncounted(meter: Meter) -> Why:
    """Why an event of the meter's type, by its data, is not counted; all that is to be mended."""

    def why(data: Mapping[str, object]) -> str:
        return "; ".join((*_not_passed(meter, data), *_no_quantity(meter, data))) or BEFORE

    return why


def _not_passed(meter: Meter, data: Mapping[str, object]) -> Iterator[str]:
    for one in meter.filters:
        if not one.passes(as_text(data.get(one.field))):
            missing = f", for data.{one.field} is missing" if data.get(one.field) is None else ""
            yield f"does not pass the filter on {one.field}{missing}"


def _no_quantity(meter: Meter, data: Mapping[str, object]) -> Iterator[str]:
    """As billing/taking.py takes it."""
    faults = []
    for field, wrong in asked_for_quantity(meter):
        value = data.get(field)
        if reason := "is missing" if value is None else wrong(value):
            faults.append(f"data.{field} {reason}")
    if faults or not meter.expression:
        yield from faults
        return
    try:
        formula(meter.expression)(data)
    except Unfit as error:
        yield str(error)
