"""Between which moments usage counts at once: what lies further back or ahead is held until somebody has looked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class TimeBounds:
    """How far back an event's time may lie, and how far ahead; exactly so far is allowed."""

    oldest: timedelta
    newest: timedelta

    def around(self, first_now: datetime, last_now: datetime) -> tuple[datetime, datetime]:
        """The earliest and the latest moment that is allowed, by the clock that is furthest behind and by the one that
        is furthest ahead.
        """
        return first_now - self.oldest, last_now + self.newest

    def reason(self, at: datetime, earliest: datetime) -> str:
        """Why a moment outside of the bounds is not allowed; the same words for all on one side."""
        if at < earliest:
            return f"lies more than {self.oldest.days} days back"
        return f"lies more than {self.newest // timedelta(hours=1)} hours ahead"
