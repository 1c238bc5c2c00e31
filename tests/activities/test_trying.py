"""What events would be worth is what they are worth when they are sent: late what is billed, open what is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Thread
from time import sleep
from typing import Any

import pytest

from billing.time_bounds import TimeBounds
from models import trying
from models.database import transaction
from models.event import Event
from models.intake import Outcome, receive
from models.trying import Tried, tried
from tests.activities.company import Company

BOUNDS = TimeBounds(timedelta(days=400), timedelta(days=1))
FROM_BEFORE = [
    Event("old", str(month), "anna", "llm", datetime(2026, month, 20, 12, tzinfo=UTC), {"n": 1000 * month})
    for month in (1, 2)
]


def try_out(company: Company) -> Tried:
    return tried(company.engine, FROM_BEFORE, BOUNDS, range(len(FROM_BEFORE)))


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


class Rival:
    """Sends one event for Anna on each of some days, whenever it is asked to, in a transaction of its own."""

    def __init__(self, company: Company) -> None:
        self.company = company
        self.sent = 0

    def send(self, *days: str) -> None:
        for day in days:
            self.sent += 1
            self.company.use("anna", day, 7, f"rival-{self.sent}")


def days_of(found: Tried) -> list[tuple[str, int, int]]:
    return [(day.isoformat(), int(before), int(after)) for _, day, before, after in found.days["anna"]]


def test_what_others_send_meanwhile_is_not_among_the_changes(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what is committed after the first reading, nor what is committed before the second one."""
    company.customer("anna")
    rival = Rival(company)

    def received(*asked: Any) -> list[Outcome]:
        rival.send("2026-01-05", "2026-03-05")
        outcomes = receive(*asked)
        rival.send("2026-01-06")
        return outcomes

    monkeypatch.setattr(trying, "receive", received)
    assert days_of(try_out(company)) == [("2026-01-20", 0, 1000), ("2026-02-20", 0, 2000)]
    assert rival.sent == 3


@pytest.mark.parametrize("busy", [1, trying.ATTEMPTS - 1])
def test_where_others_change_the_same_totals_it_begins_anew(
    busy: int, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.customer("anna")
    rival = Rival(company)

    def received(*asked: Any) -> list[Outcome]:
        if rival.sent < busy:
            rival.send("2026-01-20")
        return receive(*asked)

    monkeypatch.setattr(trying, "receive", received)
    assert days_of(try_out(company)) == [("2026-01-20", 7 * busy, 7 * busy + 1000), ("2026-02-20", 0, 2000)]


def test_where_others_go_on_they_wait_until_it_has_looked(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    company.customer("anna")
    rival = Rival(company)
    waiting: list[Thread] = []

    def received(*asked: Any) -> list[Outcome]:
        if rival.sent < trying.ATTEMPTS:
            rival.send("2026-01-20")
        else:
            waiting.append(Thread(target=rival.send, args=("2026-01-20",)))
            waiting[0].start()
            while not company.sql("select 1 from pg_locks where locktype = 'advisory' and not granted"):
                sleep(0.01)
        return receive(*asked)

    monkeypatch.setattr(trying, "receive", received)
    already = 7 * trying.ATTEMPTS
    assert days_of(try_out(company)) == [("2026-01-20", already, already + 1000), ("2026-02-20", 0, 2000)]
    waiting[0].join(10)
    assert company.sql("select sum(quantity) from usage_total where day = '2026-01-20'") == [(already + 7,)]
