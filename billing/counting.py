"""Which totals an event goes into: a meter's days are held by series, one of them each day, and one may be prepared.

What a meter makes of an event is in folding.py. Here is what follows from a change of the meter: days before it are
counted by its former version, and while days are counted anew both what holds and what is prepared take in what comes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from billing.catalog import Meter, Resolution

ALL_DAYS = (date.min, date.max)


def within(day: date, days: Iterable[tuple[date, date]] | None) -> bool:
    """Whether it lies in one of the stretches of days, each up to before its second one; None are all days."""
    return days is None or any(since <= day < until for since, until in days)


@dataclass(frozen=True, slots=True)
class Series:
    """Totals under a name of their own: what `meter` counts of the local days from `since` up to before `until`.

    `prepared` totals do not hold yet.
    """

    name: str
    meter: Meter
    since: date = date.min
    until: date = date.max
    prepared: bool = False

    def has(self, day: date) -> bool:
        return self.since <= day < self.until


@dataclass(frozen=True, slots=True)
class Counting:
    """Every series into which events go, and the newest version of every meter."""

    newest: tuple[Meter, ...]
    series: tuple[Series, ...]
    plain: bool = field(init=False)
    """Whether each meter has one series, under its own name."""
    _meter_of: dict[str, str] = field(init=False, repr=False, compare=False)
    _prepared: tuple[Series, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        plain = not any(one.prepared or one.name != one.meter.meter_id for one in self.series)
        object.__setattr__(self, "plain", plain and len(self.series) == len(self.newest))
        object.__setattr__(self, "_meter_of", {one.name: one.meter.meter_id for one in self.series if not one.prepared})
        object.__setattr__(self, "_prepared", tuple(one for one in self.series if one.prepared))

    @property
    def meters(self) -> tuple[Meter, ...]:
        """For folding: how each series counts, under the name of the series."""
        named = {one.name: one.meter for one in self.series}
        return tuple(m if m.meter_id == name else replace(m, meter_id=name) for name, m in named.items())

    @property
    def days(self) -> dict[str, list[tuple[date, date]]]:
        """For folding: the days of each series that does not hold all of them."""
        found: dict[str, list[tuple[date, date]]] = {}
        for one in self.series:
            if (one.since, one.until) != ALL_DAYS:
                found.setdefault(one.name, []).append((one.since, one.until))
        return found

    def holding(self, meter_id: str) -> Counting:
        """What holds of one meter."""
        mine = (one for one in self.series if one.meter.meter_id == meter_id and not one.prepared)
        return Counting(tuple(m for m in self.newest if m.meter_id == meter_id), tuple(mine))

    def kept_by(self, since: date, until: date) -> Resolution:
        """The shortest window that is kept of all these days, the second not included; beside the day."""
        kept = {one.meter.resolution for one in self.series if one.since < until and since < one.until}
        return "day" if "day" in kept else "hour" if "hour" in kept else "minute"

    def marks(self, day: date, counted: Sequence[str]) -> Sequence[str]:
        """What is written on an event of that day which these series count: the meters of those that hold, and each
        prepared one that differs from them.
        """
        if self.plain:
            return counted
        # Whoever sends pays for this with every event, once any meter was changed: nothing goes through all series.
        holding = [self._meter_of[name] for name in counted if name in self._meter_of]
        return [*holding, *(one.name for one in self._differing(day, holding, counted))] if self._prepared else holding

    def names(self, day: date, holding: Collection[str], marks: Collection[str]) -> set[str]:
        """Which series count an event, by the meters that hold it and by all its marks: the way back."""
        found = {one.name for one in self.series if one.meter.meter_id in holding and not one.prepared and one.has(day)}
        return found | {one.name for one in self._differing(day, holding, marks)}

    def _differing(self, day: date, holding: Collection[str], counted: Collection[str]) -> Iterable[Series]:
        for one in self._prepared:
            if one.has(day) and (one.name in counted) != (one.meter.meter_id in holding):
                yield one


@dataclass(frozen=True, slots=True)
class Span:
    """Days of a meter, from `since` up to before `until`, that a series holds, counted by a version of the meter."""

    since: date
    until: date
    series: str
    version: int


def with_span(spans: Iterable[Span], new: Span) -> tuple[Span, ...]:
    """The spans with `new` holding its days, in order; neighbours that are the same are one."""
    parts = [new]
    for span in spans:
        for since, until in ((span.since, min(span.until, new.since)), (max(span.since, new.until), span.until)):
            if since < until:
                parts.append(replace(span, since=since, until=until))
    found: list[Span] = []
    for part in sorted(parts, key=lambda span: span.since):
        if found and (found[-1].series, found[-1].version) == (part.series, part.version):
            part = replace(part, since=found.pop().since)
        found.append(part)
    return tuple(found)
