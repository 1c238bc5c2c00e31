"""Prices that look at properties and single events: from what was sent to the proved month, and corrected later."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from activities.billing import BillBatch
from models.catalog import Meter
from models.database import transaction
from models.event import Event
from models.intake import receive
from models.subscription import due_roots
from tests.activities.company import Company
from tests.activities.test_closing import TIE_OUTS
from tests.activities.test_spend import lines, replayed, sell
from tests.activities.twice import twice

MATRIX = {
    "kind": "matrix",
    "by": ["region", "size"],
    "cells": [{"values": ["eu", "big"], "rate": "0.02"}, {"values": ["us", "*"], "rate": "0.01"}],
    "default": "0.05",
}
GROUPED = {
    "kind": "grouped",
    "by": "workspace",
    "price": {"kind": "graduated", "tiers": [{"up_to": 10, "rate": "1"}, {"up_to": None, "rate": "0.5"}]},
}
PERCENTAGE = {"kind": "percentage", "percent": "2.9", "fixed_fee": "0.10", "minimum_per_transaction": "0.50"}


def item(meter: str, price: Mapping[str, Any], key: str = "", **more: Any) -> dict[str, Any]:
    return {"key": key or meter, "name": meter, "basis": "meter", "meter": meter, "price": price, **more}


CALLS, STORE, PAID = item("calls", MATRIX), item("store", GROUPED), item("paid", PERCENTAGE)


@pytest.fixture
def metered(company: Company) -> Company:
    """With calls by region and size, storage by workspace, and payments one by one; each of the type of its name."""
    with transaction(company.engine) as session:
        for name, dimensions, per_event in [
            ("calls", ["region", "size"], False),
            ("store", ["workspace"], False),
            ("paid", [], True),
        ]:
            session.add(
                Meter(
                    id=name,
                    name=name,
                    event_type=name,
                    quantity_field="n",
                    unit="",
                    dimensions=dimensions,
                    per_event=per_event,
                )
            )
    company.customer("anna")
    return company


def use(company: Company, meter: str, day: str, *sent: tuple[object, dict[str, object]]) -> None:
    """Events of anna's at noon of a day, each under a name that was not there before."""
    [(before,)] = company.sql("select count(*) from usage_event")
    at = datetime.fromisoformat(f"{day}T12:00:00+00:00")
    with transaction(company.engine) as session:
        received = receive(
            session,
            [Event("s", f"e{before + no}", "anna", meter, at, {"n": n, **data}) for no, (n, data) in enumerate(sent)],
        )
    assert [outcome.kind for outcome in received] == ["accepted"] * len(sent)


EU, US = {"region": "eu", "size": "big"}, {"region": "us", "size": "big"}


def january(company: Company) -> None:
    use(company, "calls", "2026-01-03", (600, EU), (200, US), (10, {"region": "eu"}))
    use(company, "calls", "2026-01-30", (400, EU), (300, {"region": "us"}), (7, {"region": "ap", "size": 3}))
    use(company, "store", "2026-01-10", (9, {"workspace": "a"}), (10, {"workspace": "b"}), (4, {}))
    use(company, "store", "2026-01-11", (6, {"workspace": "a"}))
    use(company, "paid", "2026-01-04", (100, {}), (10, {}), (Decimal("10.00"), {}))
    use(company, "paid", "2026-01-05", (Decimal("12.345"), {}), (1000, {}), (-100, {}))


# eu/big 1,000 at 0.02; us 500 at 0.01; 17 others at 0.05.
CALLS_NET = 2000 + 500 + 85
# a: 10 at 1 and 5 at 0.50; b: 10 at 1; nameless: 4 at 1.
STORE_NET = 1250 + 1000 + 400
# 100: 3.00, 10 twice: 0.39, so 0.50 each; 12.345: 0.458005, so 0.50; 1000: 29.10; 100 taken back: 3.00.
PAID_NET = 300 + 100 + 50 + 2910 - 300


