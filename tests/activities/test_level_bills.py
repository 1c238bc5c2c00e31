"""Levels from what was sent to the proved month: months without events, late changes, ends, and months taken away."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from activities.billing import BillBatch, OpenRun
from billing.catalog import Meter
from billing.line import Because
from billing.period import Period, zone
from billing.usage import measure
from models import unbilled
from models.catalog import put_meter
from models.correction import Correction, correct
from models.database import transaction
from models.event import Event, make_months
from models.intake import receive
from models.recount import Recounted, recount
from models.subscription import due_roots
from models.usage import level_before, totals_of
from models.values import read
from tests.activities.company import Company
from tests.activities.test_closing import TIE_OUTS
from tests.activities.test_portions import item
from tests.activities.test_spend import FEE, replayed, sell
from tests.activities.test_usage_proof import proofs, said
from tests.activities.twice import twice

METERS = {
    "gb": Meter("gb", "Storage", "disk", "n", aggregation="weighted_sum", time_unit="hour"),
    "seats": Meter("seats", "Seats", "seat", "who", aggregation="unique", operation_field="what", carries_over=True),
    "stock": Meter("stock", "Stock", "box", "n", carries_over=True, dimensions=("region",)),
    "size": Meter("size", "Size", "file", "n", aggregation="latest", carries_over=True),
    "mix": Meter("mix", "Mix", "llm2", expression="(input + 4 * output) / 3"),
}
REMOVED = {"who": "ben", "what": "remove"}
PRICES = {name: item(name, {"kind": "per_unit", "rate": "1"}) for name in METERS}


@pytest.fixture
def levels(company: Company) -> Company:
    with transaction(company.engine) as session:
        for one in METERS.values():
            put_meter(session, one)
    company.customer("anna")
    return company


def send(company: Company, meter: str, *sent: tuple[str, Any]) -> list[str]:
    """Events of anna's, each with its moment on the clock of Berlin in winter; a number is the meter's field."""
    [(before,)] = company.sql("select count(*) from usage_event")
    made = METERS[meter]
    events = [
        Event(
            "s",
            f"e{before + no}",
            "anna",
            made.event_type,
            datetime.fromisoformat(f"{at}+01:00"),
            data if isinstance(data, dict) else {made.quantity_field: data},
        )
        for no, (at, data) in enumerate(sent)
    ]
    with transaction(company.engine) as session:
        assert {outcome.kind for outcome in receive(session, events)} == {"accepted"}
    return [event.id for event in events]


def billed(company: Company, meter: str) -> list[tuple[str, str, Decimal]]:
    """Kind, first day and quantity of the lines of a meter, in the order in which they were issued."""
    return company.sql(
        "select l.kind, l.period_start::text, l.quantity from invoice_line l join invoice_number n"
        " on n.invoice_id = l.invoice_id where l.meter_id = %s order by n.number, l.no",
        meter,
    )


def notes(company: Company) -> list[str]:
    rows = company.sql("select because from invoice_line order by period_start, kind desc")
    return [read(Because, why).note for (why,) in rows]


def proved(company: Company, month: str) -> None:
    proof = company.prove(month)
    assert (proof.differences, proof.holding) == ((), len(TIE_OUTS))


def test_a_level_goes_on_into_months_without_events(levels: Company) -> None:
    """10 GB from before the subscription, 4 more from a noon on: January has 744 hours, February 672."""
    sell(levels, "many", *PRICES.values())
    sub = levels.sign("anna", "many")
    send(levels, "gb", ("2025-12-24T18:00", 10), ("2026-01-31T12:00", 4))
    add, remove = {"who": "ben", "what": "add"}, {"who": "ben", "what": "remove"}
    send(levels, "seats", ("2025-12-24T18:00", {"who": "eva", "what": "add"}), ("2026-01-05T08:00", add))
    send(levels, "stock", ("2026-01-05T08:00", {"n": 7, "region": "eu"}), ("2026-01-06T08:00", {"n": 5}))
    send(levels, "size", ("2026-01-05T08:00", 7), ("2026-01-06T08:00", 3))
    send(levels, "mix", ("2026-01-05T08:00", {"input": 1, "output": 0}), ("2026-01-05T08:00", {"input": 1}))
    levels.live("2026-02-06")
    proved(levels, "2026-01")
    levels.lock("2026-01")
    levels.live("2026-03-06")
    assert {meter: [(first, q) for _, first, q in billed(levels, meter)] for meter in METERS} == {
        "gb": [("2026-01-01", 7440 + 48), ("2026-02-01", 14 * 672)],
        "seats": [("2026-01-01", 2), ("2026-02-01", 2)],
        "stock": [("2026-01-01", 12), ("2026-02-01", 12)],
        "size": [("2026-01-01", 3), ("2026-02-01", 3)],
        "mix": [("2026-01-01", Decimal("0.333333333333333")), ("2026-02-01", 0)],
    }
    assert notes(levels)[0] == (
        "level 10 at the start, changed by 4 in 1 event, 14 at the end; times the hours that it stood"
    )
    proved(levels, "2026-02")
    levels.lock("2026-02")
    replayed(levels, sub)
    send(levels, "seats", ("2026-01-20T08:00", remove))
    send(levels, "gb", ("2026-01-31T18:00", -4), ("2026-02-01T00:00", 4))
    levels.live("2026-04-06")
    assert [one for one in billed(levels, "seats") if one[0] == "late_usage"] == [
        ("late_usage", "2026-01-01", -1),
        ("late_usage", "2026-02-01", -1),
    ]
    assert [one for one in billed(levels, "gb") if one[0] == "late_usage"] == [("late_usage", "2026-01-01", -24)]
    assert levels.run().invoices == 0
    proved(levels, "2026-03")
    replayed(levels, sub)


def test_what_made_a_level_before_its_window_is_signed_too(levels: Company) -> None:
    sell(levels, "one", PRICES["gb"])
    levels.sign("anna", "one")
    before, _ = send(levels, "gb", ("2025-12-24T18:00", 10), ("2026-01-31T12:00", 4))
    levels.live("2026-02-06")
    [one] = proofs(levels)
    assert said(one) == ("holds", 2, 2, {})
    assert (one.signed.with_earlier, one.signed.first_day) == (True, date(2026, 1, 1))
    send(levels, "gb", ("2025-12-25T18:00", 1))
    levels.live("2026-03-06")
    january, late, february = proofs(levels)
    assert said(january) == ("holds", 2, 3, {"came": 1})
    assert said(late) == said(february) == ("holds", 3, 3, {})
    with levels.tampering() as do:
        do("delete from usage_event where id = %s", before)
    assert [said(one)[:2] for one in proofs(levels)] == [("broken", 1), ("broken", 2), ("broken", 2)]


def test_a_level_of_which_a_month_was_taken_away_cannot_be_proved(levels: Company) -> None:
    """Unless that month had nothing of it: then what is done behind the back is found as ever."""
    sell(levels, "both", PRICES["gb"], PRICES["seats"])
    levels.sign("anna", "both")
    add = {"who": "eva", "what": "add"}
    send(levels, "seats", ("2025-12-05T08:00", add))
    [wrong] = send(levels, "gb", ("2026-01-05T08:00", 10))
    levels.live("2026-02-06")
    levels.sql("select make_usage_month('2025-12-01')")
    levels.sql("select take_usage_month('2025-12-01')")
    told = {one.signed.meter: (one.verdict, one.missing) for one in proofs(levels)}
    assert told == {"gb": ("holds", ()), "seats": ("taken_away", (date(2025, 12, 1),))}
    with levels.tampering() as do:
        do("delete from usage_event where id = %s", wrong)
    assert {one.signed.meter: one.verdict for one in proofs(levels)} == {"gb": "broken", "seats": "taken_away"}


@pytest.mark.parametrize(
    ("meter", "level", "january", "ended"),
    [("stock", 62, 3000, 12400), ("size", 62, 3000, 12400), ("gb", 1, 36000, 96000)],
)
def test_what_a_level_costs_is_earned_by_the_day(
    levels: Company, meter: str, level: int, january: int, ended: int
) -> None:
    """A level from before; of the period from 17 January on, 15 of 31 days are in January, and the next has 9 days."""
    sell(levels, "one", PRICES[meter])
    sub = levels.sign("anna", "one", starts_on=date(2026, 1, 17))
    send(levels, meter, ("2025-12-05T08:00", level))
    levels.live("2026-02-06")
    proved(levels, "2026-01")
    assert -levels.balance("4010") == january
    levels.lock("2026-01")
    levels.cancel("can", sub, date(2026, 2, 26))
    levels.live("2026-03-06")
    proved(levels, "2026-02")
    assert -levels.balance("4010") == ended


def test_levels_without_a_price_are_told_with_their_time(levels: Company) -> None:
    """Anna's plan has no price for storage before 16 January; her boxes have none at all, and Bert has no plan."""
    sell(levels, "fee", FEE)
    sell(levels, "gb", PRICES["gb"])
    sub = levels.sign("anna", "fee")
    send(levels, "gb", ("2025-12-24T18:00", 10), ("2026-01-11T00:00", 2))
    send(levels, "stock", ("2025-12-05T08:00", {"n": 7, "region": "eu"}), ("2026-01-06T08:00", {"n": -3}))
    levels.customer("bert")
    levels.live("2026-01-15")
    levels.amend("up", sub, date(2026, 1, 16), "gb")
    levels.live("2026-02-06")
    with transaction(levels.engine) as session:
        found = unbilled.without_price(session, Period(date(2026, 1, 1), date(2026, 2, 1)), "", 10).found
        later = unbilled.without_price(session, Period(date(2026, 2, 1), date(2026, 2, 3)), "", 10).found
    gb, stock = (one.usage for one in found)
    assert (gb.meter, gb.quantity, gb.events, gb.days) == ("gb", 24 * (10 * 10 + 5 * 12), 1, 15)
    assert (stock.meter, stock.quantity, stock.events, stock.days) == ("stock", 4, 1, 31)
    assert (gb.last_day, gb.why, stock.why) == (date(2026, 1, 15), "not_in_plan", "not_in_plan")
    assert [worth.amount.minor for worth in found[0].estimates] == [gb.quantity * 100]
    assert [(one.usage.meter, one.usage.quantity, one.usage.events) for one in later] == [("stock", 4, 0)]


