"""Which set of events a billed quantity was made of, known again by a digest that is folded like a total.

Each event has a digest of 128 bits, of its name and its content; that of a set is their sum. It does not depend on the
order in which they came, a further event adds its own, and what is void is taken off; so a bill costs the same whatever
the number of events behind it. Where the digests come from is in models/event.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from billing.line import Line
from billing.period import Period
from billing.rating import ItemWindow
from billing.terms import Terms
from billing.usage import BEFORE

MODULUS = 2**128


@dataclass(frozen=True, slots=True)
class EventSet:
    """How many events, and the sum of their digests."""

    events: int = 0
    digest: int = 0

    def __add__(self, other: EventSet) -> EventSet:
        return EventSet(self.events + other.events, self.digest + other.digest)

    @property
    def reduced(self) -> EventSet:
        """With the digest as it is signed: modulo 2^128."""
        return EventSet(self.events, self.digest % MODULUS)


Sets = Mapping[tuple[str, date], EventSet]
"""Of one customer: by meter and local day; of a meter that carries over, that of all earlier days is under `BEFORE`."""


@dataclass(frozen=True, slots=True)
class Signature:
    """The set of a meter's events in a window that was billed; `line` is the key of the line that bills it.

    A window may have none: it was billed, and there was nothing to charge. A line may be without a set: its quantity
    was held for a person, and is of an earlier moment than that at which it is billed. `with_earlier`: all events
    before the window are in the set too, as they made the level with which it begins.
    """

    item: str
    meter: str
    period: Period
    behind: EventSet | None
    line: str | None
    with_earlier: bool

    @classmethod
    def of(cls, sets: Sets, item: str, meter: str, period: Period, line: str | None) -> Signature:
        return cls(item, meter, period, set_of(sets, meter, period), line, (meter, BEFORE) in sets)


def signed_windows(windows: Sequence[ItemWindow], lines: Sequence[Line], sets: Sets) -> Iterator[Signature]:
    """Of whole windows that are billed now, by each of their meters."""
    by_window = {(line.item, line.period): line.key for line in lines if line.kind == "usage"}
    for window in windows:
        for meter in window.item.meters:
            line = by_window.get((window.item.key, window.period))
            yield Signature.of(sets, window.item.key, meter, window.period, line)


def signed_late(history: Sequence[Terms], lines: Sequence[Line], sets: Sets | None) -> Iterator[Signature]:
    """Of late usage: the whole set of its window as it is by now; none, if its quantity is not of now."""
    for line in lines:
        if line.kind != "late_usage":
            continue
        [terms] = [terms for terms in history if terms.version == line.because.terms_version]
        [item] = [item for item in terms.plan.items if item.key == line.item]
        for meter in item.meters:
            if sets is None:
                yield Signature(line.item, meter, line.period, None, line.key, with_earlier=False)
            else:
                yield Signature.of(sets, line.item, meter, line.period, line.key)


def set_of(sets: Sets, meter: str, period: Period) -> EventSet:
    """Of all days of the period, its digest reduced; of a meter that carries over, of all earlier days too."""
    found = [sets[meter, day] for day in _days(sets, meter, period) if (meter, day) in sets]
    return EventSet(sum(one.events for one in found), sum(one.digest for one in found)).reduced


def _days(sets: Sets, meter: str, period: Period) -> Iterable[date]:
    """By whichever way is shorter, the days of the period or those that have events."""
    if (meter, BEFORE) in sets:
        return [day for name, day in sets if name == meter and day < period.end]
    if period.days > len(sets):
        return [day for name, day in sets if name == meter and day in period]
    return (period.start + timedelta(days=n) for n in range(period.days))
