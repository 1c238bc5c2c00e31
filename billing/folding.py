"""What meters take of events, and how it is added up: the same for what is stored and for what is only tried."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from billing.catalog import Meter
from billing.period import local_day, local_window
from billing.quantity import added_up
from billing.usage import NO_PROPERTIES, Portion

LONGEST_VALUE = 100
"""A dimension's value has at most so many characters as text; a longer one counts as none."""

Properties = tuple[tuple[str, str], ...]
Taken = tuple[int | Decimal, Properties, Decimal | None]
"""What a meter takes of one event: its quantity, the values of its dimensions, and what it is kept apart by."""


@lru_cache(maxsize=4096)
def taker(meter: Meter) -> Callable[[Mapping[str, object]], Taken | None]:
    """How a meter takes its share of an event's data; None if the event does not have the meter's number."""
    field, names, apart = meter.quantity_field, sorted(meter.dimensions), meter.per_event

    def plain(data: Mapping[str, object]) -> Taken | None:
        quantity = data.get(field)
        if quantity.__class__ is int or quantity.__class__ is Decimal:
            return quantity, NO_PROPERTIES, None
        return None

    def full(data: Mapping[str, object]) -> Taken | None:
        quantity = data.get(field)
        if quantity.__class__ is int or quantity.__class__ is Decimal:
            found = properties(names, data) if names else NO_PROPERTIES
            return quantity, found, Decimal(quantity) if apart else None
        return None

    return full if names or apart else plain


def properties(names: Iterable[str], data: Mapping[str, object]) -> Properties:
    """The values of the dimensions that the event has, as text, in the order of `names`."""
    return tuple((name, text) for name in names if (text := _text(data.get(name))) is not None)


def _text(value: object) -> str | None:
    """As JSON writes it, without quotes; None for what is no text, number or truth, or too long."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, Decimal):
        text = f"{value:f}"
    elif isinstance(value, int):
        text = str(value)
    else:
        return None
    return text if len(text) <= LONGEST_VALUE else None


def by_type(meters: Iterable[Meter]) -> dict[str, list[Meter]]:
    """Which meters look at which type of event."""
    found: dict[str, list[Meter]] = {}
    for meter in meters:
        found.setdefault(meter.event_type, []).append(meter)
    return found


def fold(meters: Iterable[Meter], events: Iterable[tuple[str, Mapping[str, object]]]) -> dict[str, tuple[Portion, ...]]:
    """By meter, the portions of events given as type and data. An event without the meter's number does not count."""
    found: dict[str, dict[tuple[Properties, Decimal | None], list[Decimal]]] = {}
    counting = by_type(meters)
    for event_type, data in events:
        for meter in counting.get(event_type, ()):
            if taken := taker(meter)(data):
                quantity, kept, each = taken
                found.setdefault(meter.meter_id, {}).setdefault((kept, each), []).append(Decimal(quantity))
    return {
        name: tuple(Portion(added_up(all_), len(all_), kept, each) for (kept, each), all_ in groups.items())
        for name, groups in found.items()
    }


Place = tuple[str, str, date, Properties, Decimal | None]
"""Where a total lies: customer, meter, local day (or the start of a window, in UTC), properties, each."""
Sums = dict[Place, tuple[Decimal, int]]
"""Quantity and number of events."""

_EPOCH, _QUARTER = datetime(1970, 1, 1, tzinfo=UTC), timedelta(minutes=15)


class Clocks:
    """Day and hour on customers' clocks, looked up once for each quarter of an hour: clocks are set by no less."""

    def __init__(self) -> None:
        self._known: dict[tuple[ZoneInfo, int], tuple[date, datetime]] = {}

    def day_and_hour(self, where: ZoneInfo, moment: datetime) -> tuple[date, datetime]:
        quarter = (where, (moment - _EPOCH) // _QUARTER)
        if quarter not in self._known:
            self._known[quarter] = local_day(moment, where), local_window(moment, where, 60)
        return self._known[quarter]


class Folding:
    """Adds up the events of many customers, by the days and windows of their own clocks."""

    def __init__(self, meters: Iterable[Meter], clocks: Clocks) -> None:
        self._meters = {
            kind: [(m.meter_id, m.resolution, taker(m)) for m in some] for kind, some in by_type(meters).items()
        }
        self._clocks = clocks
        self._found: dict[tuple[str, str, date, datetime | None, Properties, Decimal | None], list[int | Decimal]] = {}

    def add(
        self, customer_id: str, where: ZoneInfo, event_type: str, moment: datetime, data: Mapping[str, object]
    ) -> tuple[date, list[str]]:
        """The event's local day, and the meters that count it."""
        day, hour = self._clocks.day_and_hour(where, moment)
        counted: list[str] = []
        for meter_id, resolution, take in self._meters.get(event_type, ()):
            if taken := take(data):
                quantity, kept, each = taken
                window = hour if resolution == "hour" else None
                if resolution == "minute":
                    window = local_window(moment, where, 1)
                key = (customer_id, meter_id, day, window, kept, each)
                self._found.setdefault(key, []).append(quantity)
                counted.append(meter_id)
        return day, counted

    def days(self) -> Sums:
        """What was added, by local day."""
        found: dict[Place, list[int | Decimal]] = {}
        for (customer_id, meter_id, day, _, kept, each), quantities in self._found.items():
            found.setdefault((customer_id, meter_id, day, kept, each), []).extend(quantities)
        return _summed(found)

    def windows(self) -> Sums:
        """What was added, by hour or minute, of meters that are kept by it."""
        return _summed(
            {
                (customer_id, meter_id, window, kept, each): quantities
                for (customer_id, meter_id, _, window, kept, each), quantities in self._found.items()
                if window is not None
            }
        )


def _summed(found: Mapping[Place, list[int | Decimal]]) -> Sums:
    return {place: (added_up(map(Decimal, quantities)), len(quantities)) for place, quantities in found.items()}
