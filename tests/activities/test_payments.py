"""Payments: every call of the gateway made twice, its answer lost on the way back, and the money moved once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import pytest
from pydantic import SecretStr

from activities.payments import ChargeRun, Payments, subject_of
from billing.errors import NotFound, Refused, Unavailable
from integrations.payments import ChargeOrder, Declined, Outcome, Paid, Pending
from integrations.payments.registry import open_gateway
from sandbox.stripe import API_KEY, WEBHOOK_SECRET, StripeServer
from sandbox.stripe.faults import Fault
from tests.activities.company import Company
from tests.activities.twice import Slow, tables, twice

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def run(company: Company) -> ChargeRun:
    """Two customers were billed for January; nobody was charged."""
    company.set_clock(NOON)
    for name in ("ada", "bob"):
        company.customer(name)
        company.lifecycle.look(company.sign(name))
    return ChargeRun(company.bill().run_id)


@pytest.fixture
def payments(company: Company) -> Payments:
    return Payments(company.engine, "pretend", company.gateway)


def invoice_of(company: Company, customer: str) -> str:
    return str(company.sql("select id from invoice where customer_id = %s", customer)[0][0])


def states(company: Company) -> list[str]:
    return [state for (state,) in company.sql("select state from payment_attempt order by invoice_id, no")]


def test_a_run_is_charged_once_however_often_it_is_asked_for(
    company: Company, run: ChargeRun, payments: Payments
) -> None:
    first = payments.charge_run(run)
    assert (first.paid, first.declined, first.pending, first.more) == (2, 0, 0, False)
    before = tables(company)
    again = payments.charge_run(run)
    assert (again.paid, again.collections) == (0, ())
    assert tables(company) == before
    assert len(company.gateway.charges) == 2
    assert company.balance("1100") == 0


def test_in_portions_the_run_goes_on_where_it_stopped(company: Company, run: ChargeRun, payments: Payments) -> None:
    portion = ChargeRun(run.run_id, limit=1)
    assert [payments.charge_run(portion).more for _ in range(3)] == [True, False, False]
    assert states(company) == ["paid", "paid"]


@pytest.mark.parametrize("outcome", ["succeeded", "pending", "insufficient_funds", "expired_card"])
def test_an_answer_that_is_lost_after_the_charge_is_learned_the_second_time(
    company: Company, run: ChargeRun, payments: Payments, outcome: str
) -> None:
    company.gateway.expect("ada", outcome)
    company.gateway.lose_answer()
    first = payments.charge_run(run)
    assert "started" in states(company)
    lost = subject_of(invoice_of(company, "ada"))
    assert lost in first.collections
    payments.collect(invoice_of(company, "ada"))
    assert len(company.gateway.charges) == 2
    mine = company.sql("select state from payment_attempt where invoice_id = %s", invoice_of(company, "ada"))
    assert mine == [({"succeeded": "paid", "pending": "pending"}.get(outcome, "declined"),)]
    twice(company, payments.charge_run, run)


def test_dying_after_the_charge_and_before_writing_it_down_charges_once(
    company: Company, run: ChargeRun, payments: Payments, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("activities.payments.record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            payments.charge_run(run)
    payments.charge_run(run)
    assert states(company) == ["paid", "paid"]
    assert len(company.gateway.charges) == 2


def test_one_that_the_gateway_refuses_is_left_to_its_collection_and_does_not_come_again(
    company: Company, run: ChargeRun, payments: Payments, monkeypatch: pytest.MonkeyPatch
) -> None:
    charge = company.gateway.charge

    def picky(order: ChargeOrder) -> Outcome:
        if order.customer_id == "ada":
            raise Refused("There is no such card.", code="resource_missing")
        return charge(order)

    monkeypatch.setattr(company.gateway, "charge", picky)
    subject = f"collection/{invoice_of(company, 'ada')}"
    done = payments.charge_run(run)
    assert (done.paid, done.collections) == (1, (subject,))
    assert payments.charge_run(ChargeRun(run.run_id, limit=1)).more is False
    with pytest.raises(Refused, match="no such card"):
        payments.collect(invoice_of(company, "ada"))
    monkeypatch.setattr(company.gateway, "charge", charge)
    assert payments.collect(invoice_of(company, "ada")).settled
    assert len(company.gateway.charges) == 2


def test_a_pending_payment_is_asked_after_each_day_and_its_answer_may_get_lost(
    company: Company, run: ChargeRun, payments: Payments, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.gateway.expect("ada", "pending")
    payments.charge_run(run)
    invoice_id = invoice_of(company, "ada")
    for day in (2, 3, 4):
        company.set_clock(NOON.replace(day=day))
        seen = twice(company, payments.collect, invoice_id)
        assert seen.pending and seen.next_due == NOON.replace(day=day + 1)
        assert twice(company, payments.ask_gateway, invoice_id) == seen
    (reference,) = company.sql("select reference from payment_attempt where state = 'pending'")[0]
    company.gateway.settle(reference)
    company.set_clock(NOON.replace(day=5))
    look_up, asked = company.gateway.look_up, []

    def losing(name: str) -> Outcome:
        asked.append(name)
        found = look_up(name)
        if len(asked) == 1:
            raise Unavailable("The answer was lost.")
        return found

    monkeypatch.setattr(company.gateway, "look_up", losing)
    with pytest.raises(Unavailable):
        payments.collect(invoice_id)
    assert twice(company, payments.collect, invoice_id).settled
    assert len(asked) == 2 and company.balance("1100") == 0


def test_the_first_decision_stands_whoever_brings_another(company: Company, run: ChargeRun, payments: Payments) -> None:
    payments.charge_run(run)
    attempt, reference = company.sql("select id, reference from payment_attempt limit 1")[0]
    before = tables(company)
    for late in (Declined(reference, "x", "too late"), Pending(reference), Paid(reference)):
        assert payments._record(attempt, late) == "paid"
    assert tables(company) == before
    with pytest.raises(Refused):
        payments._record("pay_nobody", Paid("x"))


def test_a_payment_that_the_gateway_does_not_know_is_refused_and_stays_pending(
    company: Company, run: ChargeRun, payments: Payments
) -> None:
    company.gateway.expect("ada", "pending")
    payments.charge_run(run)
    company.sql("update payment_attempt set reference = 'pi_gone' where state = 'pending'")
    for _ in range(2):
        with pytest.raises(NotFound):
            payments.ask_gateway(invoice_of(company, "ada"))
    assert "pending" in states(company)


def test_hearts_beat_while_the_gateway_is_slow(
    company: Company, run: ChargeRun, payments: Payments, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.gateway.expect("ada", "insufficient_funds", "pending")
    for verb, act, command in (
        ("charge", payments.charge_run, run),
        ("charge", payments.collect, invoice_of(company, "ada")),
        ("look_up", payments.ask_gateway, invoice_of(company, "ada")),
    ):
        slow = Slow(getattr(company.gateway, verb))
        with monkeypatch.context() as patch:
            patch.setattr(company.gateway, verb, slow)
            slow.run(act, command)
        assert slow.beaten.is_set()
        company.set_clock(NOON.replace(day=8))


@dataclass(frozen=True)
class StripeSettings:
    stripe_api_base: str
    stripe_api_key: SecretStr = SecretStr(API_KEY)
    stripe_webhook_secret: SecretStr = SecretStr(WEBHOOK_SECRET)


@pytest.fixture
def stripe() -> Iterator[StripeServer]:
    server = StripeServer()
    server.start()
    try:
        yield server
    finally:
        server.close()


def test_over_the_wire_a_lost_answer_a_refused_card_and_a_second_asking(
    company: Company, run: ChargeRun, stripe: StripeServer
) -> None:
    """The same with Stripe's own SDK against the local Stripe."""
    company.sql("update payment_method set gateway = 'stripe', token = 'pm_card_visa' where customer_id = 'ada'")
    company.sql("update payment_method set gateway = 'stripe', token = 'pm_of_nobody' where customer_id = 'bob'")
    payments = Payments(company.engine, "stripe", open_gateway("stripe", StripeSettings(stripe.url)))
    spoil(stripe, Fault("lost_answer", path="/payment_intents$"))
    done = payments.charge_run(run)
    assert (done.paid, len(done.collections)) == (0, 2)
    assert payments.collect(invoice_of(company, "ada")).settled
    assert states(company).count("paid") == 1
    assert len(intents(stripe)) == 1
    twice(company, payments.charge_run, run)
    company.sql("update payment_method set token = 'pm_card_visa' where customer_id = 'bob'")
    assert payments.collect(invoice_of(company, "bob")).settled
    assert len(intents(stripe)) == 2


def spoil(stripe: StripeServer, fault: Fault) -> None:
    control(stripe, "faults", {"kind": fault.kind, "path": fault.path})


def intents(stripe: StripeServer) -> list[object]:
    return list(control(stripe, "payment_intents")["data"])


def control(stripe: StripeServer, name: str, body: object = None) -> dict[str, list[object]]:
    url = f"{stripe.url}/_sandbox/{name}"
    answer = httpx.get(url, trust_env=False) if body is None else httpx.post(url, json=body, trust_env=False)
    found: dict[str, list[object]] = answer.raise_for_status().json()
    return found


def test_an_invoice_of_millions_is_charged(company: Company) -> None:
    """Of more cents than 31 bits hold."""
    company.customer("anna")
    company.sign("anna", "usage")
    company.use("anna", "2026-01-05", 3_000_000_000)
    company.live("2026-02-02")
    assert company.sql("select amount_minor, state from payment_attempt") == [(3_570_000_000, "paid")]
