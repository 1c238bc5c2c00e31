"""Bank transfers: each is posted once, and what waited for the money goes on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from activities.payments import ChargeRun, Payments
from billing.errors import Refused, Unavailable
from billing.ids import derive
from integrations.payments import ChargeOrder, Outcome
from models import payment
from models.customer import PaymentMethod
from models.database import transaction
from models.invoice import summary
from models.payment import subject_of
from tests.activities.company import Company
from tests.activities.twice import tables, twice

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
OWED = 119_00


@pytest.fixture
def invoice_id(company: Company) -> str:
    """Ada pays by bank, and was billed 119.00 for January."""
    company.set_clock(NOON)
    company.customer("ada", card=False)
    company.lifecycle.look(company.sign("ada", "fee"))
    company.bill()
    [(found, owed)] = company.sql("select id, due_minor from invoice")
    assert owed == OWED
    return str(found)


@pytest.fixture
def payments(company: Company) -> Payments:
    return Payments(company.engine, "pretend", company.gateway)


def open_minor(company: Company, invoice_id: str) -> int:
    with transaction(company.engine) as session:
        return summary(session, invoice_id).open_minor


def planned(company: Company, invoice_id: str) -> list[str]:
    query = "select cause from agenda where subject = %s and done_at is null order by 1"
    return [cause for (cause,) in company.sql(query, subject_of(invoice_id))]


def test_a_transfer_pays_the_invoice_once(company: Company, invoice_id: str) -> None:
    company.set_clock(NOON + timedelta(days=5))
    company.transfer("bank-1", invoice_id, OWED, "2026-01-05")
    before = tables(company)
    company.transfer("bank-1", invoice_id, OWED, "2026-01-05")
    assert tables(company) == before
    assert (open_minor(company, invoice_id), planned(company, invoice_id)) == (0, [])
    assert (company.balance("1000"), company.balance("1100"), company.balance("1050")) == (OWED, 0, 0)
    [(posted, kind)] = company.sql("select posted_on::text, cause_kind from journal_entry where cause_id = 'bank-1'")
    assert (posted, kind) == ("2026-01-05", "transfer")
    assert company.open_tasks() == []


def test_twelve_at_once_are_one(company: Company, invoice_id: str, threads: ThreadPoolExecutor) -> None:
    sent = [threads.submit(company.transfer, "bank-1", invoice_id, 50_00, "2026-01-01") for _ in range(12)]
    assert {one.result().amount_minor for one in sent} == {50_00}
    assert open_minor(company, invoice_id) == OWED - 50_00


def test_what_is_left_of_an_invoice_is_collected_on_its_day(
    company: Company, invoice_id: str, payments: Payments
) -> None:
    company.transfer("bank-1", invoice_id, 100_00, "2026-01-01")
    assert planned(company, invoice_id) == ["due"]
    with transaction(company.engine) as session:
        session.add(PaymentMethod(customer_id="ada", gateway="pretend", token="card", added_at=NOON))
    company.set_clock(NOON + timedelta(days=20))
    assert twice(company, payments.collect, invoice_id).settled
    assert company.sql("select amount_minor, state from payment_attempt") == [(19_00, "paid")]
    assert (company.balance("1000"), company.balance("1050"), company.balance("1100")) == (100_00, 19_00, 0)


def test_who_is_asked_for_a_method_need_not_be_asked_when_the_money_is_there(
    company: Company, invoice_id: str, payments: Payments
) -> None:
    company.set_clock(NOON + timedelta(days=20))
    assert payments.collect(invoice_id).waiting_for_person
    assert company.open_tasks() == [
        (subject_of(invoice_id), "The invoice is due, and the customer has no payment method.")
    ]
    company.transfer("bank-1", invoice_id, OWED, "2026-01-19")
    assert company.open_tasks() == []
    assert planned(company, invoice_id) == ["settled by bank-1"], "the collection that waits must look"
    assert twice(company, payments.collect, invoice_id).settled
    assert planned(company, invoice_id) == []


@pytest.fixture
def by_card(company: Company, invoice_id: str) -> str:
    """The same, with a card by now, on the day after the invoice was due."""
    with transaction(company.engine) as session:
        session.add(PaymentMethod(customer_id="ada", gateway="pretend", token="card", added_at=NOON))
    company.set_clock(NOON + timedelta(days=20))
    return invoice_id


def attempts(company: Company) -> list[tuple[int, str, str | None]]:
    return company.sql("select amount_minor, state, decline_code from payment_attempt order by no")


def refuse(order: ChargeOrder) -> Outcome:
    raise Refused("There is no such card.", code="resource_missing")


def nobody_there(order: ChargeOrder) -> Outcome:
    raise Unavailable("Stripe did not answer.")


@pytest.mark.parametrize("charge", [refuse, nobody_there])
def test_what_was_not_charged_before_the_transfer_is_given_up(
    company: Company, by_card: str, payments: Payments, charge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises((Refused, Unavailable)):
        patch.setattr(company.gateway, "charge", charge)
        payments.collect(by_card)
    assert attempts(company) == [(OWED, "started", None)]
    company.transfer("bank-1", by_card, 100_00, "2026-01-01")
    assert twice(company, payments.collect, by_card).settled
    assert attempts(company) == [(OWED, "declined", "superseded"), (19_00, "paid", None)]
    assert [order.amount.minor for order in company.gateway.charges] == [19_00]
    assert (open_minor(company, by_card), company.open_tasks()) == (0, [])


@pytest.mark.parametrize("came", [OWED, 100_00])
def test_what_was_charged_before_the_transfer_is_found_and_booked(
    company: Company, by_card: str, payments: Payments, came: int
) -> None:
    company.gateway.lose_answer()
    with pytest.raises(Unavailable):
        payments.collect(by_card)
    company.transfer("bank-1", by_card, came, "2026-01-01")
    assert twice(company, payments.collect, by_card).settled
    assert attempts(company) == [(OWED, "paid", None)]
    assert (company.balance("1000"), company.balance("1050"), company.balance("1100")) == (came, OWED, -came)
    [(_, reason)] = company.open_tasks()
    assert "overpaid" in reason


def test_what_was_given_up_and_is_paid_after_all_is_booked(
    company: Company, by_card: str, payments: Payments, monkeypatch: pytest.MonkeyPatch
) -> None:
    charge, asked = company.gateway.charge, list[ChargeOrder]()

    def slow(order: ChargeOrder) -> Outcome:
        asked.append(order)
        raise Unavailable("No answer in time.")

    with monkeypatch.context() as patch, pytest.raises(Unavailable):
        patch.setattr(company.gateway, "charge", slow)
        payments.collect(by_card)
    company.transfer("bank-1", by_card, OWED, "2026-01-01")
    assert payments.collect(by_card).settled
    assert attempts(company) == [(OWED, "declined", "superseded")]
    charge(asked[0])
    with transaction(company.engine) as session:
        payment.ask_after(session, asked[0].attempt_id)
    assert twice(company, payments.collect, by_card).settled
    assert attempts(company) == [(OWED, "paid", "superseded")]
    assert company.balance("1100") == -OWED


def test_a_payment_that_is_to_be_asked_after_is_asked_after_all_the_same(
    company: Company, by_card: str, payments: Payments
) -> None:
    company.gateway.expect("ada", "insufficient_funds")
    payments.collect(by_card)
    [(attempt, reference)] = company.sql("select id, reference from payment_attempt")
    company.gateway.settle(reference)
    with transaction(company.engine) as session:
        payment.ask_after(session, attempt)
    company.transfer("bank-1", by_card, OWED, "2026-01-01")
    assert planned(company, by_card) == [f"paid after all: {attempt}", "settled by bank-1"]
    assert payments.collect(by_card).settled
    assert (company.balance("1050"), company.balance("1100")) == (OWED, -OWED)


def test_who_was_declined_for_good_and_pays_by_bank_is_not_waited_for(
    company: Company, by_card: str, payments: Payments
) -> None:
    company.sql("delete from agenda where subject = %s", subject_of(by_card))
    company.gateway.expect("ada", "expired_card")
    [(run_id,)] = company.sql("select id from billing_run")
    assert payments.charge_run(ChargeRun(run_id)).declined == 1
    assert planned(company, by_card) == []
    company.transfer("bank-1", by_card, OWED, "2026-01-01")
    assert planned(company, by_card) == ["settled by bank-1"], "the collection that waits must look"


def test_what_went_back_is_collected_again(company: Company, by_card: str, payments: Payments) -> None:
    company.transfer("bank-1", by_card, OWED, "2026-01-05")
    company.transfer("bank-2", by_card, -OWED, "2026-01-06")
    assert (company.balance("1000"), open_minor(company, by_card)) == (0, OWED)
    assert "open again by bank-2" in planned(company, by_card)
    assert company.sql("select description from journal_entry where cause_kind = 'transfer' order by 1") == [
        ("Bank transfer received",),
        ("Bank transfer returned",),
    ]
    assert twice(company, payments.collect, by_card).settled
    assert attempts(company) == [(OWED, "paid", None)]
    company.live("2026-02-06")
    assert company.prove("2026-01").differences == ()


def test_what_went_back_beside_a_card_payment_is_collected_again(
    company: Company, by_card: str, payments: Payments
) -> None:
    company.transfer("bank-1", by_card, 100_00, "2026-01-05")
    assert payments.collect(by_card).settled
    company.transfer("bank-2", by_card, -100_00, "2026-01-06")
    assert twice(company, payments.collect, by_card).settled
    assert attempts(company) == [(19_00, "paid", None), (100_00, "paid", None)]


def test_what_went_back_while_the_rest_is_on_its_way_is_collected_after_it(
    company: Company, by_card: str, payments: Payments
) -> None:
    company.transfer("bank-1", by_card, 100_00, "2026-01-05")
    company.gateway.expect("ada", "pending")
    assert payments.collect(by_card).pending
    [(reference,)] = company.sql("select reference from payment_attempt")
    company.transfer("bank-2", by_card, -100_00, "2026-01-06")
    company.gateway.settle(reference)
    payments.ask_gateway(by_card)
    assert "rest after 1" in planned(company, by_card)
    assert twice(company, payments.collect, by_card).settled
    assert attempts(company) == [(19_00, "paid", None), (100_00, "paid", None)]


def test_dunning_begins_anew_when_a_paid_invoice_is_open_again(
    company: Company, by_card: str, payments: Payments
) -> None:
    company.gateway.expect("ada", "insufficient_funds", "insufficient_funds")
    payments.collect(by_card)
    [tried] = planned(company, by_card)
    company.transfer("bank-1", by_card, 100_00, "2026-01-05")
    company.transfer("bank-2", by_card, -100_00, "2026-01-06")
    assert planned(company, by_card) == [tried], "what was never settled goes on as before"
    company.transfer("bank-3", by_card, OWED, "2026-01-07")
    company.set_clock(NOON + timedelta(days=70))
    company.transfer("bank-4", by_card, -OWED, "2026-03-01")
    payments.collect(by_card)
    assert attempts(company)[1:] == [(OWED, "declined", "insufficient_funds")]
    assert company.open_tasks() == []
    [(days,)] = company.sql(
        "select extract(day from due_at - %s)::int from agenda where done_at is null and kind = 'collect'",
        company.now(),
    )
    assert days == 3


def test_a_decline_leaves_the_question_after_an_earlier_attempt(
    company: Company, by_card: str, payments: Payments, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Unavailable):
        patch.setattr(company.gateway, "charge", nobody_there)
        payments.collect(by_card)
    company.transfer("bank-1", by_card, 100_00, "2026-01-01")
    [(first,)] = company.sql("select id from payment_attempt")
    charge = company.gateway.charge

    def crossing(order: ChargeOrder) -> Outcome:
        with transaction(company.engine) as session:
            payment.ask_after(session, first)  # Its webhook comes in just now.
        return charge(order)

    company.gateway.expect("ada", "expired_card")
    monkeypatch.setattr(company.gateway, "charge", crossing)
    payments.collect(by_card)
    assert attempts(company) == [(OWED, "declined", "superseded"), (19_00, "declined", "expired_card")]
    assert planned(company, by_card) == [f"paid after all: {first}"]


def test_what_the_gateway_told_of_is_looked_up_by_its_name(
    company: Company, by_card: str, payments: Payments, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.gateway.lose_answer()
    with pytest.raises(Unavailable):
        payments.collect(by_card)
    [(attempt,)] = company.sql("select id from payment_attempt")
    reference = derive("pay", attempt)
    company.sql("update payment_attempt set reference = %s, method_token = null", reference)
    monkeypatch.setattr(company.gateway, "charge", refuse)
    monkeypatch.setattr(company.gateway, "find", refuse)
    assert twice(company, payments.collect, by_card).settled
    assert attempts(company) == [(OWED, "paid", None)]


def test_a_run_charges_nothing_that_was_paid_before(company: Company, by_card: str, payments: Payments) -> None:
    company.sql("delete from agenda where subject = %s", subject_of(by_card))
    company.transfer("bank-1", by_card, OWED, "2026-01-01")
    [(run_id,)] = company.sql("select id from billing_run")
    assert payments.charge_run(ChargeRun(run_id, limit=0)).more is False


def test_what_was_too_much_is_given_back(company: Company, invoice_id: str) -> None:
    company.transfer("bank-1", invoice_id, 10 * OWED, "2026-01-01")
    assert len(company.open_tasks()) == 1
    with pytest.raises(Refused, match="cannot have received") as refusal:
        company.transfer("bank-2", invoice_id, -11 * OWED, "2026-01-01")
    assert refusal.value.faults[0].reason == "takes back more than came by bank, which is 1,190.00 EUR"
    company.transfer("bank-2", invoice_id, -8 * OWED, "2026-01-01")
    [(_, reason)] = company.open_tasks()
    assert reason == "After 952.00 EUR went back by bank-2: the invoice is overpaid by 119.00 EUR."
    company.transfer("bank-3", invoice_id, -OWED, "2026-01-01")
    assert (open_minor(company, invoice_id), company.open_tasks(), planned(company, invoice_id)) == (0, [], [])


def test_what_is_too_much_is_in_the_ledger_and_a_person_is_told(company: Company, invoice_id: str) -> None:
    company.transfer("bank-1", invoice_id, 100_00, "2026-01-01")
    company.transfer("bank-2", invoice_id, 100_00, "2026-01-01")
    assert open_minor(company, invoice_id) == OWED - 200_00
    [(subject, reason)] = company.open_tasks()
    assert (subject, reason[:12], reason[-10:]) == (subject_of(invoice_id), "The transfer", "81.00 EUR.")
    company.live("2026-02-06")
    assert company.prove("2026-01").differences == ()


def test_a_transfer_of_a_closed_month_is_posted_in_the_open_one(company: Company, invoice_id: str) -> None:
    company.live("2026-02-06")
    assert company.prove("2026-01").differences == ()
    company.lock("2026-01")
    company.transfer("bank-1", invoice_id, OWED, "2026-01-30")
    [(posted,)] = company.sql("select posted_on::text from journal_entry where cause_id = 'bank-1'")
    assert posted == "2026-02-01"
    assert company.differences("2026-01") == {}
    company.live("2026-03-06")
    assert company.prove("2026-02").differences == ()


@pytest.mark.parametrize(("on", "said"), [("2026-01-02", "today in the books"), ("2025-12-31", "was issued")])
def test_days_on_which_it_cannot_have_come(company: Company, invoice_id: str, on: str, said: str) -> None:
    before = tables(company)
    with pytest.raises(Refused) as refusal:
        company.transfer("bank-1", invoice_id, OWED, on)
    assert said in refusal.value.faults[0].reason
    assert tables(company) == before
