"""Usage events: what one is, and sending many in batches that may be sent again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from perennial_client.encoding import Json

if TYPE_CHECKING:
    from perennial_client.client import Perennial


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
class Receipt:
    """What became of events: stored, known already, or kept until their subject is a known customer."""

    accepted: int = 0
    duplicate: int = 0
    quarantined: int = 0

    def __add__(self, other: Receipt) -> Receipt:
        return Receipt(
            self.accepted + other.accepted, self.duplicate + other.duplicate, self.quarantined + other.quarantined
        )


class Events:
    """The door for usage, as `Perennial.events`."""

    def __init__(self, perennial: Perennial) -> None:
        self._perennial = perennial

    def send(self, events: Iterable[Event], *, batch: int = 1000) -> Receipt:
        """Send all of them, `batch` (at most 10,000) a request; only one batch is held in memory.

        A batch is taken whole or not at all. Raises ProblemError when one is refused, httpx.TransportError when the
        server cannot be reached, both after the retries; batches before it are stored, and sending all again is safe.
        """
        waiting = iter(events)
        done = Receipt()
        while some := list(islice(waiting, batch)):
            answer = self._perennial.post("/v1/events", {"events": [e.to_json() for e in some]}, repeat=True)
            done += _receipt(answer)
        return done


def _receipt(answer: Json) -> Receipt:
    told = answer if isinstance(answer, Mapping) else {}
    counts = [told.get(name) for name in ("accepted", "duplicate", "quarantined")]
    numbers = [count for count in counts if isinstance(count, int)]
    if len(numbers) != len(counts):
        raise ValueError(f"the server did not say what became of the events: {answer!r}")
    return Receipt(*numbers)
