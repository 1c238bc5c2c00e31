"""How events are added up by customers' days and windows: the same for what is stored and for what is only tried."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from billing.aggregation import RATE_MINUTES, Kept
from billing.catalog import Meter, Resolution
from billing.counting import within
from billing.period import instant, local_day, local_window
from billing.portion import Portion, Properties
from billing.quantity import added_up, product
from billing.taking import Take, taker


def by_type(meters: Iterable[Meter]) -> dict[str, list[Meter]]:
    """Which meters look at which type of event."""
    found: dict[str, list[Meter]] = {}
    for meter in meters:
        found.setdefault(meter.event_type, []).append(meter)
    return found


def fold(meters: Iterable[Meter], events: Iterable[tuple[str, Mapping[str, object]]]) -> dict[str, tuple[Portion, ...]]:
    """By meter, the portions of events given as type and data, in order of time. What has no quantity is left out.

    They have no time by which a rate could be told: all of them count as of one window. For want of a time, too, those
    of a weighted_sum are left out: whoever knows their times counts them by a `Folding`.
    """
    found: dict[str, dict[tuple[Properties, Decimal | None], list[Decimal]]] = {}
    meters = tuple(meter for meter in meters if not needs_times(meter))
    counting = by_type(meters)
    for event_type, data in events:
        for meter in counting.get(event_type, ()):
            if taken := taker(meter)(data):
                quantity, kept, each = taken
                found.setdefault(meter.meter_id, {}).setdefault((kept, each), []).append(Decimal(quantity))
    return {
        meter.meter_id: tuple(
            portion_of(meter, "UTC", kept, each, Total(kept_of(meter.kept, all_), len(all_), meter.kept, None))
            for (kept, each), all_ in found[meter.meter_id].items()
        )
        for meter in meters
        if meter.meter_id in found
    }


def needs_times(meter: Meter) -> bool:
    """Whether events say nothing without the times at which they happened."""
    return meter.aggregation == "weighted_sum"


def portion_of(meter: Meter, zone_name: str, kept: Properties, each: Decimal | None, total: Total) -> Portion:
    """What is kept of a day as the engine measures it, of a customer in that time zone."""
    return Portion(
        total.quantity,
        total.events,
        kept,
        each,
        "",
        meter.aggregation,
        meter.percent,
        total.weighted,
        meter.course(zone_name),
    )


def kept_of(kept: Kept, quantities: Sequence[Decimal]) -> Decimal:
    """What is kept of a day's quantities, in order of time."""
    match kept:
        case "max":
            return max(quantities)
        case "min":
            return min(quantities)
        case "latest":
            return quantities[-1]
        case "added":
            return added_up(quantities)


Place = tuple[str, str, date, Properties, Decimal | None]
"""Where a total lies: customer, meter, local day (or the start of a window, in UTC), properties, each."""


class Total(NamedTuple):
    """What is kept of the events of one place, and how further events change it; `at` if the latest is kept.

    `weighted` is the sum of the quantities times the seconds from the start of the day or window to each of them;
    `digest` the sum of the events' digests, by which their set is known again (billing/usage_proof.py).
    """

    quantity: Decimal
    events: int
    kept: Kept
    at: datetime | None
    weighted: Decimal = Decimal(0)
    digest: int = 0


Totals = dict[Place, Total]


def together(earlier: Totals, later: Totals) -> Totals:
    """The totals of both."""
    found = dict(earlier)
    for place, new in later.items():
        old = found.get(place)
        found[place] = added(old, new) if old else new
    return found


def added(old: Total, new: Total) -> Total:
    """Two totals of one place, as one."""
    events, weighted = old.events + new.events, added_up((old.weighted, new.weighted))
    digest = old.digest + new.digest
    if old.at is not None and new.at is not None:
        at, quantity = max((old.at, old.quantity), (new.at, new.quantity))
        return Total(quantity, events, old.kept, at, weighted, digest)
    return Total(kept_of(old.kept, (old.quantity, new.quantity)), events, old.kept, None, weighted, digest)


Latest = tuple[datetime, int | Decimal]
"""Time and quantity of the latest event; of two at one moment the larger, so that it does not matter who came when."""

_NOTHING = Decimal(0)
_EPOCH, _QUARTER = datetime(1970, 1, 1, tzinfo=UTC), timedelta(minutes=15)


def _minutes(moment: datetime) -> int:
    """Since 1970; by this the windows of a rate are told apart, also those of different days."""
    return (moment - _EPOCH) // timedelta(minutes=1)


@lru_cache(maxsize=4096)
def _start(day: date, where: ZoneInfo) -> datetime:
    return instant(day, where)


