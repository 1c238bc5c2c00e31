"""What is Stripe's own: its units, its cards, its faults, and that it forgets idempotency keys after a day."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import stripe

from billing.errors import Refused, Unavailable
from billing.money import Money
from integrations.payments import ChargeOrder, Declined, Paid, Pending
from integrations.payments.stripe import StripeGateway, stripe_amount
from sandbox.stripe import API_KEY, WEBHOOK_SECRET
from sandbox.stripe.webhooks import signature


@pytest.mark.parametrize(
    ("money", "amount"),
    [
        (Money.of("12.50", "EUR"), 1250),
        (Money.of("5000", "JPY"), 5000),
        (Money.of("1.230", "KWD"), 1230),
        (Money.of("700", "ISK"), 70000),
        (Money.of("700", "UGX"), 70000),
        (Money.of("700.00", "MGA"), 700),
    ],
)
def test_amounts_are_in_the_unit_that_stripe_counts_in(money: Money, amount: int) -> None:
    assert stripe_amount(money) == amount


@pytest.mark.parametrize("money", [Money.of("1.234", "KWD"), Money.of("0.20", "MGA")])
def test_an_amount_that_stripe_cannot_express_is_refused(money: Money) -> None:
    with pytest.raises(Refused) as refused:
        stripe_amount(money)
    assert refused.value.faults[0].field == "amount"


@pytest.mark.parametrize(
    ("method", "code", "final"),
    [
        ("pm_card_chargeDeclined", "generic_decline", False),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds", False),
        ("pm_card_chargeCustomerFail", "generic_decline", False),
        ("pm_card_authenticationRequired", "authentication_required", False),
        ("pm_card_visa_chargeDeclinedLostCard", "lost_card", True),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", True),
    ],
)
def test_the_well_known_declining_cards(stripe_stand, order: ChargeOrder, method: str, code: str, final: bool) -> None:
    outcome = stripe_stand.charge_twice(replace(order, method_token=method))
    assert isinstance(outcome, Declined)
    assert (outcome.code, outcome.final) == (code, final)
    assert stripe_stand.gateway.look_up(outcome.reference) == outcome


@pytest.mark.parametrize("word", ["requires_action", "insufficient_funds", "lost_card"])
def test_what_was_declined_cannot_be_paid_any_more(stripe_stand, order: ChargeOrder, word: str) -> None:
    """Neither by the payer who confirms nor by another method; and it stays declined for the same reason."""
    stripe_stand.expect(word)
    outcome = stripe_stand.charge_twice(order)
    assert isinstance(outcome, Declined)
    assert outcome.final == (word == "lost_card")
    with pytest.raises(stripe.InvalidRequestError, match="status of canceled"):
        client(stripe_stand).payment_intents.confirm(outcome.reference, {"payment_method": "pm_card_visa"})
    stripe_stand.control("DELETE", "idempotency_keys")
    assert stripe_stand.gateway.look_up(outcome.reference) == outcome


def test_an_answer_that_is_lost_after_the_cancellation_is_the_same_decline(stripe_stand, order: ChargeOrder) -> None:
    stripe_stand.expect("insufficient_funds")
    stripe_stand.spoil({"kind": "lost_answer", "path": "/cancel$"})
    with pytest.raises(Unavailable):
        stripe_stand.gateway.charge(order)
    outcome = stripe_stand.charge_twice(order)
    assert (outcome.code, outcome.final) == ("insufficient_funds", False)


def test_one_that_is_confirmed_before_it_is_cancelled_is_paid(stripe_stand, order: ChargeOrder) -> None:
    stripe_stand.expect("requires_action_then_succeeded")
    outcome = stripe_stand.gateway.charge(order)
    assert isinstance(outcome, Paid)
    assert stripe_stand.charge_twice(order) == outcome
    assert stripe_stand.charged() == [("att_1", 119_00)]


def test_one_that_was_cancelled_at_stripe_is_declined_for_good(stripe_stand) -> None:
    api = client(stripe_stand)
    stored = api.payment_intents.create({"amount": 119_00, "currency": "eur"})
    api.payment_intents.cancel(stored.id)
    outcome = stripe_stand.gateway.look_up(stored.id)
    assert (outcome.code, outcome.final) == ("canceled", True)


@pytest.mark.parametrize("path", ["/payment_methods", "/customers$", "/attach$", "/payment_intents$"])
@pytest.mark.parametrize("kind", ["server_error", "rate_limited", "lost_answer"])
def test_a_fault_on_any_step_passes_and_costs_nothing(stripe_stand, order: ChargeOrder, kind: str, path: str) -> None:
    for method in ("GET", "POST"):
        stripe_stand.spoil({"kind": kind, "method": method, "path": path})
    failures = 0
    while True:
        try:
            outcome = stripe_stand.gateway.charge(order)
            break
        except Unavailable:
            failures += 1
    assert failures >= 1
    assert isinstance(outcome, Paid)
    assert stripe_stand.charged() == [("att_1", 119_00)]


def test_stripes_wish_for_when_to_come_back_is_kept(stripe_stand, order: ChargeOrder) -> None:
    stripe_stand.spoil({"kind": "rate_limited", "retry_after": 7})
    with pytest.raises(Unavailable) as unavailable:
        stripe_stand.gateway.charge(order)
    assert unavailable.value.after is not None
    assert unavailable.value.after.total_seconds() == 7


def test_a_method_that_does_not_exist_is_refused_by_field(stripe_stand, order: ChargeOrder) -> None:
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            stripe_stand.gateway.charge(replace(order, method_token="pm_nothing"))
        assert refused.value.code == "resource_missing"
        assert refused.value.faults[0].field == "payment_method"


def test_an_amount_below_stripes_smallest_is_refused_by_field(stripe_stand, order: ChargeOrder) -> None:
    with pytest.raises(Refused) as refused:
        stripe_stand.gateway.charge(replace(order, amount=Money(49, "EUR")))
    assert (refused.value.code, refused.value.faults[0].field) == ("amount_too_small", "amount")


def test_an_attempt_of_another_payer_is_refused_by_stripe_itself(stripe_stand, order: ChargeOrder) -> None:
    stripe_stand.charge_twice(order)
    with pytest.raises(Refused) as refused:
        stripe_stand.gateway.charge(replace(order, customer_id="cus_other"))
    assert refused.value.code == "idempotency_error"
    assert len(stripe_stand.charged()) == 1


def test_a_customer_may_change_its_address_between_attempts(stripe_stand, order: ChargeOrder) -> None:
    stripe_stand.charge_twice(order)
    moved = replace(order, attempt_id="att_2", customer_email="accounts@acme.example")
    assert isinstance(stripe_stand.charge_twice(moved), Paid)


def test_a_failed_debit_is_told_by_webhook(stripe_stand, order: ChargeOrder) -> None:
    order = replace(order, method_token="pm_usBankAccount_insufficientFunds", amount=Money(50_00, "USD"))
    pending = stripe_stand.gateway.charge(order)
    assert isinstance(pending, Pending)
    hooks = [stripe_stand.received.get(timeout=20) for _ in range(2)]
    events = [stripe_stand.gateway.read_event(hook.body, hook.headers) for hook in hooks]
    assert [type(event.outcome) for event in events if event] == [Pending, Declined]


def test_an_attempt_is_found_after_stripe_forgot_its_key(stripe_stand, order: ChargeOrder) -> None:
    first = stripe_stand.charge_twice(order)
    stripe_stand.control("DELETE", "idempotency_keys")
    method = stripe_stand.control("GET", "payment_intents")["data"][0]["payment_method"]
    assert stripe_stand.charge_twice(replace(order, method_token=method)) == first
    assert len(stripe_stand.charged()) == 1


def test_an_attempt_is_found_behind_any_number_of_newer_ones(stripe_stand, order: ChargeOrder) -> None:
    """Over the pages of Stripe's list, and not beyond the attempt's start."""
    now = datetime.now(UTC)
    order = replace(order, begun_at=now)
    first = stripe_stand.charge_twice(order)
    (intent,) = stripe_stand.control("GET", "payment_intents")["data"]
    api = client(stripe_stand)
    for _ in range(120):
        api.payment_intents.create({"amount": 119_00, "currency": "eur", "customer": intent["customer"]})
    stripe_stand.control("DELETE", "idempotency_keys")
    stripe_stand.expect("lost_card")  # of a new charge, if there is one
    order = replace(order, method_token=intent["payment_method"])
    assert stripe_stand.gateway.charge(order) == first
    assert stripe_stand.gateway.charge(replace(order, begun_at=None)) == first
    assert isinstance(stripe_stand.gateway.charge(replace(order, begun_at=now + timedelta(days=2))), Declined)


def client(stripe_stand) -> stripe._v1_services.V1Services:
    return stripe.StripeClient(API_KEY, base_addresses={"api": stripe_stand.server.url}).v1


@pytest.fixture
def stored(stripe_stand, order: ChargeOrder) -> stripe.PaymentIntent:
    """The attempt's payment, which Stripe stored and never tried; another attempt was paid before."""
    paid_before = stripe_stand.gateway.charge(replace(order, attempt_id="att_0"))
    api = client(stripe_stand)
    before = api.payment_intents.retrieve(paid_before.reference)
    found = api.payment_intents.create(
        {
            "amount": 119_00,
            "currency": "eur",
            "customer": str(before.customer),
            "payment_method": str(before.payment_method),
            "metadata": {"perennial_attempt": "att_1"},
        }
    )
    assert found.status == "requires_confirmation"
    return found


