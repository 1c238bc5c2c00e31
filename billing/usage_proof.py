"""Which set of events a billed quantity was made of, known again by a digest that is folded like a total.

Each event has a digest of 128 bits, of its name and its content; that of a set is their sum. It does not depend on the
order in which they came, a further event adds its own, and what is void is taken off; so a bill costs the same whatever
the number of events behind it. Where the digests come from is in models/event.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from billing.line import Line
from billing.period import Period
from billing.rating import ItemWindow
from billing.terms import Terms

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
"""Of one customer: by meter and local day."""


@dataclass(frozen=True, slots=True)
class Signature:
    """The set of a meter's events in a window that was billed; `line` is the key of the line that bills it.

    A window may have none: it was billed, and there was nothing to charge. A line may be without a set: its quantity
    was held for a person, and is of an earlier moment than that at which it is billed.
    """

    item: str
    meter: str
    period: Period
    behind: EventSet | None
    line: str | None


def signed_windows(windows: Sequence[ItemWindow], lines: Sequence[Line], sets: Sets) -> Iterator[Signature]:
    """Of whole windows that are billed now, by each of their meters."""
    by_window = {(line.item, line.period): line.key for line in lines if line.kind == "usage"}
    for window in windows:
        for meter in window.item.meters:
            behind = set_of(sets, meter, window.period)
            yield Signature(
                window.item.key, meter, window.period, behind, by_window.get((window.item.key, window.period))
            )


def signed_late(history: Sequence[Terms], lines: Sequence[Line], sets: Sets | None) -> Iterator[Signature]:
    """Of late usage: the whole set of its window as it is by now; none, if its quantity is not of now."""
    for line in lines:
        if line.kind != "late_usage":
            continue
        [terms] = [terms for terms in history if terms.version == line.because.terms_version]
        [item] = [item for item in terms.plan.items if item.key == line.item]
        for meter in item.meters:
            behind = set_of(sets, meter, line.period) if sets is not None else None
            yield Signature(line.item, meter, line.period, behind, line.key)


def set_of(sets: Sets, meter: str, period: Period) -> EventSet:
    """Of all days of the period, its digest reduced."""
    events = digest = 0
    day = period.start
    if period.days <= len(sets):
        while day < period.end:
            if found := sets.get((meter, day)):
                events, digest = events + found.events, digest + found.digest
            day += timedelta(days=1)
    else:
        for (name, day), found in sets.items():
            if name == meter and day in period:
                events, digest = events + found.events, digest + found.digest
    return EventSet(events, digest).reduced