def test_a_billed_level_that_is_wrong_is_seen_though_nothing_happened_in_its_month(levels: Company) -> None:
    sell(levels, "gb", PRICES["gb"])
    levels.sign("anna", "gb")
    send(levels, "gb", ("2025-12-24T18:00", 10))
    levels.live("2026-02-06")
    proved(levels, "2026-01")
    with levels.tampering() as do:
        do("delete from invoice_line where meter_id = 'gb'")
    assert levels.differences("2026-01")["usage billed"] == [("anna gb", 1, 0)]
    with levels.tampering() as do:
        do("update usage_total set quantity = 11 where meter_id = 'gb'")
    found = levels.differences("2026-01")
    assert found["usage folded"] == [("anna gb", 10, 11)]


@pytest.mark.parametrize("zero_line", [True, False])
def test_an_ended_subscription_hears_of_a_level_of_before_it_began(levels: Company, *, zero_line: bool) -> None:
    sell(levels, "gb", {**PRICES["gb"], "zero_line": zero_line})
    sub = levels.sign("anna", "gb")
    levels.cancel("can", sub, date(2026, 2, 11))
    levels.live("2026-03-02")
    assert [q for _, _, q in billed(levels, "gb")] == ([0, 0] if zero_line else [])
    assert due(levels) == []
    send(levels, "gb", ("2025-12-31T00:00", 1))
    assert due(levels) == ["anna"]
    assert levels.run().invoices == 1
    late = [one for one in billed(levels, "gb") if one[0] == "late_usage"]
    assert late == [("late_usage", "2026-01-01", 744), ("late_usage", "2026-02-01", 240)]
    assert due(levels) == []
    send(levels, "gb", ("2026-02-11T00:00", 100))
    assert due(levels) == []