def test_an_attempt_that_stripe_stored_but_never_tried_is_finished(
    stripe_stand, order: ChargeOrder, stored: stripe.PaymentIntent
) -> None:
    assert stripe_stand.charge_twice(order) == Paid(stored.id)
    assert len(stripe_stand.charged()) == 2


def test_one_that_is_asked_after_first_is_never_tried(
    stripe_stand, order: ChargeOrder, stored: stripe.PaymentIntent
) -> None:
    assert stripe_stand.gateway.find(order) is None
    assert client(stripe_stand).payment_intents.retrieve(stored.id).status == "canceled"
    assert stripe_stand.gateway.find(order) is None


def test_an_attempt_is_found_after_its_method_is_gone(stripe_stand, order: ChargeOrder) -> None:
    paid = stripe_stand.gateway.charge(order)
    stripe_stand.gateway.charge(replace(order, attempt_id="att_2"))
    gone = replace(order, method_token="pm_gone", begun_at=datetime.now(UTC))
    assert stripe_stand.gateway.find(gone) == paid
    assert stripe_stand.gateway.find(replace(gone, attempt_id="att_3")) is None


def test_no_answer_in_time_is_unavailable_and_passes(stripe_stand, order: ChargeOrder) -> None:
    impatient = StripeGateway(API_KEY, WEBHOOK_SECRET, stripe_stand.server.url, answer_seconds=0.3)
    stripe_stand.spoil({"kind": "timeout", "path": "/payment_intents$"})
    with pytest.raises(Unavailable):
        impatient.charge(order)
    assert isinstance(stripe_stand.gateway.charge(order), Paid)
    stripe_stand.control("DELETE", "faults")
    assert stripe_stand.charged() == [("att_1", 119_00)]


def test_a_body_that_is_no_json_is_said_to_be_so(stripe_stand) -> None:
    body = b"<event/>"
    with pytest.raises(Refused, match="its body is not valid JSON") as refused:
        stripe_stand.gateway.read_event(body, {"Stripe-Signature": signature(body, WEBHOOK_SECRET, 4_000_000_000)})
    assert refused.value.code == "unreadable_event"


def test_an_old_signature_is_refused(stripe_stand) -> None:
    body = b'{"object": "event"}'
    headers = {"Stripe-Signature": signature(body, WEBHOOK_SECRET, 1_600_000_000)}
    with pytest.raises(Refused) as refused:
        stripe_stand.gateway.read_event(body, headers)
    assert refused.value.code == "bad_signature"
