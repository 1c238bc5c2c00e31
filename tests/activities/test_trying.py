"""What events would be worth is what they are worth when they are sent: late what is billed, open what is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from billing.time_bounds import TimeBounds
from models.database import transaction
from models.event import Event
from models.intake import receive
from models.trying import Tried, tried
from tests.activities.company import Company

BOUNDS = TimeBounds(timedelta(days=400), timedelta(days=1))
FROM_BEFORE = [
    Event("old", str(month), "anna", "llm", datetime(2026, month, 20, 12, tzinfo=UTC), {"n": 1000 * month})
    for month in (1, 2)
]


def try_out(company: Company) -> Tried:
    with transaction(company.engine) as session:
        return tried(session, FROM_BEFORE, BOUNDS, range(len(FROM_BEFORE)))


def everything(company: Company) -> list[tuple[object, ...]]:
    return company.sql(
        "select 'total', customer_id, meter_id, day::text, quantity from usage_total"
        " union all select 'key', key::text, null, null, 0 from usage_key"
        " union all select 'answered', customer_id, outcome, day::text, events from usage_answered order by 1, 2, 3, 4"
    )


def test_what_they_would_be_worth_is_what_they_are_worth(company: Company) -> None:
    company.customer("anna")
    company.sign("anna", "usage")
    company.use("anna", "2026-01-10", 500, "known")
    company.live("2026-02-10")
    before = everything(company)
    found = try_out(company)
    assert everything(company) == before
    assert [(d.day.isoformat(), d.before, d.after) for d in found.days["anna"]] == [
        ("2026-01-20", 0, 1000),
        ("2026-02-20", 0, 2000),
    ]
    [one] = found.worth
    assert (one.customer_id, one.currency, one.refused) == ("anna", "EUR", None)
    assert (one.worth.late.minor, one.worth.open.minor) == (1000, 2000)
    with transaction(company.engine) as session:
        receive(session, FROM_BEFORE)
    assert try_out(company).worth == []
    company.live("2026-03-02")
    lines = "select kind, sum(net_minor)::int from invoice_line group by 1 order by 1"
    assert company.sql(lines) == [("late_usage", 1000), ("usage", 500 + 2000)]
