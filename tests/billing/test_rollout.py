"""Roll-outs in the engine: a bill worked out afresh is the bill that was sent; the guard's edge; days and shares."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.amending import Change
from billing.errors import Refused
from billing.modifiers import Bounds, Commitment, Discount
from billing.money import Money, total
from billing.period import Interval, Period
from billing.plan import Plan, PlanItem
from billing.pricing import Flat, Graduated, OneTime, PerUnit, Tier
from billing.rollout import (
    Audience,
    Guard,
    in_share,
    judge,
    last_whole_period,
    move_day,
    period_bill,
    rises_beyond,
    to_be_moved,
    unfit,
)
from billing.standing import Standing
from billing.taxes import TaxRate
from tests.billing.bookkeeping import Agreement, Books, midnight, plan_of, signed

RATES = [TaxRate("DE", Decimal(19), date(1990, 1, 1))]
ANCHOR, APRIL = date(2026, 1, 31), date(2026, 4, 30)
FEE = PlanItem("fee", "Fee", Flat(Decimal("9.99")))
SEAT = PlanItem("seat", "Seat", PerUnit(Decimal("7.03")), "seats")
PEAK = replace(SEAT, seats="peak", in_advance=False)
CALLS = PlanItem("calls", "Calls", PerUnit(Decimal("0.37")), "meter", "calls")
TIERED = replace(CALLS, price=Graduated((Tier(Decimal(10), Decimal("0.5"), Decimal(1)), Tier(None, Decimal("0.01")))))
SETUP = PlanItem("setup", "Set-up", OneTime(Decimal(100)))
FIVE_OFF = Discount("amount", Decimal(5))
PLANS: dict[str, Plan] = {
    "fees and usage": plan_of("EUR", FEE, SEAT, CALLS),
    "tiers": plan_of("EUR", SEAT, TIERED),
    "the most seats, in arrears": plan_of("EUR", PEAK, replace(FEE, in_advance=False), TIERED),
    "a minimum": replace(plan_of("EUR", FEE, CALLS), bounds=Bounds(minimum=Decimal(25))),
    "a commitment": replace(
        plan_of("EUR", FEE, SEAT, CALLS), bounds=Bounds(commitment=Commitment(Decimal(40), Decimal("1.5")))
    ),
    "an amount and a percentage off": replace(
        plan_of("EUR", PEAK, CALLS), discounts=(FIVE_OFF, Discount("percent", Decimal("12.5")))
    ),
    "an invoice's minimum": replace(plan_of("EUR", CALLS), invoice_bounds=Bounds(minimum=Decimal(8))),
    "yen": plan_of("JPY", replace(FEE, price=Flat(Decimal(990))), CALLS),
}


@settings(derandomize=True, deadline=None, max_examples=120)
@given(
    name=st.sampled_from(sorted(PLANS)),
    seats=st.integers(0, 5),
    percent=st.sampled_from([Decimal(0), Decimal("33.3")]),
    used=st.lists(st.tuples(st.integers(0, 88), st.integers(-3, 40)), max_size=12),
)
def test_the_bill_of_a_period_is_what_was_billed_for_it(
    name: str, seats: int, percent: Decimal, used: list[tuple[int, int]]
) -> None:
    """All documents are sent first, then each whole period is worked out afresh: equal to the cent.

    But for a percentage off fees in advance and usage in arrears: an invoice rounds it over lines of two periods.
    """
    agreed = Agreement(ANCHOR, PLANS[name], Decimal(seats), percent)
    books = Books({"sub_1": signed(agreed)}, rates=RATES)
    for days, quantity in used:
        books.use("calls", ANCHOR + timedelta(days=days), Decimal(quantity))
    for month in range(4):
        books.bill(midnight(books.standing, Interval("month").start(ANCHOR, month)))
    lines = [line for document in books.documents for line in document.lines]
    for month in range(3):
        whole = Period(Interval("month").start(ANCHOR, month), Interval("month").start(ANCHOR, month + 1))
        billed = total([line.net for line in lines if line.period.start in whole], books.standing.currency)
        found = period_bill(books.standing, books.standing.terms, books.totals, whole)
        lanes = {item.in_advance for item in PLANS[name].items}
        assert abs((found - billed).minor) <= (1 if percent and len(lanes) == 2 else 0)


def running(plan: Plan, **more: object) -> Standing:
    return replace(signed(Agreement(ANCHOR, plan)), **more)  # type: ignore[arg-type]


def to(plan: Plan, on: date = APRIL) -> Change:
    return Change("amd", on, plan, Decimal(1), Decimal(0))


def fee_of(amount: str, version: int = 2) -> Plan:
    return plan_of("EUR", replace(FEE, price=Flat(Decimal(amount)))).named("pro", version)


def test_one_time_fees_count_where_they_would_be_charged_anew() -> None:
    plan = plan_of("EUR", FEE, SETUP)
    one, first = running(plan), Period(ANCHOR, date(2026, 2, 28))
    assert period_bill(one, one.terms, {}, first) == Money(999, "EUR")
    other = replace(SETUP, key="migration", price=OneTime(Decimal(7)))
    judged = judge(one, to(plan_of("EUR", FEE, SETUP, other)), {}, None, APRIL)
    assert (judged.before, judged.after) == (Money(999, "EUR"), Money(1699, "EUR"))


@pytest.mark.parametrize(
    ("after", "held"), [("10.98", False), ("10.99", True), ("9.99", False), ("1", False), ("20", True)]
)
def test_the_guard_lets_exactly_so_much_pass(after: str, held: bool) -> None:
    """10% of 9.99 are 0.999: 10.98 is below, 10.99 is above; and of 10.00, 11.00 is exactly 10% more."""
    one = running(fee_of("9.99", 1))
    for action, outcome in (("hold", "held"), ("refuse", "refused")):
        guard = Guard(Decimal(10), action)  # type: ignore[arg-type]
        assert judge(one, to(fee_of(after)), {}, guard, APRIL).outcome == (outcome if held else "planned")
    assert judge(one, to(fee_of(after)), {}, None, APRIL).outcome == "planned"


@pytest.mark.parametrize(
    ("before", "after", "percent", "beyond"),
    [
        (1000, 1100, "10", False),
        (1000, 1101, "10", True),
        (1000, 1001, "0", True),
        (1000, 1000, "0", False),
        (3, 4, "33.3", True),
        (3, 4, "33.34", False),
        (0, 0, "0", False),
        (0, 1, "1000", True),
        (-100, -90, "10", False),
        (-100, -89, "10", True),
    ],
)
def test_a_rise_is_compared_exactly(before: int, after: int, percent: str, beyond: bool) -> None:
    assert rises_beyond(Money(before, "EUR"), Money(after, "EUR"), Decimal(percent)) is beyond


def test_the_words_say_both_figures_and_the_rise() -> None:
    one = running(fee_of("9.99", 1))
    period = "2026-03-31 to 2026-04-29"
    assert judge(one, to(fee_of("10.98")), {}, None, APRIL).words == (
        f"the bill of {period} rises from 9.99 EUR to 10.98 EUR (9.9%)"
    )
    assert "falls from 9.99 EUR to 5.00 EUR (49.9%)" in judge(one, to(fee_of("5")), {}, None, APRIL).words
    assert judge(one, to(fee_of("9.99")), {}, None, APRIL).words == f"the bill of {period} stays at 9.99 EUR"
    assert judge(running(fee_of("0", 1)), to(fee_of("1")), {}, None, APRIL).words.endswith("to 1.00 EUR")


@pytest.mark.parametrize(
    ("today", "start"),
    [
        (date(2025, 12, 1), ANCHOR),  # not begun: the first one
        (date(2026, 2, 27), ANCHOR),  # in the first one: it is the only one there is
        (date(2026, 2, 28), ANCHOR),
        (date(2026, 3, 30), ANCHOR),
        (date(2026, 3, 31), date(2026, 2, 28)),
        (APRIL, date(2026, 3, 31)),
    ],
)
def test_the_last_whole_period_has_ended_by_today(today: date, start: date) -> None:
    found = last_whole_period(running(fee_of("1")), today)
    assert found.start == start
    assert found.end <= today or found.start == ANCHOR


@pytest.mark.parametrize(
    ("audience", "on", "today", "day"),
    [
        ("all", date(2026, 3, 15), date(2026, 3, 1), date(2026, 3, 15)),
        ("all", date(2026, 3, 15), date(2026, 3, 20), date(2026, 3, 20)),
        ("cohort", date(2026, 1, 1), date(2026, 1, 1), ANCHOR),
        ("renewal", date(2026, 3, 15), date(2026, 3, 1), date(2026, 3, 31)),
        ("renewal", date(2026, 3, 31), date(2026, 3, 1), date(2026, 3, 31)),
        ("renewal", date(2026, 4, 1), date(2026, 3, 1), APRIL),
        ("renewal", date(2026, 3, 1), date(2026, 4, 2), APRIL),
        ("renewal", date(2026, 1, 1), date(2026, 1, 1), ANCHOR),
    ],
)
def test_the_day_of_a_move(audience: Audience, on: date, today: date, day: date) -> None:
    assert move_day(audience, on, running(fee_of("1")), today) == day


def test_a_share_is_steady_grows_and_is_about_as_large_as_it_says() -> None:
    names = [f"cus_{n}" for n in range(2000)]
    tenth, fifth, everybody = (
        {name for name in names if in_share(name, Decimal(percent))} for percent in ("10", "20", "100")
    )
    assert tenth < fifth < everybody == set(names)
    assert 150 < len(tenth) < 250 and 330 < len(fifth) < 470
    assert tenth == {name for name in names if in_share(name, Decimal(10))}


@pytest.mark.parametrize(
    ("answer", "moved"), [("move", True), (" Move, she agreed", True), ("leave: until May", False)]
)
def test_the_first_word_of_an_answer_decides(answer: str, moved: bool) -> None:
    assert to_be_moved(answer) is moved


@pytest.mark.parametrize("answer", ["", "yes", "moved", "do not move", "leaving"])
def test_an_answer_that_does_not_say_is_refused(answer: str) -> None:
    with pytest.raises(Refused) as refusal:
        to_be_moved(answer)
    assert [fault.field for fault in refusal.value.faults] == ["answer"]


def test_a_target_fits_by_currency_and_interval() -> None:
    yearly = replace(fee_of("1"), interval=Interval("year"))
    assert unfit(fee_of("1"), [("EUR", "month", 1)]) == []
    said = [fault.reason for fault in unfit(yearly, [("EUR", "month", 1), ("USD", "month", 1), ("EUR", "month", 3)])]
    assert said == [
        "is billed at another interval than subscriptions that run each month",
        "has no prices in USD, in which subscriptions run",
        "is billed at another interval than subscriptions that run every 3 months",
    ]
