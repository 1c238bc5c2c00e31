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
from billing.catalog import Meter
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
    add_to(found, later)
    return found


def add_to(found: Totals, more: Totals) -> None:
    for place, new in more.items():
        old = found.get(place)
        found[place] = added(old, new) if old else new


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
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _minutes(moment: datetime) -> int:
    """Since 1970; by this the windows of a rate are told apart, also those of different days."""
    return (moment - _EPOCH) // timedelta(minutes=1)


@lru_cache(maxsize=4096)
def _start(day: date, where: ZoneInfo) -> datetime:
    return instant(day, where)


def _weight(quantity: int | Decimal, since: datetime, moment: datetime) -> Decimal:
    """The quantity times the seconds between."""
    return product(Decimal(quantity), Decimal((moment - since) // timedelta(microseconds=1)).scaleb(-6))


_MeterDay = tuple[str, str, date]
"""Customer, meter, local day."""
_Spot = tuple[datetime | None, Properties, Decimal | None]
"""Within a meter's day: start of the window, properties, each."""


class Clocks:
    """Day and hour on customers' clocks, looked up once for each quarter of an hour."""

    def __init__(self) -> None:
        self._known: dict[tuple[ZoneInfo, int, int], tuple[date, datetime]] = {}

    def day_and_hour(self, where: ZoneInfo, moment: datetime) -> tuple[date, datetime]:
        since = moment - _EPOCH
        quarter = (where, since.days, since.seconds // 900)
        known = self._known.get(quarter)
        if known is None:
            known = _of_quarter(*quarter)
            if known is None:
                return local_day(moment, where), local_window(moment, where, 60)
            self._known[quarter] = known
        return known


_QUARTER = timedelta(minutes=15)


@lru_cache(maxsize=4096)
def _of_quarter(where: ZoneInfo, days: int, quarters: int) -> tuple[date, datetime] | None:
    """Day and hour of all of a quarter of an hour, so many after so many days since 1970. None if the clock is set in
    it, as at 00:01 in Casey in 2020, or goes by other parts of an hour, as in Liberia until 1972.
    """
    start = _EPOCH + timedelta(days=days) + quarters * _QUARTER
    offset = start.astimezone(where).utcoffset()
    if offset is None or offset % _QUARTER or (start + _QUARTER).astimezone(where).utcoffset() != offset:
        return None
    return local_day(start, where), local_window(start, where, 60)


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


_Spots = defaultdict[_Spot, _Gathered]


class _Timed(NamedTuple):
    """What a meter asks of the time of its events beyond their day and hour."""

    by_minute: bool
    rate_minutes: int | None
    keeps_latest: bool
    weighs: bool

    @classmethod
    def of(cls, meter: Meter) -> _Timed | None:
        rate = RATE_MINUTES[meter.rate_window] if meter.rate_window else None
        asked = cls(meter.resolution == "minute", rate, meter.kept == "latest", needs_times(meter))
        return asked if any(asked) else None

    def spot(
        self, where: ZoneInfo, moment: datetime, window: datetime | None, each: Decimal | None
    ) -> tuple[datetime | None, Decimal | None]:
        """In which window an event is counted, and what it is kept apart by."""
        if self.by_minute:
            window = local_window(moment, where, 1)
        if self.rate_minutes:
            each = Decimal(_minutes(local_window(moment, where, self.rate_minutes)))
        return window, each

    def gather(
        self, into: _Gathered, quantity: int | Decimal, moment: datetime, day: datetime, window: datetime | None
    ) -> None:
        """With the starts of its day and window."""
        if self.keeps_latest:
            into.last((moment, quantity))
        if self.weighs:
            into.in_day = added_up((into.in_day, _weight(quantity, day, moment)))
            if window is not None:
                into.in_window = added_up((into.in_window, _weight(quantity, window, moment)))


class _Way(NamedTuple):
    """How events come to a meter."""

    meter_id: str
    take: Take
    hourly: bool
    timed: _Timed | None

    @classmethod
    def to(cls, meter: Meter) -> _Way:
        return cls(meter.meter_id, taker(meter), meter.resolution == "hour", _Timed.of(meter))


class Folding:
    """Counts the events of many customers, by the days and windows of their own clocks; in whatever order they come.

    `days` are the stretches of days of those meters that count only some, each up to before its second day.
    """

    def __init__(
        self, meters: Iterable[Meter], clocks: Clocks, days: Mapping[str, Sequence[tuple[date, date]]] | None = None
    ) -> None:
        some, self._clocks, self._days_of = tuple(meters), clocks, days or {}
        self._kept: dict[str, Kept] = {meter.meter_id: meter.kept for meter in some}
        self._looking, self._ways = by_type(some), dict[str, list[_Way]]()
        self._found: defaultdict[_MeterDay, _Spots] = defaultdict(lambda: defaultdict(_Gathered))
        self._to_add: dict[tuple[str, str, date], list[tuple[_Way, _Spots]]] = {}

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
        ways = self._to_add.get((customer_id, event_type, day))
        if ways is None:
            ways = self._ways_of(customer_id, event_type, day)
        for (meter_id, take, hourly, timed), spots in ways:
            if (by is None or meter_id in by) and (taken := take(data)):
                quantity, kept, each = taken
                window = hour if hourly else None
                if timed:
                    window, each = timed.spot(where, moment, window, each)
                gathered = spots[window, kept, each]
                gathered.quantities.append(quantity)
                gathered.digest += digest
                if timed:
                    timed.gather(gathered, quantity, moment, _start(day, where), window)
                counted.append(meter_id)
        return day, counted

    def _ways_of(self, customer_id: str, kind: str, day: date) -> list[tuple[_Way, _Spots]]:
        """The meters to which events of that customer, type and day come, each with what it has of the day so far.
        Looked up once: most events are of few days.
        """
        if kind not in self._ways:
            self._ways[kind] = [_Way.to(meter) for meter in self._looking.get(kind, ())]
        ways = [
            (way, self._found[customer_id, way.meter_id, day])
            for way in self._ways[kind]
            if within(day, self._days_of.get(way.meter_id))
        ]
        self._to_add[customer_id, kind, day] = ways
        return ways

    def days(self) -> Totals:
        """What was counted, by local day."""
        found: Totals = {}
        for (customer_id, meter_id, day), spots in self._found.items():
            if len(spots) == 1:  # As it is where events come one by one.
                [((_, kept, each), gathered)] = spots.items()
                found[customer_id, meter_id, day, kept, each] = self._total(meter_id, gathered, gathered.in_day)
                continue
            whole: defaultdict[tuple[Properties, Decimal | None], _Gathered] = defaultdict(_Gathered)
            for (_, kept, each), gathered in spots.items():
                whole[kept, each].take(gathered)
            for (kept, each), gathered in whole.items():
                found[customer_id, meter_id, day, kept, each] = self._total(meter_id, gathered, gathered.in_day)
        return found

    def windows(self) -> Totals:
        """What was counted, by hour or minute, of meters that are kept by it."""
        return {
            (customer_id, meter_id, window, kept, each): self._total(meter_id, gathered, gathered.in_window)
            for (customer_id, meter_id, _), spots in self._found.items()
            for (window, kept, each), gathered in spots.items()
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
