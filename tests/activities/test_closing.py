"""A month is proved by figures arrived at in two ways: they hold in an honest one, and find each its fault."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from tests.activities.company import Company

TIE_OUTS = {
    "receivables",
    "payments",
    "bank transfers",
    "prepaid credits",
    "tax",
    "promises",
    "late usage held",
    "trial balance",
    "kept totals",
    "deferred revenue",
    "revenue",
    "fees billed",
    "usage folded",
    "usage billed",
}

INVOICE = "select id from invoice where customer_id = %s order by issued_on limit 1"


def two_months(company: Company) -> Company:
    """Prepaid credit, an upgrade in the middle of a month, a buyer abroad, one who does not pay, and an end."""
    for name, country in [("anna", "DE"), ("bert", "FR"), ("carl", "DE"), ("dora", "AT")]:
        company.customer(name, country, vat_id=name == "dora", card=name != "carl")
    company.sign("anna", prepaid_credit=Decimal(500))
    company.sign("bert", seats=Decimal(3))
    company.sign("carl", "team", date(2026, 1, 10))
    company.sign("dora", "fee", date(2026, 1, 15))
    company.live("2026-01-20")
    for name in ("anna", "bert", "carl"):
        company.use(name, "2026-01-17", 1234)
    assert company.amend("amd", "sub-bert", date(2026, 1, 20), "bigger", 4).accepted
    assert company.cancel("can", "sub-dora", date(2026, 2, 3)).accepted
    company.live("2026-02-05")
    company.use("anna", "2026-02-04", 77)
    company.live("2026-02-06")
    [(owed,)] = company.sql(INVOICE, "carl")
    company.transfer("bank-1", owed, 10_00, "2026-01-28")
    return company


@pytest.fixture
def month(company: Company) -> Company:
    """The same, with January proved: nothing differs."""
    found = two_months(company)
    proof = found.prove("2026-01")
    assert proof.differences == ()
    assert proof.holding == len(TIE_OUTS)
    return found


def test_every_tie_out_holds_in_honest_months(month: Company) -> None:
    assert {name for (name,) in month.sql("select name from tie_out")} == TIE_OUTS
    sums = month.sql("select name, left_value from tie_out")
    assert [name for name, value in sums if value == 0] == ["late usage held"], "nothing was held"
    month.lock("2026-01")
    month.live("2026-03-06")
    assert month.prove("2026-02").differences == ()
    month.lock("2026-02")
    assert sorted(month.erp.journals) == ["acme-2026-01", "acme-2026-02"]


def entry_lost(company: Company, kind: str, contract: str) -> str:
    """Delete the first such entry with its lines and what they added to the kept totals; returns its cause."""
    [(entry, cause)] = company.sql(
        "select e.id, e.cause_id from journal_entry e where cause_kind = %s and exists"
        " (select from journal_line l where l.entry_id = e.id and contract_id = %s) order by posted_on limit 1",
        kind,
        contract,
    )
    with company.tampering() as do:
        do(
            "update account_total t set debit_minor = debit_minor - d, credit_minor = credit_minor - c from ("
            " select entity_id, month, account, coalesce(contract_id, '') as contract_id, currency,"
            " coalesce(sum(amount_minor) filter (where side = 'D'), 0) as d,"
            " coalesce(sum(amount_minor) filter (where side = 'C'), 0) as c"
            " from journal_line where entry_id = %s group by 1, 2, 3, 4, 5) l"
            " where (t.entity_id, t.month, t.account, t.contract_id, t.currency)"
            " = (l.entity_id, l.month, l.account, l.contract_id, l.currency)",
            entry,
        )
        do("delete from journal_line where entry_id = %s", entry)
        do("delete from journal_entry where id = %s", entry)
    return str(cause)


def off(items: list[tuple[str, Decimal, Decimal]]) -> list[tuple[str, str]]:
    """What differs, and left less right."""
    return [(what, str(left - right)) for what, left, right in items]


def test_an_invoice_without_its_entry(month: Company) -> None:
    invoice = entry_lost(month, "invoice", "con-sub-bert")
    found = month.differences("2026-01")
    assert off(found["receivables"]) == [(invoice, "156.00")]
    assert off(found["deferred revenue"]) == [("con-sub-bert", "130.00")]
    assert off(found["tax"]) == [("FR-S-20", "26.00")]
    assert sum(left - right for _, left, right in found["promises"]) == 130
    assert len(found) == 4


def test_a_payment_without_its_entry(month: Company) -> None:
    attempt = entry_lost(month, "payment", "con-sub-bert")
    [(invoice,)] = month.sql("select invoice_id from payment_attempt where id = %s", attempt)
    found = month.differences("2026-01")
    assert off(found["payments"]) == [(attempt, "156.00")]
    assert off(found["receivables"]) == [(invoice, "-156.00")]
    assert len(found) == 2


def test_a_transfer_without_its_entry(month: Company) -> None:
    transfer = entry_lost(month, "transfer", "con-sub-carl")
    [(invoice,)] = month.sql(INVOICE, "carl")
    found = month.differences("2026-01")
    assert off(found["bank transfers"]) == [(transfer, "10.00")]
    assert off(found["receivables"]) == [(invoice, "-10.00")]
    assert len(found) == 2


def test_a_draw_without_its_entry(month: Company) -> None:
    month.lock("2026-01")
    month.live("2026-03-06")
    assert month.prove("2026-02").differences == ()
    invoice = entry_lost(month, "credit_draw", "con-sub-anna")
    [(drawn,)] = month.sql("select drawn_minor from invoice where id = %s", invoice)
    found = month.differences("2026-02")
    assert off(found["prepaid credits"]) == [("anna", f"-{Decimal(drawn) / 100}")]
    assert off(found["receivables"]) == [(invoice, f"-{Decimal(drawn) / 100}")]
    assert len(found) == 2


def test_revenue_that_was_not_recognised(month: Company) -> None:
    entry_lost(month, "recognition", "con-sub-dora")
    found = month.differences("2026-01")
    [(what, missing)] = off(found["revenue"])
    assert (what[-8:], missing) == (" in 4000", "54.84")
    assert off(found["deferred revenue"]) == [("con-sub-dora", "-54.84")]
    assert len(found) == 2
    assert month.closing.recognise(month.month("2026-01")).amount_minor == 5484
    assert month.differences("2026-01") == {}


Tamper = Callable[[Any, Company], None]
FAULTS: dict[str, tuple[Tamper, dict[str, list[tuple[str, str]]]]] = {
    "tax changed on a document": (
        lambda do, c: do(
            "update invoice_tax set tax_minor = tax_minor + 7 where invoice_id = (" + INVOICE + ")", "bert"
        ),
        {"tax": [("FR-S-20", "0.07")]},
    ),
    "tax posted under another rate": (
        lambda do, c: do("update journal_line set tax_code = 'FR-S-19' where tax_code = 'FR-S-20'"),
        {"tax": [("FR-S-19", "-26.00"), ("FR-S-20", "26.00")]},
    ),
    "revenue moved between accounts": (
        lambda do, c: do(
            "update journal_line set account = '4020' where account = '4010' and contract_id = 'con-sub-carl'"
        ),
        {"revenue": [("in 4020", "-12.34"), ("in 4010", "12.34")], "kept totals": []},
    ),
    "a promise that was lost": (
        lambda do, c: do("delete from obligation where subscription_id = 'sub-dora'"),
        {"promises": [("", "100.00")], "deferred revenue": [("con-sub-dora", "54.84")], "revenue": []},
    ),
    "a promise that was raised": (
        lambda do, c: do("update obligation set total_minor = total_minor + 310 where subscription_id = 'sub-dora'"),
        {"promises": [("", "-3.10")], "deferred revenue": [("con-sub-dora", "-1.70")], "revenue": [("4000", "1.70")]},
    ),
    "a line of an invoice changed": (
        lambda do, c: do("update invoice_line set gross_minor = gross_minor - 5 where subscription_id = 'sub-dora'"),
        {"promises": [("", "-0.05")], "deferred revenue": [("con-sub-dora", "-0.05")]},
    ),
    "a posting changed": (
        lambda do, c: do("update journal_line set amount_minor = amount_minor + 9 where account = '2100'"),
        {"kept totals": [("2100 C con-sub-anna", "0.09")], "prepaid credits": [("anna", "-0.09")]},
    ),
    "a kept total changed": (
        lambda do, c: do(
            "update account_total set debit_minor = debit_minor + 11 where account = '1050' and month = '2026-01-01'"
            " and contract_id = 'con-sub-anna'"
        ),
        {"kept totals": [("1050 D con-sub-anna", "-0.11")], "trial balance": [("all accounts", "0.11")]},
    ),
    "kept totals moved between contracts": (
        lambda do, c: do(
            "update account_total set debit_minor = debit_minor"
            " + case contract_id when 'con-sub-anna' then 5 else -5 end"
            " where account = '1050' and month = '2026-01-01' and contract_id in ('con-sub-anna', 'con-sub-dora')"
        ),
        {"kept totals": [("1050 D con-sub-anna", "-0.05"), ("1050 D con-sub-dora", "0.05")]},
    ),
    "a day of folded usage lost": (
        lambda do, c: do("delete from usage_total where customer_id = 'bert'"),
        {"usage folded": [("bert tokens", "1234")]},
    ),
    "an event changed": (
        lambda do, c: do("update usage_event set data = '{\"n\": 1235}' where customer_id = 'bert'"),
        {"usage folded": [("bert tokens", "1")]},
    ),
    "an arrears watermark moved on without an invoice": (
        lambda do, c: do(
            "update billing_lane set billed_through = '2026-03-10'"
            " where lane = 'arrears' and subscription_id = 'sub-anna'"
        ),
        {"usage billed": [("anna tokens", "77")]},
    ),
    "an advance watermark moved on without an invoice": (
        lambda do, c: do(
            "update billing_lane set billed_through = '2026-03-11'"
            " where lane = 'advance' and subscription_id = 'sub-anna'"
        ),
        {"fees billed": [("sub-anna base", "10"), ("sub-anna seats", "10")]},
    ),
    "a line of usage lost": (
        lambda do, c: do("delete from invoice_line where kind = 'usage' and subscription_id = 'sub-bert'"),
        {"usage billed": [("bert tokens", "1234")]},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str, month: Company) -> None:
    tamper, expected = FAULTS[fault]
    with month.tampering() as do:
        tamper(do, month)
    found = month.differences("2026-01")
    for name, items in expected.items():
        assert name in found, found
        seen = [(what, left - right) for what, left, right in found[name]]
        for what, difference in items:
            assert any(what in w and d == Decimal(difference) for w, d in seen), (name, seen)
