"""A quote says what the biller would bill for a whole period, explained; and what it cannot price is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from billing.catalog import Meter
from billing.errors import Refused
from billing.folding import fold
from billing.meter_check import LONGEST_VALUE
from billing.modifiers import Bounds, Discount
from billing.period import Interval
from billing.plan import Plan, PlanItem
from billing.portion import Portion
from billing.preview import ALONE, Quote, Trial, alone, check_trial, quote
from billing.pricing import Flat, Matrix, OneTime, Percentage, PerUnit
from tests.billing.bookkeeping import Agreement, Books, midnight, signed

START = date(2026, 1, 1)
FEE = PlanItem("fee", "Fee", Flat(Decimal(30)))
SETUP = PlanItem("setup", "Set-up", OneTime(Decimal(99)))
CALLS = PlanItem("calls", "Calls", PerUnit(Decimal("0.001")), "meter", "calls", "calls")
PLAN = Plan("pro", 1, "Pro", "EUR", (SETUP, FEE, CALLS), bounds=Bounds(Decimal(50)))


def said(found: Quote) -> list[tuple[str, str]]:
    return [(tried.line.item, str(tried.line.net.major)) for tried in found.lines]


def test_a_quote_is_the_whole_period() -> None:
    trial = Trial(PLAN, {"calls": (Portion(Decimal(5000), 12),)}, discount_percent=Decimal(10))
    first = quote(trial, START)
    assert said(first) == [("setup", "89.10"), ("fee", "27.00"), ("calls", "4.50"), ("plan:minimum", "18.50")]
    assert (str(first.net), first.period.start, first.period.end) == ("139.10 EUR", START, date(2026, 2, 1))
    later = quote(replace(trial, number=7), START)
    assert said(later) == said(first)[1:]
    assert all(tried.because for tried in first.lines)


def test_a_quote_is_what_the_biller_bills() -> None:
    """The fee is billed in advance and the usage with the next one; together they are the quote."""
    plan = replace(PLAN, discounts=(Discount("percent", Decimal(10), 2, "Hello"),))
    books = Books({"sub_1": signed(Agreement(START, plan, buyer="US", seller="US"))})
    books.use("calls", date(2026, 1, 20), Decimal(5000))
    documents = [books.bill(midnight(books.standing, day)) for day in (START, date(2026, 2, 1))]
    lines = [
        line for document in documents if document for line in document.lines if line.period.start < date(2026, 2, 1)
    ]
    trial = Trial(plan, {"calls": (Portion(Decimal(5000), 1),)})
    assert sorted(said(quote(trial, START))) == sorted((line.item, str(line.net.major)) for line in lines)


@pytest.mark.parametrize("in_advance", [True, False])
@pytest.mark.parametrize("periods", [1, 2, None])
@pytest.mark.parametrize("value", ["5", "20"])
def test_an_amount_off_is_quoted_as_it_is_billed(in_advance: bool, periods: int | None, value: str) -> None:
    """At each boundary the amount is given to what is billed there: the next fee and the usage before share it."""
    fee, calls = replace(FEE, price=Flat(Decimal(3)), in_advance=in_advance), replace(CALLS, price=PerUnit(Decimal(1)))
    off = (Discount("amount", Decimal(value), periods, "Hello"), Discount("percent", Decimal("33.3"), 3))
    plan = replace(PLAN, items=(fee, calls), bounds=Bounds(), discounts=off)
    for number in range(4):
        books = Books({"sub_1": signed(Agreement(START, plan, buyer="US", seller="US"))})
        period = plan.interval.period_at(START, plan.interval.start(START, number))
        books.use("calls", period.start, Decimal("10"))
        books.bill(midnight(books.standing, period.end))
        billed = [line for document in books.documents for line in document.lines if line.period == period]
        found = quote(Trial(plan, {"calls": (Portion(Decimal(10), 1),)}, number=number), period.start)
        assert said(found) == [(line.item, str(line.net.major)) for line in billed]


def test_an_amount_off_once_is_used_up_by_the_fee_in_advance() -> None:
    plan = replace(PLAN, items=(replace(FEE, price=Flat(Decimal(3))), CALLS), bounds=Bounds())
    once = replace(plan, discounts=(Discount("amount", Decimal(5), 1),))
    trial = Trial(once, {"calls": (Portion(Decimal(10_000)),)})
    assert said(quote(trial, START)) == [("fee", "0.00"), ("calls", "10.00")]
    for_ever = replace(trial, plan=replace(plan, discounts=(Discount("amount", Decimal(5)),)))
    assert said(quote(for_ever, START)) == [("fee", "0.00"), ("calls", "6.15")]


def test_the_last_period_of_all_calendars_is_refused() -> None:
    for start in (date(9999, 11, 1), date(9999, 12, 1)):
        with pytest.raises(Refused) as refused:
            quote(Trial(replace(PLAN, items=(FEE,)), {}), start)
        assert [fault.field for fault in refused.value.faults] == ["number"] and refused.value.remedy


def test_discounts_of_the_first_periods_end() -> None:
    item = replace(FEE, discounts=(Discount("percent", Decimal(50), 3),))
    plan = replace(PLAN, items=(item,), bounds=Bounds())
    nets = [str(quote(Trial(plan, {}, number=n), START).net.major) for n in range(5)]
    assert nets == ["15.00", "15.00", "15.00", "30.00", "30.00"]


def test_a_price_alone_is_priced_for_its_quantity() -> None:
    plan = alone(PerUnit(Decimal("0.0000025")), "JPY", "tokens")
    trial = Trial(plan, {ALONE: (Portion(Decimal(10**18)),)})
    check_trial(trial)
    assert str(quote(trial, START).net) == "2,500,000,000,000 JPY"
    assert str(quote(Trial(alone(Flat(Decimal(7)), "KWD"), {}), START).net) == "7.000 KWD"


def test_two_items_may_price_one_meter() -> None:
    matrix = PlanItem("regions", "Regions", Matrix(("region",), (), Decimal(2)), "meter", "calls")
    trial = Trial(replace(PLAN, items=(matrix, CALLS), bounds=Bounds()), {"calls": (Portion(Decimal(1000)),)})
    check_trial(trial)
    assert said(quote(trial, START)) == [("regions", "2000.00"), ("calls", "1.00")]


def test_a_year_from_the_end_of_february() -> None:
    plan = replace(PLAN, items=(FEE,), bounds=Bounds(), interval=Interval("month", 1))
    assert quote(Trial(plan, {}, number=1), date(2026, 2, 28)).net.minor == 3000


def test_what_cannot_be_priced_is_refused_with_its_place() -> None:
    for trial, path in (
        (Trial(replace(PLAN, items=(replace(FEE, price=Flat(Decimal(-1))),)), {}), "items.0.price.amount"),
        (Trial(PLAN, {"tokens": (Portion(Decimal(1)),)}), "usage.tokens"),
        (Trial(PLAN, {}, number=-1), "number"),
        (Trial(replace(PLAN, currency="ZZZ"), {}), "currency"),
    ):
        with pytest.raises(Refused) as refused:
            check_trial(trial)
        assert [fault.field for fault in refused.value.faults] == [path] and refused.value.remedy


def test_events_are_counted_as_the_database_counts_them() -> None:
    meter = Meter("gpu", "GPU", "job", "seconds", "s", ("region", "spot"))
    each = Meter("pay", "Payments", "charge", "amount", per_event=True)
    found = fold(
        [meter, each],
        [
            ("job", {"seconds": 5, "region": "eu", "spot": True}),
            ("job", {"seconds": Decimal("2.5"), "spot": True, "region": "eu"}),
            ("job", {"seconds": 1, "region": None}),
            ("job", {"seconds": 1, "region": ["eu"], "spot": {"a": 1}}),
            ("job", {"seconds": 1, "region": "x" * (LONGEST_VALUE + 1)}),
            ("job", {"seconds": "1"}),
            ("job", {"seconds": True}),
            ("charge", {"amount": 7}),
            ("charge", {"amount": 7}),
            ("other", {"amount": 7}),
        ],
    )
    assert found["gpu"] == (
        Portion(Decimal("7.5"), 2, (("region", "eu"), ("spot", "true"))),
        Portion(Decimal(3), 3),
    )
    assert found["pay"] == (Portion(Decimal(14), 2, each=Decimal(7)),)


def test_a_matrix_alone_takes_portions() -> None:
    plan = alone(Matrix(("region",), (), Decimal(2)), "EUR")
    trial = Trial(plan, {ALONE: (Portion(Decimal(3), 1, (("region", "eu"),)), Portion(Decimal(4)))})
    check_trial(trial)
    assert str(quote(trial, START).net) == "14.00 EUR"


def test_single_events_say_how_much_each_was() -> None:
    """Fifty payments of 10 together are not fifty of 10 each."""
    plan = alone(Percentage(Decimal(1), fixed_fee=Decimal("0.10")), "EUR")
    for portion in (Portion(Decimal(10), 50), Portion(Decimal(10), 50, each=Decimal(10))):
        with pytest.raises(Refused) as refused:
            check_trial(Trial(plan, {ALONE: (portion,)}))
        assert [fault.field for fault in refused.value.faults] == ["usage.quantity"] and refused.value.remedy
    trial = Trial(plan, {ALONE: (Portion(Decimal(10), 50, each=Decimal("0.2")), Portion(Decimal(10)))})
    check_trial(trial)
    assert str(quote(trial, START).net) == "5.30 EUR"
