"""What events of nobody come to: by their times, as if they had been somebody's."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from billing.by_day import by_day
from billing.catalog import Meter
from billing.period import Period
from billing.usage import measure

NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)
DAYS = Period(date(2026, 1, 10), date(2026, 1, 12))
METERS = [
    Meter("sum", "Sum", "job", "n"),
    Meter("peak", "Peak", "job", "n", aggregation="peak_rate", rate_window="minute"),
    Meter("hours", "Hours", "job", "n", aggregation="weighted_sum", time_unit="hour"),
    Meter("seats", "Seats", "job", "n", carries_over=True),
    Meter("users", "Users", "job", "user", aggregation="unique"),
    Meter("last", "Last", "job", "n", aggregation="latest"),
    Meter("each", "Each", "job", "n", per_event=True),
    Meter("other", "Other", "mail", "n"),
]


def test_each_meter_counts_events_by_their_times() -> None:
    sent = [(timedelta(0), 5, "ann"), (timedelta(seconds=30), 7, "ben"), (timedelta(hours=24), 2, "ann")]
    events = [("job", NOON + after, {"n": n, "user": user}) for after, n, user in reversed(sent)]
    totals = by_day(METERS, events)
    found = {meter: measure(totals, meter, DAYS).quantity for meter in sorted({meter for meter, _ in totals})}
    hours = 36 * Decimal(5) + (Decimal(36) - Decimal(30) / 3600) * 7 + 12 * Decimal(2)
    assert abs(found.pop("hours") - hours) < Decimal("1E-8")
    assert found == {"each": 14, "last": 2, "peak": 12, "seats": 14, "sum": 14, "users": 2}
    assert len(totals["each", date(2026, 1, 10)]) == 2