def due(company: Company) -> Sequence[str]:
    with transaction(company.engine) as session:
        return due_roots(session, company.entity, company.now())


def test_a_void_change_of_a_level_changes_all_after_it(levels: Company) -> None:
    sell(levels, "gb", PRICES["gb"])
    levels.sign("anna", "gb")
    [wrong, _] = send(levels, "gb", ("2026-01-01T00:00", 3), ("2026-01-02T00:00", 1))
    levels.live("2026-03-02")
    with transaction(levels.engine) as session:
        correct(session, [Correction("s", wrong, "sent in error")], "key")
    levels.live("2026-04-02")
    late = [one for one in billed(levels, "gb") if one[0] == "late_usage"]
    assert late == [("late_usage", "2026-01-01", -3 * 744), ("late_usage", "2026-02-01", -3 * 672)]
    proved(levels, "2026-01")


def test_a_batch_with_levels_billed_twice_is_billed_once(levels: Company) -> None:
    sell(levels, "gb", PRICES["gb"])
    levels.sign("anna", "gb")
    send(levels, "gb", ("2026-01-01T00:00", 3))
    levels.live("2026-01-31")
    levels.set_clock(datetime(2026, 2, 1, 6, tzinfo=UTC))
    run = levels.billing.open_run(OpenRun(levels.entity))
    done = twice(levels, levels.billing.bill_batch, BillBatch(run.run_id, run.first_no, "", ""))
    assert done.invoices == 1


