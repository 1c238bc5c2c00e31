"""Usage events: what one is, and sending many in batches that may be sent again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from perennial_client.encoding import Json, dumps
from perennial_client.problem import ProblemError

if TYPE_CHECKING:
    from perennial_client.client import Perennial

MOST_EVENTS = 10_000
"""A request carries at most so many events."""

_TOO_LARGE, _UNPROCESSABLE = 413, 422
_OF_EVENTS = ("invalid_events", "invalid_value")
"""Bodies are unprocessable for other reasons too, such as how they are packed; then no event is to blame."""
_OUTCOMES = ("accepted", "duplicate", "conflict", "quarantined", "invalid")
_ONE_EVENT = re.compile(r"events\.(\d+)(?:\.(.+))?")


@dataclass(frozen=True, slots=True)
class Event:
    """Something used. (`source`, `id`) makes it one: sent twice it counts once.

    `subject` is the customer's id or alias, `time` when it was used, with a time zone. `data` carries the quantities
    that meters add up.
    """

    source: str
    id: str
    subject: str
    type: str
    time: datetime
    data: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.time.tzinfo is None:
            raise ValueError(f"the time of event {self.id!r} has no time zone")

    def to_json(self) -> Mapping[str, Json]:
        return {
            "source": self.source,
            "id": self.id,
            "subject": self.subject,
            "type": self.type,
            "time": self.time.isoformat(),
            "data": self.data,
        }


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event that was not taken in, and why; sending it again as it is changes nothing.

    `outcome` is `invalid`, or `conflict` if another content came under its source and id before. `field` is a path in
    the event, empty if it is about the whole.
    """

    event: Event
    outcome: str
    reason: str
    field: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of events, in numbers that add up to how many were sent; `refused` are those not taken in.

    accepted: stored, and in the totals. duplicate: known already. conflict: another content came under this source and
    id before, and counts. quarantined: kept until the customer is known, or the time is said to be meant. invalid: not
    kept.
    """

    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    quarantined: int = 0
    invalid: int = 0
    refused: tuple[RefusedEvent, ...] = ()

    def __add__(self, other: Receipt) -> Receipt:
        return Receipt(
            self.accepted + other.accepted,
            self.duplicate + other.duplicate,
            self.conflict + other.conflict,
            self.quarantined + other.quarantined,
            self.invalid + other.invalid,
            self.refused + other.refused,
        )


class Events:
    """The door for usage, as `Perennial.events`."""

    def __init__(self, perennial: Perennial) -> None:
        self._perennial = perennial

    def send(self, events: Iterable[Event], *, batch: int = 1000, whatever_time: bool = False) -> Receipt:
        """Send all of them, `batch` (at most 10,000) a request; one batch and what was refused are held in memory.

        The server quarantines events whose time lies far back or ahead, unless it is meant `whatever_time` they have.

        Each event is answered by itself; one that is wrong does not hold back the others. Raises ProblemError when the
        server refuses for another reason than the events, UnreadableAnswer when what it answers does not say of each
        event what became of it, httpx.TransportError when it cannot be reached, all after the retries; batches before
        are stored, and sending all again is safe.
        """
        check_batch(batch)
        waiting = iter(events)
        done = Receipt()
        while some := list(islice(waiting, batch)):
            done += self._send(some, whatever_time)
        return done

    def _send(self, events: Sequence[Event], whatever_time: bool) -> Receipt:
        """One batch; what cannot be written as JSON is invalid before it is sent."""
        written: list[tuple[Event, str]] = []
        unwritten: list[RefusedEvent] = []
        for event in events:
            try:
                written.append((event, dumps(event.to_json())))
            except (ValueError, TypeError, RecursionError) as error:
                unwritten.append(RefusedEvent(event, "invalid", f"cannot be written as JSON: {error}", "data"))
        done = Receipt(invalid=len(unwritten), refused=tuple(unwritten))
        return done + self._post(written, whatever_time) if written else done

    def _post(self, written: Sequence[tuple[Event, str]], whatever_time: bool) -> Receipt:
        """A body that is refused for what stands in it goes in halves, until it is known which events are to blame."""
        events = [event for event, _ in written]
        try:
            body = ",".join(text for _, text in written)
            return self._perennial.post_events(body, lambda told: _receipt(told, events), whatever_time=whatever_time)
        except ProblemError as problem:
            if not _is_of_events(problem):
                raise
            if len(events) == 1 or _blames_each(problem):
                return _all_invalid(problem, events)
        half = len(written) // 2
        return self._post(written[:half], whatever_time) + self._post(written[half:], whatever_time)


def check_batch(batch: int) -> None:
    if not 1 <= batch <= MOST_EVENTS:
        raise ValueError(f"a batch is of 1 to {MOST_EVENTS} events, not of {batch}")


def _is_of_events(problem: ProblemError) -> bool:
    """Whether a body is refused for an event in it, or for all of them."""
    unprocessable = problem.status == _UNPROCESSABLE and problem.code in _OF_EVENTS
    return unprocessable or problem.status == _TOO_LARGE


def _blames_each(problem: ProblemError) -> bool:
    """Whether it is said of the events one by one that they are invalid."""
    named = [_ONE_EVENT.fullmatch(error.field) for error in problem.errors]
    return problem.code == "invalid_events" and bool(named) and all(named)


def _all_invalid(problem: ProblemError, events: Sequence[Event]) -> Receipt:
    faults = {}
    for error in problem.errors:
        if match := _ONE_EVENT.fullmatch(error.field):
            faults[int(match[1])] = (error.reason, match[2] or "")
    otherwise = "; ".join(f"{error.field}: {error.reason}" for error in problem.errors) if not faults else ""
    reason = otherwise or problem.detail or str(problem)
    refused = (RefusedEvent(event, "invalid", *faults.get(no, (reason, ""))) for no, event in enumerate(events))
    return Receipt(invalid=len(events), refused=tuple(refused))


def _receipt(answer: Json, events: Sequence[Event]) -> Receipt:
    """Raises ValueError if it does not say of each event what became of it."""
    told = answer if isinstance(answer, Mapping) else {}
    listed = told.get("events")

    def count(name: str) -> int:
        value = told.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0 or not isinstance(listed, list):
            raise ValueError(f"the server did not say what became of the events: {answer!r}")
        return value

    counts = {name: count(name) for name in _OUTCOMES}
    refused = tuple(_refused(listed, events))
    if sum(counts.values()) != len(events) or len(refused) != counts["conflict"] + counts["invalid"]:
        said = ", ".join(f"{many} {outcome}" for outcome, many in counts.items())
        raise ValueError(
            f"the server speaks of other events than were sent: {said}, {len(refused)} of them listed as refused,"
            f" of {len(events)}"
        )
    return Receipt(**counts, refused=refused)


def _refused(listed: Json, events: Sequence[Event]) -> Iterator[RefusedEvent]:
    """Those that were not taken in, of those that the server says more of."""
    named: set[int] = set()
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, Mapping) and one.get("outcome") in ("invalid", "conflict"):
            index = one.get("index")
            if not isinstance(index, int) or not 0 <= index < len(events) or index in named:
                raise ValueError(f"the server speaks of an event that was not sent, or twice of one: {one!r}")
            named.add(index)
            outcome, reason, where = (str(one.get(name, "")) for name in ("outcome", "reason", "field"))
            yield RefusedEvent(events[index], outcome, reason, where)
