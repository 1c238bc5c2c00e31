"""What a subscription has used so far, what of it was billed, and that the next invoice charges what was foretold."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from billing.period import Period, local_day
from billing.subscription_usage import WindowUsage, metered, metered_days, periods_back, window_usage
from models.database import transaction
from models.entity import now_on
from models.standing import standing
from models.usage import totals_of
from tests.activities.company import Company


def usage(company: Company, sub: str, periods: int = 2) -> list[WindowUsage]:
    with transaction(company.engine) as session:
        one = standing(session, sub)
        assert one is not None
        asked = periods_back(one, local_day(now_on(session, one.clock_id), one.zone), periods)
        return list(window_usage(one, totals_of(session, [one.customer_id])[one.customer_id], asked))


def said(found: list[WindowUsage]) -> list[tuple[date, Decimal, int, Decimal, int]]:
    return [(w.period.start, w.quantity, w.net.minor, w.billed_quantity, w.billed_net.minor) for w in found]


def test_usage_is_told_as_it_will_be_billed(company: Company) -> None:
    company.customer("anna")
    sub = company.sign("anna", "usage", discount_percent=Decimal(10))
    company.use("anna", "2026-01-10", 1000)
    assert said(usage(company, sub)) == [(date(2026, 1, 1), Decimal(1000), 900, Decimal(0), 0)]
    company.live("2026-02-02")
    company.use("anna", "2026-01-31", 500)
    company.use("anna", "2026-02-01", 7000)
    january, february = (date(2026, 1, 1), Decimal(1500), 1350, Decimal(1000), 900), date(2026, 2, 1)
    assert said(usage(company, sub)) == [january, (february, Decimal(7000), 6300, Decimal(0), 0)]
    company.live("2026-03-02")
    assert said(usage(company, sub, 3))[:2] == [
        (date(2026, 1, 1), Decimal(1500), 1350, Decimal(1500), 1350),
        (february, Decimal(7000), 6300, Decimal(7000), 6300),
    ]
    assert [w.period.start for w in usage(company, sub, 1)] == [date(2026, 3, 1)]
    assert len(usage(company, sub, 24)) == 3


def test_a_change_of_terms_and_an_end_cut_windows(company: Company) -> None:
    company.customer("anna")
    sub = company.sign("anna", "fee")
    company.live("2026-01-11")
    company.use("anna", "2026-01-05", 100, "before")
    company.amend("amd", sub, date(2026, 1, 11), "usage")
    company.use("anna", "2026-01-15", 300)
    company.use("anna", "2026-01-25", 1000)
    company.cancel("can", sub, date(2026, 1, 20))
    company.live("2026-02-02")
    [window] = usage(company, sub)
    assert (window.period.start, window.period.end) == (date(2026, 1, 11), date(2026, 1, 20))
    assert said([window]) == [(date(2026, 1, 11), Decimal(300), 300, Decimal(300), 300)]


def test_days_are_metered_while_an_item_asks_the_meter(company: Company) -> None:
    company.customer("anna")
    sub = company.sign("anna", "fee")
    for no, (day, plan) in enumerate((("05", "usage"), ("10", "team"), ("15", "fee"), ("20", "usage"))):
        company.live(f"2026-01-{day}")
        company.amend(f"amd-{no}", sub, date(2026, 1, int(day)), plan)
    company.cancel("can", sub, date(2026, 1, 25))
    with transaction(company.engine) as session:
        one = standing(session, sub)
    assert one is not None
    assert metered(one) == ("tokens",)
    first, second = Period(date(2026, 1, 5), date(2026, 1, 15)), Period(date(2026, 1, 20), date(2026, 1, 25))
    assert metered_days(one, "tokens", Period(date(2025, 12, 1), date(2026, 3, 1))) == [first, second]
    assert metered_days(one, "tokens", Period(date(2026, 1, 8), date(2026, 1, 20))) == [
        Period(date(2026, 1, 8), first.end)
    ]
    assert metered_days(one, "tokens", Period(date(2026, 2, 1), date(2026, 3, 1))) == []
    assert metered_days(one, "calls", Period(date(2026, 1, 1), date(2026, 3, 1))) == []


def test_usage_of_two_subscriptions_is_never_of_one_meter(company: Company) -> None:
    """Each meter belongs to one subscription, so what is shown of one is not shown of the other."""
    company.customer("anna")
    fee = company.sign("anna", "fee")
    used = company.sign("anna", "usage", subscription_id="second")
    company.use("anna", "2026-01-10", 1000)
    assert usage(company, fee) == []
    assert [w.quantity for w in usage(company, used)] == [Decimal(1000)]
