"""Room for events ahead of time: a partition a month."""

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


@dataclass(frozen=True, slots=True)
class MakeMonths:
    """Partitions for last month, this one, so many `ahead`, and any of which more than `most` events have come."""

    ahead: int = MONTHS_AHEAD
    most: int = MOST_ELSEWHERE


class Metering:
    """Prepares what events are written into."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

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
