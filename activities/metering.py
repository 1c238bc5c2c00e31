"""Room for events ahead of time, a partition a month; and an end to what is known of those of long ago."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Engine
from temporalio import activity

from activities.pulse import heartbeating
from billing.period import month_of
from models import event, event_month
from models.database import transaction

MONTHS_AHEAD = 2
MOST_ELSEWHERE = 10_000
PAGES_AT_ONCE = 1_000
"""Of 8 KiB and some hundred names each: what a transaction looks through while senders of the same names wait."""
PAGES_A_TIME = 50_000


@dataclass(frozen=True, slots=True)
class MakeMonths:
    """Partitions for last month, this one, so many `ahead`, and any of which more than `most` events have come."""

    ahead: int = MONTHS_AHEAD
    most: int = MOST_ELSEWHERE


@dataclass(frozen=True, slots=True)
class ForgetNames:
    """Go on from that page of names; up to so many at a time."""

    page: int = 0
    at_a_time: int = PAGES_A_TIME


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many names, and the page to go on from; none at the end."""

    names: int
    page: int | None = None


class Metering:
    """Prepares what events are written into, and forgets names of events after so long (None: never)."""

    def __init__(self, engine: Engine, remembered: timedelta | None = None) -> None:
        self.engine = engine
        self._remembered = remembered

    @activity.defn
    def make_months(self, command: MakeMonths) -> date:
        """Make what is missing, each month by itself; the first day that there is no room for yet.

        Whoever stores events waits while a month is put in its place, so it is given up when that takes long, and tried
        again later.
        """
        today = datetime.now(UTC).date()
        months = [month_of(month_of(today).start - timedelta(days=1))]
        for _ in range(command.ahead + 1):
            months.append(month_of(months[-1].end))
        with heartbeating():
            with transaction(self.engine) as session:
                crowded = event_month.crowded(session, command.most)
            for month in [*(m.start for m in months), *crowded]:
                with transaction(self.engine) as session:
                    event.make_months(session, month, 1)
        return months[-1].end

    @activity.defn
    def forget_names(self, command: ForgetNames) -> Forgotten:
        """Forget the names of events whose time is longer ago than they are remembered, and whose month was taken away.

        In pieces, so that whoever sends such an event again meanwhile waits for little. Twice is as good as once.
        """
        if self._remembered is None:
            return Forgotten(0)
        before = datetime.now(UTC) - self._remembered
        with transaction(self.engine) as session:
            end = event_month.pages_of_names(session)
        last = min(end, command.page + command.at_a_time)
        names = 0
        with heartbeating():
            for page in range(command.page, last, PAGES_AT_ONCE):
                with transaction(self.engine) as session:
                    names += event_month.forget_names(session, (page, min(page + PAGES_AT_ONCE, last)), before)
        if last < end:
            return Forgotten(names, last)
        with transaction(self.engine) as session:
            event_month.forget_quarantined(session)
        return Forgotten(names)
