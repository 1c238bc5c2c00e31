"""What every payment gateway promises, tried on each registered one and on the pretend one.

Stripe is tried over the wire, through its own SDK, against `sandbox.stripe`. Every call to a gateway is made
twice on purpose: whoever calls may crash after the first one and will call again.
"""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from billing.errors import Refused, Unavailable
from billing.money import Money
from integrations.payments import ChargeOrder, Declined, Outcome, Paid, Pending
from integrations.payments.registry import open_gateway
from settings import Settings


def test_a_charge_made_twice_moves_the_money_once(stand, order: ChargeOrder) -> None:
    outcome = stand.charge_twice(order)
    assert isinstance(outcome, Paid)
    assert stand.charged() == [("att_1", 119_00)]
    assert stand.gateway.look_up(outcome.reference) == outcome


def test_two_attempts_are_two_charges(stand, order: ChargeOrder) -> None:
    first, second = stand.charge_twice(order), stand.charge_twice(replace(order, attempt_id="att_2"))
    assert first.reference != second.reference
    assert stand.charged() == [("att_1", 119_00), ("att_2", 119_00)]


def test_a_lost_answer_is_found_by_asking_again(stand, order: ChargeOrder) -> None:
    stand.lose_next_answer()
    with pytest.raises(Unavailable):
        stand.gateway.charge(order)
    assert stand.charged() == [("att_1", 119_00)]
    assert isinstance(stand.charge_twice(order), Paid)
    assert stand.charged() == [("att_1", 119_00)]


def test_a_lost_answer_takes_no_second_outcome(stand, order: ChargeOrder) -> None:
    stand.expect("insufficient_funds", "succeeded")
    stand.lose_next_answer()
    with pytest.raises(Unavailable):
        stand.gateway.charge(order)
    assert isinstance(stand.charge_twice(order), Declined)
    assert isinstance(stand.charge_twice(replace(order, attempt_id="att_2")), Paid)


def test_a_decline_is_a_value_that_stays(stand, order: ChargeOrder) -> None:
    stand.expect("insufficient_funds")
    outcome = stand.charge_twice(order)
    assert isinstance(outcome, Declined)
    assert (outcome.code, outcome.final) == ("insufficient_funds", False)
    assert outcome.message
    assert stand.gateway.look_up(outcome.reference) == outcome


@pytest.mark.parametrize("code", ["lost_card", "stolen_card", "expired_card"])
def test_some_declines_are_final(stand, order: ChargeOrder, code: str) -> None:
    stand.expect(code)
    outcome = stand.charge_twice(order)
    assert isinstance(outcome, Declined)
    assert (outcome.code, outcome.final) == (code, True)


def test_a_pending_payment_is_paid_by_a_signed_webhook(stand, order: ChargeOrder) -> None:
    stand.expect("pending")
    pending = stand.gateway.charge(order)
    assert isinstance(pending, Pending)
    events = [stand.gateway.read_event(hook.body, hook.headers) for hook in stand.settle(pending.reference)]
    assert events[0] is not None
    assert (events[0].attempt_id, events[0].outcome) == ("att_1", Paid(pending.reference))
    assert events[0] == events[1], "a webhook that comes twice has the same event id"
    assert stand.gateway.look_up(pending.reference) == Paid(pending.reference)
    assert stand.charge_twice(order) == Paid(pending.reference)
    assert stand.charged() == [("att_1", 119_00)]


def test_a_webhook_that_was_changed_is_refused(stand, order: ChargeOrder) -> None:
    stand.expect("pending")
    hook = stand.settle(stand.gateway.charge(order).reference)[0]
    for body, headers in (
        (hook.body.replace(b"att_1", b"att_2"), hook.headers),
        (hook.body, {}),
        (b"\xff\xfe", hook.headers),
    ):
        with pytest.raises(Refused) as refused:
            stand.gateway.read_event(body, headers)
        assert refused.value.code == "bad_signature"


def test_other_events_are_none_of_ours(stand) -> None:
    hook = stand.unused_event()
    assert stand.gateway.read_event(hook.body, hook.headers) is None


def test_an_outage_is_unavailable_and_passes(stand, order: ChargeOrder) -> None:
    stand.go_down()
    for _ in range(2):
        with pytest.raises(Unavailable):
            stand.gateway.charge(order)
    stand.come_back()
    assert isinstance(stand.charge_twice(order), Paid)
    assert stand.charged() == [("att_1", 119_00)]


def test_a_wrong_key_is_refused(stand, order: ChargeOrder) -> None:
    gateway = stand.with_wrong_key()
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            gateway.charge(order)
        assert refused.value.code == "bad_credentials"
    assert stand.charged() == []


def test_an_attempt_cannot_change_its_amount(stand, order: ChargeOrder) -> None:
    stand.charge_twice(order)
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            stand.gateway.charge(replace(order, amount=Money(200_00, "EUR")))
        assert refused.value.code == "idempotency_error"
    assert stand.charged() == [("att_1", 119_00)]


def test_what_became_of_an_attempt_is_found_whatever_its_amount(stand, order: ChargeOrder) -> None:
    for _ in range(2):
        assert stand.gateway.find(order) is None
    assert stand.charged() == []
    stand.expect("insufficient_funds", "succeeded", "pending")
    for no, kind in ((1, Declined), (2, Paid), (3, Pending)):
        asked = replace(order, attempt_id=f"att_{no}")
        stand.lose_next_answer()
        with pytest.raises(Unavailable):
            stand.gateway.charge(asked)
        found = stand.gateway.find(replace(asked, amount=Money(1_00, "EUR")))
        assert isinstance(found, kind)
        assert stand.gateway.find(asked) == found
    assert stand.charged() == [(f"att_{no}", 119_00) for no in (1, 2, 3)]


def test_yen_have_no_hundredths(stand, order: ChargeOrder) -> None:
    assert isinstance(stand.charge_twice(replace(order, amount=Money.of("5000", "JPY"))), Paid)
    assert stand.charged() == [("att_1", 5000)]


def test_what_does_not_exist_cannot_be_looked_up(stand) -> None:
    with pytest.raises(Refused):
        stand.gateway.look_up("pi_nothing")


def test_many_threads_charge_once(stand, order: ChargeOrder) -> None:
    outcomes: list[Outcome] = []
    together = threading.Barrier(4)

    def charge() -> None:
        together.wait()
        while True:
            try:
                outcomes.append(stand.gateway.charge(order))
                return
            except Unavailable:
                continue  # another thread's request is being worked on

    threads = [threading.Thread(target=charge) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4
    assert len(set(outcomes)) == 1
    assert stand.charged() == [("att_1", 119_00)]


def test_an_unknown_gateway_is_named_with_those_that_exist() -> None:
    with pytest.raises(Refused, match="nobody") as refused:
        open_gateway("nobody", Settings())
    assert "stripe" in refused.value.remedy
