"""What nobody should ask for: each is refused, or does nothing, or is exact; nothing is guessed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from billing.amending import Change, ending_lines, preview
from billing.biller import Facts, Occasion, bill
from billing.errors import Broken, Refused
from billing.ids import derive
from billing.invoice import Invoice
from billing.journal import credits_drawn, invoice_issued
from billing.line import Line
from billing.money import Money, split
from billing.period import Interval, Period, instant, local_day, zone
from billing.plan import PlanItem
from billing.plan_check import Known, MeterShape, check
from billing.portion import Portion
from billing.pricing import Flat, Graduated, PerUnit, Tier
from billing.standing import Lane, PendingLine, Standing, next_bill_at
from billing.taxes import Parties, TaxRate, decide
from billing.terms import Terms, windows
from billing.usage import measure
from tests.billing.bookkeeping import Agreement, Books, plan_of, signed

RATES = [TaxRate("DE", Decimal(19), date(1990, 1, 1))]
FIRST = date(2026, 1, 1)
FEE = PlanItem("fee", "Fee", Flat(Decimal(310)))
CALLS = PlanItem("calls", "Calls", PerUnit(Decimal(1)), "meter", "calls")
PRO = plan_of("EUR", FEE, CALLS)


def midnight(day: date) -> datetime:
    return instant(day, zone("Europe/Berlin"))


def running(**changed: object) -> Standing:
    return replace(signed(Agreement(FIRST, PRO)), **changed)  # type: ignore[arg-type]


def billed_up_to(day: date) -> Books:
    books = Books({"sub_1": running()}, rates=RATES)
    books.bill(midnight(day))
    return books


def change(on: date, seats: str = "1", percent: str = "0", plan: object = PRO) -> Change:
    return Change("am_1", on, plan, Decimal(seats), Decimal(percent))  # type: ignore[arg-type]


def faults(refused: pytest.ExceptionInfo[Refused]) -> list[str]:
    return [fault.field for fault in refused.value.faults]


# Plans and terms.


def test_a_plan_without_items_bills_nothing_and_moves_on() -> None:
    empty = running(history=(Terms(1, FIRST, plan_of("EUR")),))
    done = bill(empty, Facts({}, RATES), Occasion(midnight(date(2026, 3, 1)), date(2026, 3, 1)))
    assert done.invoice is None
    assert done.lanes == (Lane("advance", date(2026, 4, 1)), Lane("arrears", date(2026, 3, 1)))


def test_a_plan_that_cannot_be_billed_is_refused_with_every_fault() -> None:
    tiers = Graduated((Tier(Decimal(10), Decimal(-1)), Tier(Decimal(10), Decimal(1)), Tier(Decimal(9), Decimal(1))))
    bad = plan_of(
        "ZZZ",
        replace(FEE, price=Flat(Decimal(-1))),
        replace(FEE, meter="calls"),
        replace(CALLS, meter=None),
        replace(CALLS, key="other", meter="unknown", price=PerUnit(Decimal("-0.01"))),
        replace(CALLS, key="tiers", price=tiers),
        replace(CALLS, key="none", price=Graduated(())),
        interval=Interval("month", 0),
    )
    with pytest.raises(Refused) as refused:
        check(bad, Known({"calls": MeterShape()}, {}))
    assert faults(refused) == [
        "currency",
        "interval.count",
        "items.0.key",
        "items.0.price.amount",
        "items.1.key",
        "items.1.meter",
        "items.2.meter",
        "items.3.meter",
        "items.3.price.rate",
        "items.4.price.tiers.0.rate",
        "items.4.price.tiers.1.up_to",
        "items.4.price.tiers.2.up_to",
        "items.5.price.tiers",
    ]
    with pytest.raises(Refused):
        check(plan_of("EUR"), Known({}, {}))


@pytest.mark.parametrize("word", ["NaN", "sNaN", "Infinity"])
def test_prices_that_are_no_numbers_are_refused(word: str) -> None:
    wrong = Decimal(word)
    for price in (
        Flat(wrong),
        PerUnit(wrong),
        Graduated((Tier(None, wrong),)),
        Graduated((Tier(None, Decimal(1), wrong),)),
    ):
        with pytest.raises(Refused) as refused:
            check(plan_of("EUR", replace(FEE, price=price)), Known({}, {}))
        assert refused.value.code == "invalid_plan"
    bounds = Graduated((Tier(wrong, Decimal(1)), Tier(None, Decimal(1))))
    with pytest.raises(Refused):
        check(plan_of("EUR", replace(FEE, price=bounds)), Known({}, {}))


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-1", "0.5", "1E-30"])
def test_seats_that_are_no_number_of_seats_are_refused(word: str) -> None:
    with pytest.raises(Refused) as refused:
        preview(running(), change(FIRST, seats=word), midnight(FIRST))
    assert faults(refused) == ["seats"]


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-0.01", "100.01"])
def test_discounts_beyond_all_or_nothing_are_refused(word: str) -> None:
    with pytest.raises(Refused) as refused:
        preview(running(), change(FIRST, percent=word), midnight(FIRST))
    assert faults(refused) == ["discount_percent"]


def test_very_many_seats_are_still_exact() -> None:
    seats = plan_of("EUR", PlanItem("seat", "Seat", PerUnit(Decimal("0.01")), "seats"))
    seen = preview(billed_up_to(FIRST).standing, change(FIRST, seats="1E+15", plan=seats), midnight(FIRST))
    assert seen.recurring_after == Money(10**15, "EUR")


def test_a_change_to_another_currency_or_after_the_end_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        preview(running(), change(FIRST, plan=plan_of("USD", FEE)), midnight(FIRST))
    assert faults(refused) == ["plan"]
    with pytest.raises(Refused) as refused:
        preview(running(ends_on=date(2026, 2, 1)), change(date(2026, 2, 1)), midnight(FIRST))
    assert faults(refused) == ["effective_on"]
    with pytest.raises(Refused) as refused:
        preview(running(state="ended"), change(FIRST), midnight(FIRST))
    assert refused.value.code == "transition_not_possible"


# Previews.


def test_equal_previews_have_equal_hashes_and_others_do_not() -> None:
    standing, now = billed_up_to(FIRST).standing, midnight(date(2026, 1, 11))
    large = plan_of("EUR", replace(FEE, price=Flat(Decimal(620))), CALLS).named("large", 1)
    on = date(2026, 1, 11)
    seen = preview(standing, change(on, plan=large), now)
    assert preview(standing, change(on, seats="1.0", percent="0.00", plan=large), now).preview_hash == seen.preview_hash
    later = preview(standing, change(on, plan=large), now + timedelta(hours=23))
    assert (later.preview_hash, later.valid_until) == (seen.preview_hash, midnight(date(2026, 1, 12)))
    others = [
        preview(standing, change(date(2026, 1, 12), plan=large), now),
        preview(standing, change(on, seats="2", plan=large), now),
        preview(standing, change(on, percent="5", plan=large), now),
        preview(standing, change(on), now),
        preview(replace(standing, subscription_id="sub_2"), change(on, plan=large), now),
        preview(replace(standing, fees=()), change(on, plan=large), now),
    ]
    assert len({seen.preview_hash, *(other.preview_hash for other in others)}) == 7


def test_versions_to_come_are_replaced_with_what_was_billed_for_them() -> None:
    """A price that rises on the 21st is billed in advance; going back to the first price gives the rise back."""
    raised = plan_of("EUR", replace(FEE, price=Flat(Decimal(620))), CALLS).named("raised", 1)
    ramp = running(history=(Terms(1, FIRST, PRO), Terms(2, date(2026, 1, 21), raised)))
    books = Books({"sub_1": ramp}, rates=RATES)
    document = books.bill(midnight(FIRST))
    assert document is not None
    assert [x.net.minor for x in document.lines] == [200_00, 220_00]
    seen = books.amend(midnight(date(2026, 1, 11)), change(date(2026, 1, 11)))
    assert [x.net.minor for x in seen.lines] == [-320_00, 210_00]
    # To the raised price at once: the second stretch costs the same as before, the first does not.
    books = Books({"sub_1": ramp}, rates=RATES)
    books.bill(midnight(FIRST))
    seen = books.amend(midnight(date(2026, 1, 11)), change(date(2026, 1, 11), plan=raised))
    assert [x.net.minor for x in seen.lines] == [-320_00, 420_00]


# Ends.


def test_an_end_before_the_first_day_gives_everything_back() -> None:
    books = billed_up_to(date(2026, 2, 1))
    back = ending_lines(books.standing, date(2025, 12, 1), "can_1")
    assert [(x.net.minor, x.period) for x in back] == [
        (-310_00, Period(FIRST, date(2026, 2, 1))),
        (-310_00, Period(date(2026, 2, 1), date(2026, 3, 1))),
    ]
    assert len({x.key for x in back}) == 2


def test_what_is_given_back_at_the_end_is_due_at_the_end() -> None:
    books = billed_up_to(FIRST)
    books.cancel(midnight(FIRST), FIRST)
    standing = books.standing
    assert {next_bill_at(standing, lane) for lane in standing.lanes} == {midnight(FIRST)}
    done = bill(standing, books.facts(), Occasion(midnight(FIRST), FIRST))
    assert done.invoice is not None
    assert done.invoice.kind == "credit_note"
    assert [next_bill_at(done.standing, lane) for lane in done.lanes] == [None, None]


def test_lanes_are_due_when_their_next_period_is() -> None:
    standing = billed_up_to(FIRST).standing
    due = {lane.name: next_bill_at(standing, lane) for lane in standing.lanes}
    assert due == {"advance": midnight(date(2026, 2, 1)), "arrears": midnight(date(2026, 2, 1))}
    ending = replace(standing, ends_on=date(2026, 1, 20))
    due = {lane.name: next_bill_at(ending, lane) for lane in ending.lanes}
    assert due == {"advance": None, "arrears": midnight(date(2026, 1, 20))}


# Usage.


def test_a_meter_is_never_billed_in_advance() -> None:
    confused = plan_of("EUR", replace(CALLS, in_advance=True))
    books = Books({"sub_1": running(history=(Terms(1, FIRST, confused),))}, rates=RATES)
    books.use("calls", FIRST, Decimal(5))
    assert books.bill(midnight(FIRST)) is None
    document = books.bill(midnight(date(2026, 2, 1)))
    assert document is not None
    assert [(x.kind, x.net.minor) for x in document.lines] == [("usage", 5_00)]


def test_a_meter_priced_twice_is_covered_once() -> None:
    twice = plan_of("EUR", CALLS, replace(CALLS, key="surcharge", price=PerUnit(Decimal("0.1"))))
    books = Books({"sub_1": running(history=(Terms(1, FIRST, twice),))}, rates=RATES)
    books.use("calls", FIRST, Decimal(50))
    document = books.bill(midnight(date(2026, 2, 1)))  # proves the coverage
    assert document is not None
    assert document.net == Money(55_00, "EUR")
    books.use("calls", FIRST, Decimal(-10))
    document = books.bill(midnight(date(2026, 3, 1)))
    assert document is not None
    assert document.net == Money(-11_00, "EUR")


def test_a_period_that_was_skipped_leaves_a_difference() -> None:
    books = billed_up_to(FIRST)
    books.use("calls", FIRST, Decimal(50))
    books.standing = replace(books.standing, lanes=(Lane("advance", FIRST), Lane("arrears", date(2026, 2, 1))))
    with pytest.raises(AssertionError, match="usage is billed"):
        books.prove()


def test_another_subscription_without_the_meter_does_not_count_its_usage_again() -> None:
    fee_only = replace(signed(Agreement(FIRST, plan_of("EUR", FEE)), "sub_2"))
    books = Books({"sub_1": running(), "sub_2": fee_only}, rates=RATES)
    books.use("calls", FIRST, Decimal(50))
    books.use("nobody's", FIRST, Decimal(50))
    books.bill(midnight(date(2026, 2, 1)))
    books.current = "sub_2"
    books.bill(midnight(date(2026, 2, 1)))


def test_an_item_that_changes_its_meter_is_covered() -> None:
    other = plan_of("EUR", FEE, replace(CALLS, meter="minutes")).named("other", 1)
    books = billed_up_to(FIRST)
    for meter in ("calls", "minutes"):
        books.use(meter, date(2026, 1, 5), Decimal(7))
        books.use(meter, date(2026, 1, 25), Decimal(9))
    books.amend(midnight(date(2026, 1, 11)), change(date(2026, 1, 11), plan=other))
    document = books.bill(midnight(date(2026, 2, 1)))
    assert document is not None
    assert [x.net.minor for x in document.lines if x.kind == "usage"] == [7_00, 9_00]
    books.use("calls", date(2026, 1, 5), Decimal(1))
    books.use("minutes", date(2026, 1, 5), Decimal(1))
    document = books.bill(midnight(date(2026, 3, 1)))
    assert document is not None
    assert [x.net.minor for x in document.lines if x.kind == "late_usage"] == [1_00]


def test_measuring_asks_for_one_meter_and_its_days() -> None:
    used = {("calls", FIRST): 1, ("calls", date(2026, 2, 1)): 2, ("other", FIRST): 4}
    totals = {key: (Portion(Decimal(quantity)),) for key, quantity in used.items()}
    assert measure(totals, "calls", Period(FIRST, date(2026, 2, 1))).quantity == 1
    assert measure(totals, "calls", Period(FIRST, FIRST)).quantity == 0


# Documents and entries.


def test_a_document_over_nothing_posts_nothing() -> None:
    free = running(history=(Terms(1, FIRST, PRO, discount_percent=Decimal(100)),))
    document = bill(free, Facts({}, RATES), Occasion(midnight(FIRST), FIRST)).invoice
    assert document is not None
    assert (document.kind, document.total.minor) == ("invoice", 0)
    assert invoice_issued(document, ["il_1"], [None]).postings == ()
    assert credits_drawn(document) is None


def test_pending_lines_are_billed_before_anything_else_is_due() -> None:
    line: Line = replace(_fee_line(), key="mirror/fee/am_1")
    early = running(anchor=date(2030, 1, 1), lanes=(), pending=(PendingLine("pnd_1", line),))
    done = bill(early, Facts({}, RATES), Occasion(midnight(FIRST), FIRST))
    assert done.invoice is not None
    assert (done.claimed, done.invoice.lines) == (("pnd_1",), (line,))
    assert done.standing.pending == ()


def test_the_tax_treatments_of_other_borders() -> None:
    on = date(2026, 1, 1)
    assert decide(Parties("CH", "CH", False), [TaxRate("CH", Decimal("8.1"), FIRST)], on).percent == Decimal("8.1")
    assert decide(Parties("US", "US", False), [], on).category == "O"
    assert decide(Parties("CH", "DE", True), RATES, on).category == "O"
    with pytest.raises(Refused) as refused:
        decide(Parties("DE", "FR", False), RATES, on)
    assert "FR" in refused.value.reason
    expired = [TaxRate("DE", Decimal(16), date(2020, 7, 1), date(2021, 1, 1))]
    assert decide(Parties("DE", "DE", False), expired, date(2020, 12, 31)).percent == 16
    with pytest.raises(Refused):
        decide(Parties("DE", "DE", False), expired, date(2021, 1, 1))


def test_an_invoice_and_its_ids_stand_beside_each_other() -> None:
    document = bill(running(), Facts({}, RATES), Occasion(midnight(FIRST), FIRST)).invoice
    assert document is not None
    with pytest.raises(ValueError, match="zip"):
        invoice_issued(document, ["il_1", "il_2"], [None])


def test_a_recognition_has_the_key_of_what_it_posts() -> None:
    books = billed_up_to(FIRST)
    first = books.recognise(date(2026, 1, 31))
    books.use("calls", FIRST, Decimal(5))
    second = books.recognise(date(2026, 1, 31))
    assert first is not None
    assert second is not None
    assert first.entry_id != second.entry_id


# Money, periods and ids.


def test_money_of_two_currencies_does_not_mix() -> None:
    for mixed in (
        lambda: Money(1, "EUR") + Money(1, "USD"),
        lambda: Money(1, "EUR") - Money(1, "USD"),
        lambda: min(Money(1, "EUR"), Money(1, "USD")),
        lambda: Money(1, "EUR") >= Money(1, "USD"),
    ):
        with pytest.raises(Broken):
            mixed()
    assert Money(1, "EUR") != Money(1, "USD")


def test_money_is_never_rounded_on_the_way_in() -> None:
    assert Money.of("1.10", "EUR") == Money(110, "EUR")
    assert Money.of("1.000", "JPY") == Money(1, "JPY")
    for major, currency in (("1.001", "EUR"), ("0.1", "JPY"), ("0.0001", "KWD"), ("1", "ZZZ")):
        with pytest.raises(Refused):
            Money.of(major, currency)


def test_nothing_is_split_over_nobody_or_debts() -> None:
    for weights in ([], [1, -1]):
        with pytest.raises(Broken):
            split(Money(1, "EUR"), weights)


def test_days_without_a_zone_are_refused() -> None:
    with pytest.raises(Broken):
        local_day(datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None), zone("Europe/Berlin"))
    for name in ("Mars/Phobos", "../../etc/passwd", ""):
        with pytest.raises(Refused):
            zone(name)
    with pytest.raises(Broken):
        Period(date(2026, 1, 2), date(2026, 1, 1))
    with pytest.raises(Broken):
        windows([], Period(FIRST, FIRST))


def test_ids_follow_from_their_cause_alone() -> None:
    assert derive("inv", "a", "b") == derive("inv", "a", "b")
    assert derive("inv", "sub", date(2026, 1, 1)) == derive("inv", "sub", "2026-01-01")
    assert (
        len({derive("inv", "ab"), derive("inv", "a", "b"), derive("inv", "b", "a"), derive("inv", "a", "b", "")}) == 4
    )


def _fee_line() -> Line:
    document: Invoice | None = bill(running(), Facts({}, RATES), Occasion(midnight(FIRST), FIRST)).invoice
    assert document is not None
    return document.lines[0]
