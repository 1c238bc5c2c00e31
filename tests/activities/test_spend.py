"""Plans that ask something of all their lines, through the database: bounds, amounts off, one-time fees, peak seats."""

from __future__ import annotations

from datetime import date
from typing import Any

from billing.plan import Plan
from billing.replay import replay, replay_discounts
from models import invoice
from models.catalog import publish
from models.database import transaction
from models.standing import standing
from models.values import read
from tests.activities.company import Company

TOKENS = {
    "key": "tokens",
    "name": "Tokens",
    "basis": "meter",
    "meter": "tokens",
    "price": {"kind": "per_unit", "rate": "0.01"},
}
FEE = {"key": "fee", "name": "Fee", "price": {"kind": "flat", "amount": "20"}}
SETUP = {"key": "setup", "name": "Set-up", "price": {"kind": "one_time", "amount": "99"}}


def sell(company: Company, name: str, *items: Any, **plan: Any) -> None:
    content = {"plan_id": name, "version": 1, "name": name, "currency": "EUR", "items": items, **plan}
    with transaction(company.engine) as session:
        publish(session, read(Plan, content), company.now())


def lines(company: Company, subscription_id: str) -> list[tuple[str, str, int]]:
    """Kind, item and net of every line, in the order in which they were issued."""
    return company.sql(
        "select l.kind, l.item, l.net_minor from invoice_line l join invoice_number n on n.invoice_id = l.invoice_id"
        " where l.subscription_id = %s order by n.number, l.no",
        subscription_id,
    )


def replayed(company: Company, subscription_id: str) -> None:
    """Every line of the subscription comes out again from what is stored."""
    issued = company.sql("select id from invoice where subscription_id = %s order by issued_at", subscription_id)
    with transaction(company.engine) as session:
        one = standing(session, subscription_id)
        assert one is not None
        for (invoice_id,) in issued:
            values = [row.value for row in invoice.lines(session, invoice_id)]
            assert [(line.description, replay(line, one)) for line in values if replay(line, one)] == []
            assert not replay_discounts(values, one)


def test_a_plans_minimum_is_trued_up_and_corrected_by_late_usage(company: Company) -> None:
    sell(company, "floor", FEE, TOKENS, bounds={"minimum": "50"})
    company.customer("anna")
    sub = company.sign("anna", "floor")
    company.use("anna", "2026-01-10", 1000)
    company.live("2026-02-01")
    assert lines(company, sub) == [
        ("recurring", "fee", 2000),
        ("recurring", "fee", 2000),
        ("usage", "tokens", 1000),
        ("true_up", "plan:minimum", 2000),
    ]
    company.use("anna", "2026-01-20", 500)
    company.live("2026-03-01")
    assert lines(company, sub)[4:] == [
        ("recurring", "fee", 2000),
        ("usage", "tokens", 0),
        ("true_up", "plan:minimum", 3000),
        ("late_usage", "tokens", 500),
        ("true_up", "plan:minimum", -500),
    ]
    company.use("anna", "2026-01-21", 4000)
    company.live("2026-04-01")
    assert ("late_usage", "tokens", 4000) in lines(company, sub)
    assert lines(company, sub)[-1] == ("true_up", "plan:minimum", -1500)
    replayed(company, sub)
    company.prove("2026-01")
    assert company.differences("2026-01") == {}


def test_a_commitment_with_overage_and_a_one_time_fee_are_earned_and_proved(company: Company) -> None:
    sell(
        company,
        "committed",
        SETUP,
        {**TOKENS, "bounds": {"minimum": "5"}},
        bounds={"commitment": {"amount": "30", "overage_factor": "1.5"}},
        discounts=[{"kind": "amount", "value": "4", "periods": 1, "name": "Welcome"}],
    )
    company.customer("bert")
    sub = company.sign("bert", "committed")
    company.use("bert", "2026-01-10", 4000)
    company.live("2026-02-01")
    company.live("2026-03-01")
    assert lines(company, sub) == [
        ("one_time", "setup", 9500),
        ("usage", "tokens", 4000),
        ("true_up", "plan:overage", 500),
        ("usage", "tokens", 500),
        ("true_up", "plan:commitment", 2500),
    ]
    replayed(company, sub)
    company.prove("2026-01")
    assert company.differences("2026-01") == {}
    assert -company.balance("4020") == 9500


def test_peak_seats_are_counted_over_amendments_in_arrears(company: Company) -> None:
    seats = {
        "key": "seats",
        "name": "Seats",
        "basis": "seats",
        "seats": "peak",
        "in_advance": False,
        "price": {"kind": "per_unit", "rate": "10"},
    }
    sell(company, "peak", seats)
    company.customer("cleo")
    sub = company.sign("cleo", "peak")
    company.live("2026-01-05")
    assert company.amend("up", sub, date(2026, 1, 5), "peak", 7).accepted
    company.live("2026-01-20")
    assert company.amend("down", sub, date(2026, 1, 20), "peak", 2).accepted
    company.live("2026-03-01")
    assert lines(company, sub) == [("recurring", "seats", 7000), ("recurring", "seats", 2000)]
    replayed(company, sub)
    company.prove("2026-01")
    assert company.differences("2026-01") == {}


def test_no_line_without_usage_and_what_comes_late_is_billed_all_the_same(company: Company) -> None:
    sell(company, "quiet", FEE, {**TOKENS, "zero_line": False})
    company.customer("dora")
    sub = company.sign("dora", "quiet")
    company.live("2026-02-01")
    assert [kind for kind, *_ in lines(company, sub)] == ["recurring", "recurring"]
    company.use("dora", "2026-01-15", 300)
    company.live("2026-03-01")
    assert lines(company, sub)[2:] == [("recurring", "fee", 2000), ("late_usage", "tokens", 300)]
    company.live("2026-04-01")
    assert lines(company, sub)[4:] == [("recurring", "fee", 2000)]
    replayed(company, sub)
    company.prove("2026-01")
    assert company.differences("2026-01") == {}


def test_a_stored_line_that_was_tampered_with_names_its_first_difference(company: Company) -> None:
    company.customer("emil")
    sub = company.sign("emil")
    company.use("emil", "2026-01-10", 1000)
    company.live("2026-02-01")
    with company.tampering() as do:
        do(
            "update invoice_line set because = jsonb_set(because, '{steps,0,unit_price}', '\"0.02\"')"
            " where item = 'tokens'"
        )
    with transaction(company.engine) as session:
        one = standing(session, sub)
        assert one is not None
        [(invoice_id,)] = company.sql("select invoice_id from invoice_line where item = 'tokens'")
        found = [replay(row.value, one) for row in invoice.lines(session, invoice_id) if row.item == "tokens"]
    [difference] = found
    assert difference is not None
    assert (difference.where, "0.02" in difference.stored, "0.01" in difference.replayed) == ("step 1", True, True)


def test_a_formula_may_name_its_own_meter_too(company: Company) -> None:
    """It is measured, and signed for, once."""
    more = {"kind": "formula", "expression": "quantity * 0.01 + max(0, all - 100) * 0.001"}
    more["quantities"] = [{"name": "all", "meter": "tokens"}]  # type: ignore[assignment]
    item = {"key": "tokens", "name": "Tokens", "basis": "meter", "meter": "tokens", "price": more}
    sell(company, "odd", item)
    company.customer("anna")
    company.sign("anna", "odd")
    company.use("anna", "2026-01-10", 1000)
    company.live("2026-02-02")
    assert lines(company, "sub-anna") == [("usage", "tokens", 1090)]
    assert company.sql("select count(*) from usage_proof") == [(1,)]