def test_events_with_properties_become_lines_and_a_proved_month(metered: Company) -> None:
    sell(metered, "many", CALLS, STORE, PAID)
    sub = metered.sign("anna", "many")
    metered.live("2026-01-02")
    january(metered)
    metered.live("2026-02-06")
    assert lines(metered, sub) == [
        ("usage", "calls", CALLS_NET),
        ("usage", "store", STORE_NET),
        ("usage", "paid", PAID_NET),
    ]
    assert metered.run().invoices == 0
    replayed(metered, sub)
    use(metered, "paid", "2026-02-02", (20, {}))
    proof = metered.prove("2026-01")
    assert (proof.differences, proof.holding) == ((), len(TIE_OUTS))
    assert -metered.balance("4010") == CALLS_NET + STORE_NET + PAID_NET
    metered.lock("2026-01")
    metered.live("2026-03-06")
    assert lines(metered, sub)[3:] == [("usage", "calls", 0), ("usage", "store", 0), ("usage", "paid", 68)]
    assert metered.prove("2026-02").differences == ()


def test_a_proved_month_sees_usage_of_a_portion_that_was_lost(metered: Company) -> None:
    sell(metered, "many", CALLS, STORE, PAID)
    metered.sign("anna", "many")
    metered.live("2026-01-02")
    january(metered)
    metered.live("2026-02-06")
    assert metered.prove("2026-01").differences == ()
    with metered.tampering() as do:
        do("delete from usage_total where meter_id = 'paid' and each = 10")
    found = metered.differences("2026-01")
    assert found["usage folded"] == [("anna paid", Decimal("1032.345"), Decimal("1012.345"))]


CORRECTIONS: dict[str, tuple[str, list[tuple[object, dict[str, object]]], list[tuple[str, str, int]]]] = {
    "moved to a cheaper region": ("calls", [(5, US), (-5, EU)], [("late_usage", "calls", -5)]),
    "moved to a dearer one": ("calls", [(500, {"region": "ap"}), (-500, US)], [("late_usage", "calls", 2000)]),
    "moved at the same rate": ("calls", [(5, {"region": "us"}), (-5, US)], []),
    "sent and taken back": ("calls", [(5, EU), (-5, EU)], []),
    "moved out of a group's dearer tier": (
        "store",
        [(-4, {}), (4, {"workspace": "a"})],
        [("late_usage", "store", -200)],
    ),
    "split in two": ("paid", [(-20, {}), (10, {}), (10, {})], [("late_usage", "paid", -68 + 50 + 50)]),
    "one payment for its like": ("paid", [(-1000, {}), (1000, {})], []),
    "more": ("calls", [(100, US)], [("late_usage", "calls", 100)]),
    "nothing": ("calls", [(0, EU)], []),
}


@pytest.mark.parametrize("name", CORRECTIONS)
def test_what_is_corrected_after_billing_is_a_late_line(name: str, metered: Company) -> None:
    """Only where the amount or the quantity changes, and once; other prices of the same meter stay as they were."""
    meter, sent, expected = CORRECTIONS[name]
    sell(metered, "many", CALLS, STORE, PAID, item("calls", {"kind": "per_unit", "rate": "0.001"}, "sum"))
    sub = metered.sign("anna", "many")
    metered.live("2026-01-02")
    january(metered)
    metered.live("2026-02-06")
    billed = lines(metered, sub)
    use(metered, meter, "2026-01-20", *sent)
    metered.live("2026-03-02")
    late = [line for line in lines(metered, sub)[len(billed) :] if line[0] != "usage"]
    assert [line for line in late if line[1] != "sum"] == expected
    assert [line for line in late if line[1] == "sum"] == ([("late_usage", "sum", 10)] if name == "more" else [])
    replayed(metered, sub)
    assert metered.prove("2026-01").differences == ()
    metered.live("2026-04-02")
    assert len(lines(metered, sub)) == len(billed) + 4 + len(late) + 4


@pytest.mark.parametrize(
    "price",
    [
        {"kind": "cost_plus", "margin_percent": "10", "fee_per_event": "0.25"},
        {"kind": "formula", "expression": "quantity * 1.1 + events * 0.25"},
    ],
    ids=["cost plus", "formula"],
)
def test_events_that_add_up_to_nothing_cost_their_fees_also_when_they_come_late(
    price: dict[str, str], metered: Company
) -> None:
    sell(metered, "margin", item("calls", price))
    sub = metered.sign("anna", "margin")
    metered.live("2026-01-02")
    use(metered, "calls", "2026-01-10", (40, {}))
    metered.live("2026-02-06")
    use(metered, "calls", "2026-01-11", (5, {}), (-5, {}))
    metered.live("2026-03-02")
    assert lines(metered, sub) == [("usage", "calls", 4425), ("usage", "calls", 0), ("late_usage", "calls", 50)]
    metered.live("2026-04-02")
    assert len(lines(metered, sub)) == 4
    replayed(metered, sub)


