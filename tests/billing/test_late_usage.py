"""Late usage under each policy: the same life costs the same in the end, however its late usage is billed."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from billing.accrual import delivered_usage, promises_of
from billing.amending import Change
from billing.biller import Occasion, bill
from billing.errors import Refused
from billing.late import Below, CreditAndRebill, Hold, IgnoreBelow, Late, NextInvoice, late_faults, to_be_billed
from billing.late_usage import late_usage
from billing.modifiers import NO_BOUNDS, Discount
from billing.money import Money, total
from billing.period import instant, zone
from billing.plan import Plan, PlanItem
from billing.portion import Portion
from billing.pricing import Graduated, Matrix, PerUnit, Tier
from billing.pricing.matrix import Cell
from tests.billing.bookkeeping import Agreement, Books, plan_of, signed
from tests.billing.story import RATES
from tests.billing.strategies import METERS, without_too_much_money
from tests.billing.test_plan_lives import PERCENTS, portions, two_plans

D = Decimal
FIRST, BERLIN = date(2026, 1, 1), zone("Europe/Berlin")
Wave = tuple[int, list[tuple[str, Portion]]]
WAVES = st.lists(st.tuples(st.integers(0, 80), st.lists(portions(), max_size=4)), min_size=2, max_size=6)


def lived(plan: Plan, other: Plan, percent: Decimal, waves: list[Wave], late: Late) -> Books:
    """Some months, each with usage of the days before, then billed; the terms change in the middle of the second. The
    subscription ends, and two bills later everything is settled; who asks is told to bill.
    """
    policies = tuple((meter.meter_id, late) for meter in METERS)
    one = replace(signed(Agreement(FIRST, plan, D(2), percent)), late=policies)
    books = Books({"sub_1": one}, rates=RATES)
    day = FIRST
    for n, (ago, used) in enumerate(waves):
        for meter, portion in used:
            books.put(meter, max(FIRST, day - timedelta(days=ago)), portion)
        if n == 1:
            books.amend(instant(day, BERLIN), Change("am", day, other, D(1), percent))
        books.bill(instant(day, BERLIN))
        while books.asked:
            books.answer(True)
        day += timedelta(days=20)
    books.cancel(instant(day, BERLIN), day)
    for _ in range(3):
        books.bill(instant(day, BERLIN))
        books.recognise(day)
        while books.asked:
            books.answer(True)
        day += timedelta(days=1)
    return books


def net(books: Books) -> Money:
    return total([line.net for document in books.documents for line in document.lines], books.standing.currency)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(two_plans(), PERCENTS, WAVES)
@without_too_much_money()
def test_credited_and_billed_again_costs_what_the_next_invoice_would(
    both: tuple[Plan, Plan], percent: Decimal, waves: list[Wave]
) -> None:
    """On every document."""
    usual = lived(*both, percent, waves, NextInvoice())
    again = lived(*both, percent, waves, CreditAndRebill())
    assert [d.net for d in again.documents] == [d.net for d in usual.documents]
    assert [d.total for d in again.documents] == [d.total for d in usual.documents]


@settings(derandomize=True, deadline=None, max_examples=30)
@given(two_plans(), PERCENTS, WAVES)
@without_too_much_money()
def test_held_and_billed_costs_the_same_in_the_end(
    both: tuple[Plan, Plan], percent: Decimal, waves: list[Wave]
) -> None:
    one, other = (replace(plan, invoice_bounds=NO_BOUNDS, bounds=NO_BOUNDS) for plan in both)
    usual, held = (lived(one, other, percent, waves, late) for late in (NextInvoice(), Hold()))
    assert net(held) == net(usual)
    assert held.balance("1200") == usual.balance("1200")


CALLS = PlanItem("calls", "Calls", PerUnit(D("0.5")), "meter", "calls")
TIERS = Graduated((Tier(D(10), D("1.234")), Tier(None, D("0.4"))))
ITEMS: dict[str, PlanItem] = {
    "tiers": replace(CALLS, price=TIERS),
    "no line without usage": replace(CALLS, zero_line=False),
    "by region": replace(CALLS, price=Matrix(("region",), (Cell(("eu",), D(2)),), D("0.333"))),
    "free units": replace(CALLS, free=D(5)),
}
POLICIES = (CreditAndRebill(), Hold(), IgnoreBelow((Below("EUR", D(30)), Below("JPY", D(30)))))
EU = (("region", "eu"),)


@pytest.mark.parametrize("currency", ["EUR", "JPY"])
@pytest.mark.parametrize("aggregation", ["sum", "max", "unique"])
@pytest.mark.parametrize("name", ITEMS)
def test_two_waves_up_and_one_back_come_out_the_same(name: str, aggregation: str, currency: str) -> None:
    """20% and an amount off; usage of two days, then more of the second, another day, and at last all is taken back.

    A maximum has no way back: there it stays.
    """
    off = (Discount("amount", D(3), name="Welcome"),)
    seen = {}
    for late in (NextInvoice(), *POLICIES):
        plan = replace(plan_of(currency, ITEMS[name]), discounts=off)
        one = replace(signed(Agreement(FIRST, plan, discount_percent=D(20))), late=(("calls", late),))
        books = Books({"sub_1": one}, rates=RATES)
        for month, used in ((2, [(5, 7), (9, 12)]), (3, [(9, 40), (11, 3)]), (4, [(12, 60)]), (5, [])):
            for day, n in used:
                each = D(n) if aggregation == "unique" else None
                quantity = D(1) if aggregation == "unique" else D(n)
                books.put("calls", date(2026, 1, day), Portion(quantity, 1, EU, each, "", aggregation))  # type: ignore[arg-type]
            books.bill(instant(date(2026, month, 1), BERLIN))
            while books.asked:
                books.answer(True)
        if aggregation == "sum":
            for key, portions_ in list(books.totals.items()):
                books.totals[key] = tuple(replace(p, quantity=D(0), events=0) for p in portions_)
        for month in (6, 7):
            books.bill(instant(date(2026, month, 1), BERLIN))
            while books.asked:
                books.answer(True)
        usage = [line for d in books.documents for line in d.lines if line.period.start == FIRST]
        seen[late] = total([line.net for line in usage], currency)
        if aggregation == "sum":
            assert seen[late].minor == 0, late
    big_enough = (NextInvoice(), *POLICIES[:2])
    assert len({seen[late] for late in big_enough}) == 1, seen


def test_what_was_waived_is_neither_credited_nor_billed_again() -> None:
    """3 of 13 late calls are waived; then the policy is another one, and 10 more come."""
    books = Books({"sub_1": replace(signed(Agreement(FIRST, plan_of("EUR", CALLS))), late=(("calls", Hold()),))},
                  rates=RATES)  # fmt: skip
    books.use("calls", FIRST, D(100))
    books.bill(instant(date(2026, 2, 1), BERLIN))
    for n, month in ((10, 3), (3, 4)):
        books.use("calls", FIRST, D(n))
        books.bill(instant(date(2026, month, 1), BERLIN))
    books.answer(True)
    books.answer(False)
    books.bill(instant(date(2026, 5, 1), BERLIN))
    books.standing = replace(books.standing, late=(("calls", CreditAndRebill()),))
    books.use("calls", FIRST, D(10))
    document = books.bill(instant(date(2026, 6, 1), BERLIN))
    assert document is not None
    late = [line for line in document.lines if line.kind == "late_usage"]
    assert [(line.quantity, line.net.minor) for line in late] == [(-110, -55_00), (120, 60_00)]
    assert "1.50 EUR was held for a person" in late[1].because.note


def test_what_is_held_or_ignored_is_not_earned() -> None:
    books = Books({"sub_1": signed(Agreement(FIRST, plan_of("EUR", CALLS)))}, rates=RATES)
    books.use("calls", FIRST, D(100))
    books.bill(instant(date(2026, 2, 1), BERLIN))
    books.use("calls", FIRST, D(7))
    policies: list[tuple[Late, int]] = [
        (NextInvoice(), 53_50),
        (CreditAndRebill(), 53_50),
        (Hold(), 50_00),
        (IgnoreBelow((Below("EUR", D("3.51")),)), 50_00),
        (IgnoreBelow((Below("EUR", D("3.50")),)), 53_50),
        (IgnoreBelow((Below("USD", D(1000)),)), 53_50),
    ]
    for late, earned in policies:
        one = replace(books.standing, late=(("calls", late),))
        january = [p for p in delivered_usage(one, books.totals, date(2026, 1, 31)) if p.period.start == FIRST]
        assert [p.total.minor for p in january] == [earned], late


def test_a_difference_without_money_asks_nobody() -> None:
    free = replace(CALLS, free=D(1000))
    books = Books({"sub_1": replace(signed(Agreement(FIRST, plan_of("EUR", free))), late=(("calls", Hold()),))},
                  rates=RATES)  # fmt: skip
    books.use("calls", FIRST, D(100))
    books.bill(instant(date(2026, 2, 1), BERLIN))
    books.use("calls", FIRST, D(900))
    found = late_usage(books.standing, books.totals)
    assert (len(found.ignored), found.held, found.lines) == (1, (), ())
    books.use("calls", FIRST, D(2))
    at = instant(date(2026, 3, 1), BERLIN)
    done = bill(books.standing, books.facts(), Occasion(at, date(2026, 3, 1)))
    assert [(line.quantity, line.net.minor) for line in done.held] == [(902, 1_00)]


def test_a_policy_that_ignores_needs_amounts() -> None:
    assert [f.field for f in late_faults(IgnoreBelow(()))] == ["late.amounts"]
    assert [f.field for f in late_faults(IgnoreBelow((Below("EUR", D("NaN")),)))] == ["late.amounts.0.amount"]
    assert list(late_faults(IgnoreBelow((Below("KWD", D("0.001")),)))) == []


@pytest.mark.parametrize(("answer", "billed"), [("bill", True), (" Bill: yes", True), ("WAIVE it", False)])
def test_an_answer_begins_with_its_word(answer: str, billed: bool) -> None:
    assert to_be_billed(answer) is billed


@pytest.mark.parametrize("answer", ["", "billed", "please bill", "waived"])
def test_other_answers_are_refused(answer: str) -> None:
    with pytest.raises(Refused):
        to_be_billed(answer)


def test_a_window_credited_and_billed_again_is_promised_once() -> None:
    """The credit brings the promise down to nothing, and the new line to what the window comes to."""
    one = replace(signed(Agreement(FIRST, plan_of("EUR", CALLS))), late=(("calls", CreditAndRebill()),))
    books = Books({"sub_1": one}, rates=RATES)
    books.use("calls", FIRST, D(100))
    books.bill(instant(date(2026, 2, 1), BERLIN))
    books.use("calls", FIRST, D(30))
    before = books.standing
    document = books.bill(instant(date(2026, 3, 1), BERLIN))
    assert document is not None
    january = [p.total.minor for p in promises_of(before, document.lines) if p.period.start == FIRST]
    assert january == [65_00]


@pytest.mark.parametrize("late", [NextInvoice(), CreditAndRebill()], ids=str)
@given(steps=st.lists(st.integers(-1000, 1000), min_size=1, max_size=5))
@example(steps=[-900, 200])
@settings(max_examples=60)
def test_an_amount_off_reduces_what_is_left_whatever_came_and_went(late: Late, steps: list[int]) -> None:
    """1,000 calls at 0.50 less 3 EUR, of which some are taken back and some come again."""
    plan = replace(plan_of("EUR", CALLS), discounts=(Discount("amount", D(3), name="Welcome"),))
    books = Books({"sub_1": replace(signed(Agreement(FIRST, plan)), late=(("calls", late),))}, rates=RATES)
    used = 1000
    books.use("calls", FIRST, D(used))
    books.bill(instant(date(2026, 2, 1), BERLIN))
    for month, step in enumerate(steps, 3):
        step = max(step, -used)
        used += step
        if step:
            books.use("calls", FIRST, D(step))
        books.bill(instant(date(2026, month, 1), BERLIN))
        mine = [line.net for d in books.documents for line in d.lines if line.item == "calls"]
        assert total(mine, "EUR").minor == max(0, used * 50 - 300)
