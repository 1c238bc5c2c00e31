"""What a rebuild makes late goes the way of the meter's policy; who is billed meanwhile is billed once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from billing.catalog import Filter
from billing.late import Below, CreditAndRebill, Hold, IgnoreBelow, Late, NextInvoice
from models.catalog import put_meter
from models.database import transaction
from models.event import Event
from models.intake import receive
from models.meter_version import meter
from tests.activities.company import Company
from tests.models.test_rebuild import asked, carried_out, decided, step

FEW: dict[str, Any] = {"filters": (Filter("n", ("30000",), without=True),)}
POLICIES: dict[str, tuple[Late, int, list[int]]] = {
    "next invoice": (NextInvoice(), -30000, [-30000]),
    "credit": (CreditAndRebill(), -30000, [-50000, 20000]),
    "below": (IgnoreBelow((Below("EUR", Decimal(301)),)), 0, []),
    "not below": (IgnoreBelow((Below("EUR", Decimal(300)),)), -30000, [-30000]),
    "hold": (Hold(), -30000, []),
}


def january(company: Company, late: Late = NextInvoice()) -> None:
    with transaction(company.engine) as session:
        put_meter(session, replace(meter(session, "tokens"), late=late))
    company.customer("anna")
    company.sign("anna", "usage")
    company.use("anna", "2026-01-05", 20000)
    company.use("anna", "2026-01-06", 30000)
    company.live("2026-02-03")


def late_lines(company: Company) -> list[int]:
    return [n for (n,) in company.sql("select net_minor::int from invoice_line where kind = 'late_usage' order by 1")]


@pytest.mark.parametrize("name", POLICIES)
def test_what_is_late_by_it_goes_the_way_of_the_policy(name: str, company: Company) -> None:
    policy, shown, lines = POLICIES[name]
    january(company, policy)
    asked(company.engine, "tokens", date(2026, 1, 1), **FEW)
    carried_out(company.engine, "tokens")
    assert company.sql("select coalesce(sum(late_minor), 0)::int from meter_worth") == [(shown,)]
    decided(company.engine, "tokens", apply=True)
    carried_out(company.engine, "tokens")
    company.live("2026-03-03")
    company.live("2026-04-03")
    assert late_lines(company) == lines
    asks = company.sql("select count(*)::int from task where kind = 'late usage'")
    assert asks == [(1 if isinstance(policy, Hold) else 0,)]


@pytest.mark.parametrize("at", ["apply", "clear"])
def test_an_ended_subscription_is_billed_again_wherever_it_is_killed(at: str, company: Company) -> None:
    """As many events as before, between the swap and the clearing, and after it: one line of late usage."""
    january(company)
    company.cancel("end", "sub-anna", date(2026, 2, 10))
    company.live("2026-02-12")
    asked(company.engine, "tokens", date(2026, 1, 1), aggregation="max")
    carried_out(company.engine, "tokens")
    decided(company.engine, "tokens", apply=True)
    assert step(company.engine, "tokens") == "apply"
    if at == "apply":
        company.live("2026-02-14")
    assert carried_out(company.engine, "tokens") == ["clear"]
    for day in ("2026-02-15", "2026-02-16"):
        company.live(day)
        company.run()
    assert late_lines(company) == [-20000]


@pytest.mark.parametrize("seed", range(3))
def test_bills_raced_with_the_swap_come_to_the_same(seed: int, company: Company) -> None:
    for no in range(12):
        company.customer(f"c{no}")
        company.sign(f"c{no}", "usage")
        company.use(f"c{no}", "2026-01-05", 20000)
        company.use(f"c{no}", "2026-01-06", 30000)
    company.live("2026-01-30")
    asked(company.engine, "tokens", date(2026, 1, 1), **FEW)
    carried_out(company.engine, "tokens")
    decided(company.engine, "tokens", apply=True)
    with ThreadPoolExecutor(3) as pool:
        applied = pool.submit(carried_out, company.engine, "tokens")
        company.live("2026-02-01")
        assert applied.result(30) == ["apply", "clear"]
    company.live("2026-03-02")
    company.live("2026-04-02")
    found = company.sql(
        "select i.customer_id, sum(l.net_minor)::int from invoice_line l join invoice i on i.id = l.invoice_id"
        " group by 1 order by 1"
    )
    assert found == [(f"c{no}", 20000) for no in sorted(map(str, range(12)))]


def test_numbers_of_absurd_size_that_no_meter_looked_at_are_not_counted(company: Company) -> None:
    """They were stored as they came; a meter that looks at them by now would make bills of them that cannot be."""
    company.customer("anna")
    company.sign("anna", "usage")
    company.live("2026-01-02")
    asks = [("1", 10**400), ("2", 7), ("3", -(10**30)), ("4", 10**12)]

    def send(since: int) -> None:
        at = datetime(2026, 1, since, 12, tzinfo=UTC)
        some = [Event("s", f"{since}-{name}", "anna", "llm", at, {"m": n, "n": 1}) for name, n in asks]
        with transaction(company.engine) as session:
            assert [one.kind for one in receive(session, some)] == ["accepted"] * 4

    send(5)
    asked(company.engine, "tokens", date(2026, 1, 1), quantity_field="m")
    assert step(company.engine, "tokens") == "open"
    send(6)
    assert carried_out(company.engine, "tokens") == ["count", "compare"]
    assert company.sql("select after from meter_difference order by day") == [(10**12 + 7,)] * 2
    assert company.sql("select open_minor from meter_worth") == [(2 * (10**12 + 7) - 8,)]
    decided(company.engine, "tokens", apply=False)
    assert carried_out(company.engine, "tokens") == ["drop", "clear"]
    asks[3] = ("5", 10**30 - 1)
    send(7)
    asked(company.engine, "tokens", date(2026, 1, 1), id="reb-2", quantity_field="m")
    assert carried_out(company.engine, "tokens") == ["open", "count", "compare"]
    [(refused,)] = company.sql("select refused from meter_worth")
    assert refused.startswith("sub-anna: 1,000,000,000,000,000,002,000,000,000,020 of the item 'tokens' of usage")