def ended(company: Company, *items: Any) -> str:
    """Anna's subscription of these items, which ended on 20 January and is billed."""
    sell(company, "many", *items)
    sub = company.sign("anna", "many")
    company.live("2026-01-02")
    use(company, "calls", "2026-01-10", (100, EU), (100, US))
    company.live("2026-01-15")
    assert company.cancel("can", sub, date(2026, 1, 20)).accepted
    company.live("2026-02-10")
    assert due(company) == []
    return sub


def due(company: Company) -> list[str]:
    with transaction(company.engine) as session:
        return due_roots(session, company.entity, company.now())


AFTER_THE_END: dict[str, tuple[str, str, list[tuple[object, dict[str, object]]], list[tuple[str, str, int]]]] = {
    "more usage": ("calls", "2026-01-19", [(10, EU)], [("late_usage", "calls", 20)]),
    "moved usage": ("calls", "2026-01-05", [(10, EU), (-10, US)], [("late_usage", "calls", 10)]),
    "the first of a price without a line": ("store", "2026-01-05", [(3, {})], [("late_usage", "store", 300)]),
    "what no price asks for": ("paid", "2026-01-05", [(3, {})], []),
    "what changes no amount": ("calls", "2026-01-05", [(7, EU), (-7, EU)], []),
}


@pytest.mark.parametrize("name", AFTER_THE_END)
def test_usage_after_the_end_is_due_once(name: str, metered: Company) -> None:
    meter, day, sent, expected = AFTER_THE_END[name]
    sub = ended(metered, CALLS, {**STORE, "zero_line": False})
    assert lines(metered, sub) == [("usage", "calls", 300)]
    for times in (1, 2):
        use(metered, meter, day, *sent)
        assert due(metered) == ["anna"]
        assert metered.run().invoices == len(expected)
        assert lines(metered, sub)[1:] == expected * times
        assert due(metered) == []
    replayed(metered, sub)
    assert metered.prove("2026-01").differences == ()


def test_usage_of_days_after_the_end_is_not_due(metered: Company) -> None:
    sub = ended(metered, CALLS)
    use(metered, "calls", "2026-01-20", (1000, EU))
    assert due(metered) == []
    assert metered.run().invoices == 0
    assert lines(metered, sub) == [("usage", "calls", 300)]


def test_late_usage_that_waits_for_a_person_is_due_again_afterwards(metered: Company) -> None:
    sub = ended(metered, CALLS)
    metered.sql("delete from tax_rate where country = 'DE'")
    use(metered, "calls", "2026-01-19", (10, EU))
    assert metered.run().parked == 1
    assert due(metered) == []
    metered.sql("insert into tax_rate values ('DE', '2014-01-01', null, 19, 'added')")
    metered.answer_tasks()
    assert due(metered) == ["anna"]
    assert metered.run().invoices == 1
    assert due(metered) == []
    assert lines(metered, sub)[1:] == [("late_usage", "calls", 20)]


def test_who_ended_before_it_was_written_down_what_was_seen_is_looked_at_once(metered: Company) -> None:
    ended(metered, CALLS)
    metered.sql("delete from usage_seen")
    assert due(metered) == ["anna"]
    assert metered.run().invoices == 0
    assert due(metered) == []


def test_two_prices_of_one_meter_are_not_due_for_ever(metered: Company) -> None:
    ended(metered, CALLS, item("calls", {"kind": "per_unit", "rate": "0.001"}, "sum"))


def test_a_batch_with_late_usage_done_again_changes_nothing(metered: Company) -> None:
    ended(metered, CALLS)
    use(metered, "calls", "2026-01-19", (10, EU))
    metered.sql("insert into billing_run values ('run', 'acme', %s, '2026-02-10')", metered.now())
    done = twice(metered, metered.billing.bill_batch, BillBatch("run", 1, ""))
    assert (done.invoices, done.parked) == (1, 0)
