"""When something is tried again, how often, and how long is waited before: bounded, growing, jittered."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx


@dataclass(frozen=True, slots=True)
class Retries:
    """At most `attempts` in all. Pauses grow from `first` seconds, doubling, up to `longest`.

    A server that asks for more patience than `longest` is believed: the call ends with its answer instead of a wait.
    """

    attempts: int = 6
    first: float = 0.2
    longest: float = 60.0

    def pause(self, failed: int, asked: float | None = None) -> float | None:
        """Seconds to wait after `failed` attempts; `asked` is the server's wish. None: do not try again."""
        if failed >= self.attempts or (asked is not None and asked > self.longest):
            return None
        jittered = random.uniform(0.5, 1.0) * min(self.longest, self.first * 2.0 ** (failed - 1))
        return max(jittered, asked or 0.0)


def is_passing(answer: httpx.Response) -> bool:
    """Whether time will help: too many requests, one that came too slowly (408) or too early (425), or the server's own
    trouble.
    """
    return answer.status_code in _PASSING or answer.status_code >= 500


_PASSING = (408, 425, 429)


def asked_wait(answer: httpx.Response, now: datetime | None = None) -> float | None:
    """Retry-After in seconds (RFC 9110, 10.2.3: a number or a date); None if it says nothing that can be read."""
    said = answer.headers.get("retry-after", "").strip()
    if said.isdecimal():
        return float(said)
    try:
        until = parsedate_to_datetime(said)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())
