"""What goes wrong on request: faults wait here until a request of their kind comes by."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sandbox.stripe.answers import Body

Kind = Literal["lost_answer", "server_error", "rate_limited", "timeout"]


@dataclass(frozen=True, slots=True)
class Fault:
    """`count` requests of `method` whose path has `path` (a regular expression) in it meet this fault.

    - `server_error`, `rate_limited`: refused before anything happens (500; 429 with `retry_after` seconds).
    - `lost_answer`: takes effect, then the connection is cut.
    - `timeout`: takes effect, then hangs for `seconds` with its idempotency key in use.
    """

    kind: Kind
    method: str = "POST"
    path: str = "."
    count: int = 1
    retry_after: int | None = None
    seconds: float = 60.0

    def meets(self, method: str, path: str) -> bool:
        return self.method == method and re.search(self.path, path) is not None


class Faults:
    """The faults still to come. `clear` also lets go of the requests that hang."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[list[Fault]] = []
        self._hanging = 0
        self._generation = 0

    def add(self, fault: Fault) -> None:
        with self._changed:
            self._waiting.append([fault] * fault.count)

    def take(self, method: str, path: str, kinds: Sequence[Kind]) -> Fault | None:
        with self._changed:
            for same in self._waiting:
                if same and same[0].kind in kinds and same[0].meets(method, path):
                    return same.pop()
        return None

    def hang(self, fault: Fault) -> None:
        with self._changed:
            generation = self._generation
            self._hanging += 1
            self._changed.wait_for(lambda: self._generation != generation, fault.seconds)
            self._hanging -= 1

    def clear(self) -> None:
        with self._changed:
            self._waiting.clear()
            self._generation += 1
            self._changed.notify_all()

    def shown(self) -> Body:
        with self._changed:
            waiting = [{"kind": same[0].kind, "left": len(same)} for same in self._waiting if same]
            return {"waiting": waiting, "hanging": self._hanging}
