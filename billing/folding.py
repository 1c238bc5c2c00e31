"""What meters count of events that are at hand: for previews. The stored ones are folded by the statement that stores
them (models/usage.py), in the same manner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from billing.catalog import Meter
from billing.meter_check import LONGEST_VALUE
from billing.quantity import added_up
from billing.usage import NO_PROPERTIES, Portion

Key = tuple[tuple[tuple[str, str], ...], Decimal | None]


def fold(meters: Iterable[Meter], events: Iterable[tuple[str, Mapping[str, object]]]) -> dict[str, tuple[Portion, ...]]:
    """By meter, the portions of events given as type and data. An event without the meter's number does not count."""
    found: dict[str, dict[Key, list[Decimal]]] = {}
    counting: dict[str, list[Meter]] = {}
    for meter in meters:
        counting.setdefault(meter.event_type, []).append(meter)
    for event_type, data in events:
        for meter in counting.get(event_type, ()):
            quantity = data.get(meter.quantity_field)
            if isinstance(quantity, int | Decimal) and not isinstance(quantity, bool):
                exact = Decimal(quantity)
                key = (properties(meter, data), exact if meter.per_event else None)
                found.setdefault(meter.meter_id, {}).setdefault(key, []).append(exact)
    return {
        name: tuple(Portion(added_up(all_), len(all_), kept, each) for (kept, each), all_ in groups.items())
        for name, groups in found.items()
    }


def properties(meter: Meter, data: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """The values of the meter's dimensions that the event has, as text, in order of name."""
    if not meter.dimensions:
        return NO_PROPERTIES
    said = ((name, _text(data[name])) for name in sorted(meter.dimensions) if _is_plain(data.get(name)))
    return tuple((name, text) for name, text in said if len(text) <= LONGEST_VALUE)


def _is_plain(value: object) -> bool:
    """Text, numbers and truth values count; nothing, lists and objects do not."""
    return isinstance(value, str | int | Decimal)


def _text(value: object) -> str:
    """As JSON writes it, without quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