def test_a_price_that_changes_cuts_the_level_exactly(levels: Company) -> None:
    """Microseconds of an hour have no end in decimals; each day is rounded, and the two parts are the whole."""
    sell(levels, "gb", PRICES["gb"])
    sell(levels, "dear", {**PRICES["gb"], "price": {"kind": "per_unit", "rate": "2"}})
    sub = levels.sign("anna", "gb")
    send(levels, "gb", ("2026-01-01T00:00:00.000007", 3), ("2026-03-16T07:11:13.000017", Decimal("0.7")))
    levels.live("2026-03-15")
    levels.amend("up", sub, date(2026, 3, 16), "dear")
    levels.live("2026-04-02")
    [_, _, (_, _, first), (_, since, second)] = billed(levels, "gb")
    with transaction(levels.engine) as session:
        totals = totals_of(session, ["anna"])["anna"]
    assert since == "2026-03-16"
    assert first == 3 * 15 * 24
    assert first + second == measure(totals, "gb", Period(date(2026, 3, 1), date(2026, 4, 1))).quantity
    proved(levels, "2026-01")


def test_totals_are_read_from_a_day_on_with_what_was_before(levels: Company) -> None:
    for name in ("gb", "stock", "size"):
        send(levels, name, *((f"2026-01-0{day}T08:00", day) for day in range(1, 8)))
    people = [(f"2026-01-0{day}T08:00", {"who": who, "what": what}) for day, who, what in HISTORY]
    send(levels, "seats", *people)
    with transaction(levels.engine) as session:
        whole = totals_of(session, ["anna"])["anna"]
        for first in range(1, 9):
            day = date(2026, 1, first)
            part = totals_of(session, ["anna"], day)["anna"]
            for name in ("gb", "stock", "size", "seats"):
                for period in (Period(day, date(2026, 2, 1)), Period(day, day + timedelta(days=1))):
                    assert measure(part, name, period) == measure(whole, name, period), (name, period)
            assert all(other >= day for (name, other) in part if name == "mix")
            until = totals_of(session, ["anna"], None, day)["anna"]
            assert not [other for _, other in until if other >= day]


HISTORY = [(1, "a", "add"), (2, "b", "add"), (3, "a", "remove"), (4, "a", "remove"), (5, "c", "add"), (6, "a", "add")]


