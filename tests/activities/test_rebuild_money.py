"""The money that a rebuild shows is the money that bills have after it: no fees, no days that nobody pays for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from billing.catalog import Filter, Meter
from billing.plan import Plan, PlanItem
from billing.pricing import PerUnit
from billing.subscription_usage import periods_back, window_usage
from models.catalog import publish, put_meter
from models.database import transaction
from models.standing import standings
from models.usage import totals_of
from tests.activities.company import Company
from tests.models.test_rebuild import asked, carried_out, decided

NONE = {"filters": (Filter("n", ("0",)),)}
FIRST_DAY = date(1970, 1, 1)
FEW = {"filters": (Filter("n", ("300", "500"), without=True),)}


def shown(company: Company, meter: str, since: date, **change: Any) -> list[tuple[str, int, int]]:
    asked(company.engine, meter, since, **change)
    assert carried_out(company.engine, meter) == ["open", "count", "compare"]
    return [tuple(row) for row in company.sql("select customer_id, late_minor::int, open_minor::int from meter_worth")]


def test_fees_are_no_part_of_the_difference(company: Company) -> None:
    """Where all usage of a period goes, or where there was none before."""
    company.customer("anna")
    company.sign("anna")
    company.live("2026-01-10")
    company.use("anna", "2026-01-05", 300)
    assert shown(company, "tokens", date(2026, 1, 1), **NONE) == [("anna", 0, -300)]


def test_days_after_the_end_are_nobodys(company: Company) -> None:
    company.customer("anna")
    company.sign("anna")
    company.live("2026-01-10")
    company.cancel("end", "sub-anna", date(2026, 1, 15))
    company.use("anna", "2026-01-05", 300)
    company.use("anna", "2026-01-20", 500)
    assert shown(company, "tokens", date(2026, 1, 1), **NONE) == [("anna", 0, -300)]


def sells(company: Company, meter: Meter) -> None:
    item = PlanItem("seats", "Seats", PerUnit(Decimal(1)), basis="meter", meter=meter.meter_id)
    with transaction(company.engine) as session:
        put_meter(session, meter)
        publish(session, Plan("levels", 1, "Levels", "EUR", (item,)), company.now())


@pytest.mark.parametrize(
    "meter, since, change",
    [
        (Meter("level", "Level", "llm", "n", carries_over=True), FIRST_DAY, FEW),
        (Meter("level", "Level", "llm", "n", carries_over=True), FIRST_DAY, {"carries_over": False}),
        (Meter("level", "Level", "llm", "n"), FIRST_DAY, {"carries_over": True}),
        (
            Meter("level", "Level", "llm", "n"),
            FIRST_DAY,
            {"aggregation": "weighted_sum", "time_unit": "day"},
        ),
        (
            Meter("level", "Level", "llm", "n", aggregation="weighted_sum", time_unit="day"),
            FIRST_DAY,
            {"aggregation": "sum", "time_unit": None},
        ),
        (Meter("level", "Level", "llm", "n"), date(2026, 1, 5), {"aggregation": "max"}),
        (Meter("level", "Level", "llm", "n"), date(2026, 2, 1), FEW),
    ],
)
def test_what_is_shown_is_what_bills_come_to(
    meter: Meter, since: date, change: Mapping[str, Any], company: Company
) -> None:
    """Also for the running period of a level that nobody has changed in it."""
    sells(company, meter)
    for name in ("anna", "bert"):
        company.customer(name)
        company.sign(name, "levels")
    for day, n in (("2026-01-03", 300), ("2026-01-20", 200), ("2026-02-03", 500), ("2026-02-10", 100)):
        company.use("anna", day, n)
    company.use("bert", "2026-01-04", 300)
    company.live("2026-03-10")
    march = open_now(company)
    found = shown(company, "level", since, **change)
    decided(company.engine, "level", apply=True)
    assert carried_out(company.engine, "level") == ["apply", "clear"]
    march = open_now(company) - march
    company.live("2026-04-02")
    [(late,)] = company.sql("select coalesce(sum(net_minor), 0)::int from invoice_line where kind = 'late_usage'")
    assert (sum(row[1] for row in found), sum(row[2] for row in found)) == (late, march)


def open_now(company: Company) -> int:
    """What the running period comes to by now."""
    minor = 0
    with transaction(company.engine) as session:
        for one in standings(session, ["anna", "bert"]):
            totals = totals_of(session, [one.customer_id])[one.customer_id]
            windows = window_usage(one, totals, periods_back(one, date(2026, 3, 10), 1))
            minor += sum(window.net.minor for window in windows)
    return minor
