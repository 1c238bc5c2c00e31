"""Dunning: on which days a declined payment is tried again, and when a person has to look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class DunningPolicy:
    """Days after the first decline on which the payment method is tried again; then it is a person's task."""

    retry_after_days: Sequence[int] = (3, 5, 7, 14)

    def next_attempt(self, attempts: int, first_declined_at: datetime) -> datetime | None:
        """When to try next after `attempts` have been made; None when the calendar is used up."""
        if attempts > len(self.retry_after_days):
            return None
        return first_declined_at + timedelta(days=self.retry_after_days[attempts - 1])