def test_a_month_taken_away_keeps_the_level(levels: Company) -> None:
    with transaction(levels.engine) as session:
        for month in (1, 2):
            make_months(session, date(2026, month, 1), 1)
    sell(levels, "many", *PRICES.values())
    levels.sign("anna", "many")
    send(levels, "gb", ("2026-01-05T08:00", 10), ("2026-01-06T08:00", -3))
    send(levels, "seats", ("2026-01-05T08:00", {"who": "ben", "what": "add"}))
    send(levels, "mix", ("2026-01-05T08:00", {"input": 2, "output": 1}))
    levels.live("2026-02-06")
    assert levels.sql("select take_usage_month('2026-01-01')") == [(True,)]
    proved(levels, "2026-01")
    levels.lock("2026-01")
    levels.live("2026-03-06")
    assert [q for _, first, q in billed(levels, "gb") if first == "2026-02-01"] == [7 * 672]
    assert [q for _, first, q in billed(levels, "seats") if first == "2026-02-01"] == [1]
    proved(levels, "2026-02")


def test_a_level_made_after_its_events_counts_them_anew(levels: Company) -> None:
    other = Meter("late", "Late", "disk", "n", aggregation="weighted_sum", time_unit="day")
    send(levels, "gb", ("2026-01-05T12:00", 10), ("2026-01-06T12:00", -3))
    between = (date(2026, 1, 1), date(2026, 2, 1))
    with transaction(levels.engine) as session:
        put_meter(session, other)
    with transaction(levels.engine) as session:
        found = recount(session, other, "anna", zone("Europe/Berlin"), between, store=True)
        again = recount(session, other, "anna", zone("Europe/Berlin"), between, store=True)
    assert found == [Recounted(date(2026, 1, 5), 0, 10), Recounted(date(2026, 1, 6), 0, -3)]
    assert again == []
    levels.sql("update usage_total set weighted = weighted + 1 where meter_id = 'late' and day = '2026-01-06'")
    with transaction(levels.engine) as session:
        moved = recount(session, other, "anna", zone("Europe/Berlin"), between, store=False)
        assert [change.day for change in moved] == [date(2026, 1, 6)]
        recount(session, other, "anna", zone("Europe/Berlin"), between, store=True)
        quantity = measure(totals_of(session, ["anna"])["anna"], "late", Period(*between)).quantity
        assert quantity == 5 + Decimal("8.5") + 7 * 25
        assert [p.quantity for p in level_before(session, "anna", other, between[1])] == [7]


def test_operations_count_by_their_time_whenever_they_come(levels: Company) -> None:
    def inside() -> Decimal:
        with transaction(levels.engine) as session:
            return measure(totals_of(session, ["anna"])["anna"], "seats", Period(day, date(2026, 2, 1))).quantity

    day, found = date(2026, 1, 5), []
    for at, what in (("08:00", "add"), ("07:59", "remove"), ("08:01", "remove"), ("08:00", "add"), ("08:01", "add")):
        send(levels, "seats", (f"{day}T{at}", {"who": "ben", "what": what}))
        found.append(inside())
    assert found == [1, 1, 0, 0, 1]


@pytest.mark.parametrize("zero_line", [True, False])
@pytest.mark.parametrize(
    ("meter", "sent"),
    [
        ("seats", [("2026-01-05T08:00", {"who": "ben", "what": "add"}), ("2026-01-20T08:00", REMOVED)]),
        ("stock", [("2026-01-05T08:00", 5), ("2026-01-20T08:00", -5)]),
        ("size", [("2026-01-05T08:00", 5), ("2026-01-20T08:00", 0)]),
        ("gb", [("2026-01-05T08:00", 0)]),
        ("top", [("2026-01-05T08:00", 0)]),
    ],
)
def test_late_events_that_come_to_nothing_need_no_line(
    levels: Company, meter: str, sent: list[tuple[str, Any]], zero_line: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """January is billed without any, and without a line if none is shown for nothing; it can be closed all the same."""
    monkeypatch.setitem(METERS, "top", Meter("top", "Top", "peak", "n", aggregation="max"))
    with transaction(levels.engine) as session:
        put_meter(session, METERS["top"])
    sell(levels, "only", {**item(meter, {"kind": "per_unit", "rate": "1"}), "zero_line": zero_line})
    levels.sign("anna", "only")
    levels.live("2026-02-02")
    send(levels, meter, *sent)
    levels.live("2026-02-06")
    assert levels.prove("2026-01").differences == ()