def _weight(quantity: int | Decimal, since: datetime, moment: datetime) -> Decimal:
    """The quantity times the seconds between."""
    return product(Decimal(quantity), Decimal((moment - since) // timedelta(microseconds=1)).scaleb(-6))


_Spot = tuple[str, str, date, datetime | None, Properties, Decimal | None]
"""Customer, meter, local day, start of the window, properties, each."""


class Clocks:
    """Day and hour on customers' clocks, looked up once for each quarter of an hour: clocks are set by no less."""

    def __init__(self) -> None:
        self._known: dict[tuple[ZoneInfo, int], tuple[date, datetime]] = {}

    def day_and_hour(self, where: ZoneInfo, moment: datetime) -> tuple[date, datetime]:
        quarter = (where, (moment - _EPOCH) // _QUARTER)
        if quarter not in self._known:
            self._known[quarter] = local_day(moment, where), local_window(moment, where, 60)
        return self._known[quarter]


class _Gathered:
    """What came for one spot. `latest` is of meters that keep it; what a quantity weighs, of those that weigh."""

    __slots__ = ("digest", "in_day", "in_window", "latest", "quantities")

    def __init__(self) -> None:
        self.quantities: list[int | Decimal] = []
        self.digest = 0
        self.latest: Latest | None = None
        self.in_day = self.in_window = _NOTHING

    def last(self, latest: Latest) -> None:
        self.latest = latest if self.latest is None else max(self.latest, latest)

    def take(self, other: _Gathered) -> None:
        """What came for another spot of the same place."""
        self.quantities.extend(other.quantities)
        self.digest += other.digest
        if other.in_day:
            self.in_day = added_up((self.in_day, other.in_day))
        if other.latest:
            self.last(other.latest)


class Folding:
    """Counts the events of many customers, by the days and windows of their own clocks; in whatever order they come.

    `days` are the stretches of days of those meters that count only some, each up to before its second day.
    """

    def __init__(
        self, meters: Iterable[Meter], clocks: Clocks, days: Mapping[str, Sequence[tuple[date, date]]] | None = None
    ) -> None:
        some, self._clocks, self._days_of = tuple(meters), clocks, days or {}
        self._kept: dict[str, Kept] = {meter.meter_id: meter.kept for meter in some}
        self._meters = {kind: [(m.meter_id, m.resolution, taker(m)) for m in of] for kind, of in by_type(some).items()}
        self._on_day: dict[tuple[str, date], list[tuple[str, Resolution, Take]]] = {}
        self._lasting = {meter.meter_id for meter in some if meter.kept == "latest"}
        self._rates = {m.meter_id: RATE_MINUTES[m.rate_window] for m in some if m.rate_window}
        self._weighing = {m.meter_id for m in some if needs_times(m)}
        self._found: defaultdict[_Spot, _Gathered] = defaultdict(_Gathered)

    def add(
        self,
        customer_id: str,
        where: ZoneInfo,
        event_type: str,
        moment: datetime,
        data: Mapping[str, object],
        by: Collection[str] | None = None,
        digest: int = 0,
    ) -> tuple[date, list[str]]:
        """The event's local day, and the meters that count it; with `by`, only those of them that are named there.

        `digest` is that of its name and content, where sets of events are to be known again (billing/usage_proof.py).
        """
        day, hour = self._clocks.day_and_hour(where, moment)
        counted: list[str] = []
        mine = self._on(event_type, day) if self._days_of else self._meters.get(event_type, ())
        for meter_id, resolution, take in mine:
            if (by is None or meter_id in by) and (taken := take(data)):
                quantity, kept, each = taken
                minute = resolution == "minute"
                window = hour if resolution == "hour" else local_window(moment, where, 1) if minute else None
                if meter_id in self._rates:
                    each = Decimal(_minutes(local_window(moment, where, self._rates[meter_id])))
                gathered = self._found[customer_id, meter_id, day, window, kept, each]
                gathered.quantities.append(quantity)
                gathered.digest += digest
                if meter_id in self._lasting:
                    gathered.last((moment, quantity))
                if meter_id in self._weighing:
                    gathered.in_day = added_up((gathered.in_day, _weight(quantity, _start(day, where), moment)))
                    if window is not None:
                        gathered.in_window = added_up((gathered.in_window, _weight(quantity, window, moment)))
                counted.append(meter_id)
        return day, counted

    def _on(self, kind: str, day: date) -> list[tuple[str, Resolution, Take]]:
        """Which meters count that day; looked up once for each day, as most events are of few."""
        if (kind, day) not in self._on_day:
            mine = self._meters.get(kind, ())
            self._on_day[kind, day] = [one for one in mine if within(day, self._days_of.get(one[0]))]
        return self._on_day[kind, day]

    def days(self) -> Totals:
        """What was counted, by local day."""
        found: defaultdict[Place, _Gathered] = defaultdict(_Gathered)
        for (customer_id, meter_id, day, _, kept, each), gathered in self._found.items():
            found[customer_id, meter_id, day, kept, each].take(gathered)
        return {place: self._total(place[1], gathered, gathered.in_day) for place, gathered in found.items()}

    def windows(self) -> Totals:
        """What was counted, by hour or minute, of meters that are kept by it."""
        return {
            (customer_id, meter_id, window, kept, each): self._total(meter_id, gathered, gathered.in_window)
            for (customer_id, meter_id, _, window, kept, each), gathered in self._found.items()
            if window is not None
        }

    def _total(self, meter_id: str, gathered: _Gathered, weighted: Decimal) -> Total:
        events, digest = len(gathered.quantities), gathered.digest
        if gathered.latest:
            at, last = gathered.latest
            return Total(Decimal(last), events, "latest", at, weighted, digest)
        kept = self._kept[meter_id]
        if kept == "added" and set(map(type, gathered.quantities)) == {int}:
            quantity = Decimal(sum(gathered.quantities))
        else:
            quantity = kept_of(kept, [Decimal(quantity) for quantity in gathered.quantities])
        return Total(quantity, events, kept, None, weighted, digest)
