"""More than an amount may be: the account is parked with what is wrong with it, and the others are billed."""

from __future__ import annotations

from decimal import Decimal

import pytest

from billing.late import NextInvoice
from models import task
from models.correction import Correction, correct
from models.database import transaction
from tests.activities.company import Company
from tests.activities.test_late_usage import billed
from tests.activities.test_spend import FEE, TOKENS, lines, sell

WRITTEN = (
    "invoice", "invoice_line", "invoice_number", "usage_proof", "obligation", "journal_line", "outbox", "held_usage"
)  # fmt: skip


@pytest.mark.parametrize("quantity", [10**16, 10**29, -(10**16)])
def test_an_account_is_parked_by_item_quantity_and_limit_and_nothing_of_it_is_written(
    company: Company, quantity: int
) -> None:
    for name in ("anna", "bert"):
        company.customer(name)
        company.sign(name, "usage")
        company.use(name, "2026-01-10", quantity if name == "anna" else 1000)
    before = company.counts(WRITTEN)
    assert set(before.values()) == {0}
    company.live("2026-02-02")
    assert lines(company, "sub-anna") == []
    assert company.sql("select distinct subscription_id from invoice_line") == [("sub-bert",)]
    arrears = "select billed_through::text from billing_lane where subscription_id = 'sub-anna' and lane = 'arrears'"
    assert company.sql(arrears) == [("2026-01-01",)]
    [(subject, reason)] = company.open_tasks()
    assert subject == "billing/anna"
    assert reason.startswith(f"{quantity:,} of the item 'tokens' of usage version 1, 2026-01-01 to 2026-01-31: that")
    assert reason.endswith("no amount may be beyond 10,000,000,000,000.00 EUR.")
    with transaction(company.engine) as session:
        assert "POST /v1/events/corrections" in task.open_tasks(session)[0].remedy
        correct(session, [Correction("s", "anna2026-01-10", "a wrong unit")], "key")
    company.answer_tasks()
    company.use("anna", "2026-01-11", 500)
    company.live("2026-03-02")
    assert lines(company, "sub-anna") == [("usage", "tokens", 500), ("usage", "tokens", 0)]
    assert company.prove("2026-01").differences == ()


def test_it_comes_late(company: Company) -> None:
    sub = billed(company, NextInvoice())
    company.use("anna", "2026-01-11", 10**16)
    company.live("2026-03-02")
    assert lines(company, sub) == [("usage", "tokens", 1000)]
    [(_, reason)] = company.open_tasks()
    assert reason.startswith("10,000,000,000,001,000")


def test_many_small_enough_amounts_of_one_document(company: Company) -> None:
    many = [{**FEE, "key": f"fee{n}", "price": {"kind": "flat", "amount": "999999999999"}} for n in range(10)]
    sell(company, "dear", *many, TOKENS)
    company.customer("anna")
    company.sign("anna", "dear")
    company.live("2026-01-02")
    [(subject, reason)] = company.open_tasks()
    assert (subject, company.invoices()) == ("billing/anna", [])
    assert "of which that of 'fee0' is the largest with 999,999,999,999.00 EUR" in reason


def test_what_the_accounts_cannot_add_up_is_no_fault_of_the_software(company: Company) -> None:
    company.customer("anna")
    company.sign("anna", "usage")
    company.use("anna", "2026-01-10", Decimal(10**14))
    with company.tampering() as do:
        do("insert into account_total (entity_id, month, account, contract_id, currency, debit_minor, credit_minor)"
           " values ('acme', '2026-02-01', '1100', 'con-sub-anna', 'EUR', 9223372036854775807, 0)")  # fmt: skip
    company.live("2026-02-02")
    assert company.invoices() == []
    [(_, reason)] = company.open_tasks()
    assert reason == "A number of this account is larger than can be stored."
