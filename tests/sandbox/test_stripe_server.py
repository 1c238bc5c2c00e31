"""The local Stripe behaves like the real one towards the official SDK: answers, errors, idempotency, webhooks."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import stripe

from sandbox.stripe import API_KEY, WEBHOOK_SECRET, StripeServer

ROOT = Path(__file__).parents[2]
CHARGE: stripe.params.PaymentIntentCreateParams = {
    "amount": 1000,
    "currency": "eur",
    "payment_method": "pm_card_visa",
    "confirm": True,
    "off_session": True,
    "metadata": {"perennial_customer": "cus_acme"},
}


@pytest.fixture
def server() -> Iterator[StripeServer]:
    running = StripeServer()
    running.start()
    yield running
    running.close()


@pytest.fixture
def api(server: StripeServer) -> stripe._v1_services.V1Services:
    return client(server.url).v1


def client(url: str, key: str = API_KEY) -> stripe.StripeClient:
    return stripe.StripeClient(
        key,
        base_addresses={"api": url},
        max_network_retries=0,
        http_client=stripe.RequestsClient(timeout=(5, 20)),
    )


def control(server: StripeServer, method: str, name: str, body: object = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{server.url}/_sandbox/{name}", data=data, method=method)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def test_a_customer_keeps_its_method(api) -> None:
    customer = api.customers.create({"name": "Acme", "metadata": {"a": "1"}})
    method = api.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    assert method.id != "pm_card_visa"
    assert api.payment_methods.retrieve(method.id).customer == customer.id
    assert api.customers.retrieve(customer.id).metadata.to_dict() == {"a": "1"}
    intent = api.payment_intents.create({**CHARGE, "customer": customer.id, "payment_method": method.id})
    assert (intent.status, intent.amount_received) == ("succeeded", 1000)


def test_created_first_and_confirmed_later(api) -> None:
    intent = api.payment_intents.create({"amount": 1000, "currency": "eur"})
    assert intent.status == "requires_payment_method"
    with pytest.raises(stripe.InvalidRequestError):
        api.payment_intents.confirm(intent.id)
    assert api.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"}).status == "succeeded"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"})
    assert refused.value.code == "payment_intent_unexpected_state"


def test_intents_are_listed_newest_first_over_pages(api) -> None:
    customer = api.customers.create({}).id
    made = [
        api.payment_intents.create({"amount": 100 + i, "currency": "eur", "customer": customer}).id for i in range(5)
    ]
    api.payment_intents.create({"amount": 100, "currency": "eur"})
    page = api.payment_intents.list({"customer": customer, "limit": 2})
    assert page.has_more
    assert [intent.id for intent in page.auto_paging_iter()] == made[::-1]
    made_at = page.data[0].created
    for window, found in (({"gte": made_at - 60}, 5), ({"gt": made_at + 60}, 0), ({"lt": made_at - 60}, 0)):
        assert len(api.payment_intents.list({"customer": customer, "created": window}).data) == found


def test_what_is_cancelled_stays_so(api) -> None:
    intent = api.payment_intents.create({"amount": 1000, "currency": "eur"})
    canceled = api.payment_intents.cancel(intent.id, {"cancellation_reason": "abandoned"})
    assert (canceled.status, canceled.cancellation_reason) == ("canceled", "abandoned")
    for again in (
        lambda: api.payment_intents.cancel(intent.id),
        lambda: api.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"}),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            again()
        assert refused.value.code == "payment_intent_unexpected_state"


def test_the_same_key_gives_the_same_answer(api) -> None:
    first = api.payment_intents.create(CHARGE, {"idempotency_key": "k"})
    second = api.payment_intents.create(CHARGE, {"idempotency_key": "k"})
    assert first.to_dict() == second.to_dict()
    assert "Idempotent-Replayed" not in first.last_response.headers
    assert second.last_response.headers["Idempotent-Replayed"] == "true"


def test_the_same_key_replays_a_decline(api) -> None:
    declined = {**CHARGE, "payment_method": "pm_card_chargeDeclinedInsufficientFunds"}
    references = set()
    for _ in range(2):
        with pytest.raises(stripe.CardError) as refused:
            api.payment_intents.create(declined, {"idempotency_key": "k"})
        error = refused.value.error
        assert error is not None
        assert (error.code, error.decline_code) == ("card_declined", "insufficient_funds")
        references.add(error.payment_intent.id)
    assert len(references) == 1
    assert len(api.payment_intents.list().data) == 1


def test_the_same_key_for_another_request_is_an_error(api) -> None:
    api.payment_intents.create(CHARGE, {"idempotency_key": "k"})
    with pytest.raises(stripe.IdempotencyError):
        api.payment_intents.create({**CHARGE, "amount": 2000}, {"idempotency_key": "k"})
    with pytest.raises(stripe.IdempotencyError):
        api.customers.create({}, {"idempotency_key": "k"})


def test_a_rejected_parameter_leaves_the_key_free(api) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        api.payment_intents.create({**CHARGE, "bogus": "1"}, {"idempotency_key": "k"})
    assert api.payment_intents.create(CHARGE, {"idempotency_key": "k"}).status == "succeeded"


def test_a_key_in_use_is_a_conflict(server: StripeServer, api) -> None:
    control(server, "POST", "faults", {"kind": "timeout", "path": "/payment_intents$"})
    answers: queue.Queue[str] = queue.Queue()

    def first() -> None:
        answers.put(client(server.url).v1.payment_intents.create(CHARGE, {"idempotency_key": "k"}).id)

    thread = threading.Thread(target=first)
    thread.start()
    wait_until(lambda: control(server, "GET", "faults")["hanging"] == 1)
    with pytest.raises(stripe.APIError) as conflict:
        api.payment_intents.create(CHARGE, {"idempotency_key": "k"})
    assert conflict.value.http_status == 409
    assert conflict.value.json_body["error"]["code"] == "idempotency_key_in_use"
    control(server, "DELETE", "faults")
    thread.join()
    assert answers.get_nowait() == api.payment_intents.create(CHARGE, {"idempotency_key": "k"}).id


def test_ids_follow_from_keys_over_servers_and_faults() -> None:
    seen = []
    for fault in (None, {"kind": "lost_answer", "path": "/payment_intents$"}):
        running = StripeServer()
        running.start()
        try:
            if fault:
                control(running, "POST", "faults", fault)
                with pytest.raises(stripe.APIConnectionError):
                    client(running.url).v1.payment_intents.create(CHARGE, {"idempotency_key": "k"})
            intent = client(running.url).v1.payment_intents.create(CHARGE, {"idempotency_key": "k"})
            events = [hook["id"] for hook in control(running, "GET", "webhooks")["data"]]
            seen.append((intent.id, intent.latest_charge, intent.payment_method, events))
        finally:
            running.close()
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("params", "param", "code"),
    [
        ({"currency": "eur"}, "amount", "parameter_missing"),
        ({**CHARGE, "payment_method_types": ["card"]}, "payment_method_types", "parameter_unknown"),
        ({**CHARGE, "amount": "1.5"}, "amount", "parameter_invalid_integer"),
        ({**CHARGE, "capture_method": "later"}, "capture_method", None),
        ({**CHARGE, "amount": 10}, "amount", "amount_too_small"),
        ({**CHARGE, "customer": "cus_nobody"}, "customer", "resource_missing"),
        ({**CHARGE, "payment_method": "pm_nothing"}, "payment_method", "resource_missing"),
        ({**CHARGE, "currency": "kwd", "amount": 1234}, "amount", None),
    ],
)
def test_wrong_requests_are_refused_as_stripe_refuses_them(api, params, param: str, code: str | None) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.payment_intents.create(params)
    assert (refused.value.http_status, refused.value.param, refused.value.code) == (400, param, code)


def test_who_and_what_is_unknown(server: StripeServer, api) -> None:
    with pytest.raises(stripe.AuthenticationError):
        client(server.url, "sk_test_wrong").v1.customers.create({})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.payment_intents.retrieve("pi_nothing")
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.coupons.create({})
    assert refused.value.http_status == 404


def test_cards_that_decline_cannot_be_attached(api) -> None:
    customer = api.customers.create({}).id
    with pytest.raises(stripe.CardError) as refused:
        api.payment_methods.attach("pm_card_chargeDeclined", {"customer": customer})
    assert refused.value.error.payment_intent is None


def test_authentication_is_asked_of_a_payer_who_is_there(api) -> None:
    order = {**CHARGE, "payment_method": "pm_card_authenticationRequired"}
    with pytest.raises(stripe.CardError) as refused:
        api.payment_intents.create(order)
    assert refused.value.code == "authentication_required"
    present = {name: value for name, value in order.items() if name != "off_session"}
    assert api.payment_intents.create(present).status == "requires_action"


def test_no_more_goes_back_than_came(api) -> None:
    intent = api.payment_intents.create(CHARGE)
    assert api.refunds.create({"payment_intent": intent.id, "amount": 400}).status == "succeeded"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.refunds.create({"payment_intent": intent.id, "amount": 700})
    assert refused.value.param == "amount"
    assert api.refunds.create({"charge": intent.latest_charge}).amount == 600
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.refunds.create({"payment_intent": intent.id})
    assert refused.value.code == "charge_already_refunded"


def test_outcomes_are_taken_in_order_and_by_new_charges_only(server: StripeServer, api) -> None:
    control(server, "POST", "outcomes", {"customer": "cus_acme", "outcomes": ["insufficient_funds", "succeeded"]})
    for _ in range(2):
        with pytest.raises(stripe.CardError):
            api.payment_intents.create(CHARGE, {"idempotency_key": "first"})
    stranger = {**CHARGE, "metadata": {"perennial_customer": "cus_other"}}
    assert api.payment_intents.create(stranger).status == "succeeded"
    assert api.payment_intents.create(CHARGE, {"idempotency_key": "second"}).status == "succeeded"
    assert control(server, "GET", "outcomes")["waiting"] == {}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("outcomes", {"customer": "cus_acme", "outcomes": ["sunshine"]}),
        ("outcomes", {"outcomes": ["succeeded"]}),
        ("faults", {"kind": "earthquake"}),
        ("nothing", {}),
    ],
)
def test_the_control_surface_refuses_what_it_does_not_know(server: StripeServer, name: str, body) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        control(server, "POST", name, body)
    with refused.value:
        assert refused.value.code in (400, 404)


def test_a_stopped_server_comes_back_with_its_memory(server: StripeServer, api) -> None:
    intent = api.payment_intents.create(CHARGE, {"idempotency_key": "k"})
    server.stop()
    with pytest.raises(stripe.APIConnectionError):
        api.payment_intents.retrieve(intent.id)
    server.start()
    assert api.payment_intents.retrieve(intent.id).status == "succeeded"


def test_webhooks_are_signed_and_repeated_until_they_are_taken() -> None:
    tries: queue.Queue[tuple[bytes, str]] = queue.Queue()
    statuses = [200, 500]  # taken from the end

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            tries.put((body, self.headers["Stripe-Signature"]))
            self.send_response(statuses.pop())
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        running = StripeServer(webhook_url=f"http://127.0.0.1:{listener.server_port}/")
        running.start()
        try:
            client(running.url).v1.payment_intents.create(CHARGE)
            for _ in range(2):
                body, signature = tries.get(timeout=20)
                event = stripe.Webhook.construct_event(body, signature, WEBHOOK_SECRET)
                assert event.type == "payment_intent.succeeded"
                assert event.data.object.status == "succeeded"
            wait_until(lambda: control(running, "GET", "webhooks")["data"][0]["delivered"])
            assert control(running, "GET", "webhooks")["data"][0]["statuses"] == [500, 200]
        finally:
            running.close()
            listener.shutdown()
            thread.join()


def test_it_runs_as_a_process_of_its_own() -> None:
    command = [sys.executable, "-W", "error", "-m", "sandbox.stripe", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            word, url = process.stdout.readline().split()
            assert word == "ready"
            assert client(url).v1.payment_intents.create(CHARGE).status == "succeeded"
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
