"""Payment gateways for tests: each registered one and the pretend one, with what a test may arrange behind it."""

from __future__ import annotations

import json
import queue
import threading
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from billing.money import Money
from integrations.payments import ChargeOrder, Outcome, PaymentGateway
from integrations.payments.pretend import PretendGateway, Webhook, signed
from integrations.payments.registry import GATEWAYS, open_gateway
from sandbox.stripe import API_KEY, WEBHOOK_SECRET, StripeServer
from sandbox.stripe.webhooks import signature

ORDER = ChargeOrder(
    attempt_id="att_1",
    invoice_id="inv_1",
    amount=Money(119_00, "EUR"),
    customer_id="cus_acme",
    customer_name="Acme GmbH",
    customer_email="billing@acme.example",
    method_token="pm_card_visa",
)


class Stand(ABC):
    """A gateway and what a test may arrange behind it."""

    gateway: PaymentGateway

    def charge_twice(self, order: ChargeOrder) -> Outcome:
        """Whoever calls may crash after the first call and will call again."""
        first, second = self.gateway.charge(order), self.gateway.charge(order)
        assert first == second
        return first

    @abstractmethod
    def expect(self, *outcomes: str) -> None: ...
    @abstractmethod
    def lose_next_answer(self) -> None: ...
    @abstractmethod
    def go_down(self) -> None: ...
    @abstractmethod
    def come_back(self) -> None: ...
    @abstractmethod
    def with_wrong_key(self) -> PaymentGateway: ...
    @abstractmethod
    def charged(self) -> list[tuple[str, int]]:
        """(attempt id, amount in minor units) of every charge the gateway has made, declined ones included."""

    @abstractmethod
    def settle(self, reference: str) -> list[Webhook]:
        """Let the pending payment be paid; the webhook that says so, twice."""

    @abstractmethod
    def unused_event(self) -> Webhook:
        """A well signed webhook of a kind that we do not use."""


class PretendStand(Stand):
    def __init__(self) -> None:
        self.gateway = PretendGateway()

    def expect(self, *outcomes: str) -> None:
        self.gateway.expect(ORDER.customer_id, *outcomes)

    def lose_next_answer(self) -> None:
        self.gateway.lose_answer()

    def go_down(self) -> None:
        self.gateway.down = True

    def come_back(self) -> None:
        self.gateway.down = False

    def with_wrong_key(self) -> PaymentGateway:
        return PretendGateway("wrong")

    def charged(self) -> list[tuple[str, int]]:
        return [(order.attempt_id, order.amount.minor) for order in self.gateway.charges]

    def settle(self, reference: str) -> list[Webhook]:
        return [self.gateway.settle(reference), self.gateway.settle(reference)]

    def unused_event(self) -> Webhook:
        return signed({"kind": "dispute"})


@contextmanager
def pretend_in_memory() -> Iterator[Stand]:
    yield PretendStand()


@dataclass(frozen=True, slots=True)
class StripeSettings:
    stripe_api_base: str
    stripe_api_key: SecretStr = SecretStr(API_KEY)
    stripe_webhook_secret: SecretStr = SecretStr(WEBHOOK_SECRET)


class StripeStand(Stand):
    def __init__(self, server: StripeServer, received: queue.Queue[Webhook]) -> None:
        self.server = server
        self.received = received
        self.settings = StripeSettings(server.url)
        self.gateway = open_gateway("stripe", self.settings)

    def expect(self, *outcomes: str) -> None:
        words = ["processing_then_succeeded" if word == "pending" else word for word in outcomes]
        self.control("POST", "outcomes", {"customer": ORDER.customer_id, "outcomes": words})
        if "pending" in outcomes:
            self.spoil({"kind": "duplicate_webhook", "count": 2})  # that it is pending, and that it is paid

    def lose_next_answer(self) -> None:
        self.spoil({"kind": "lost_answer", "path": "/payment_intents$"})

    def go_down(self) -> None:
        self.server.stop()

    def come_back(self) -> None:
        self.server.start()

    def with_wrong_key(self) -> PaymentGateway:
        return open_gateway("stripe", replace(self.settings, stripe_api_key=SecretStr("sk_test_wrong")))

    def charged(self) -> list[tuple[str, int]]:
        intents = self.control("GET", "payment_intents")["data"]
        return [(intent["metadata"]["perennial_attempt"], intent["amount"]) for intent in intents]

    def settle(self, reference: str) -> list[Webhook]:
        webhooks: list[Webhook] = []
        while len(webhooks) < 2:
            webhook = self.received.get(timeout=20)
            if json.loads(webhook.body)["type"] == "payment_intent.succeeded":
                webhooks.append(webhook)
        return webhooks

    def unused_event(self) -> Webhook:
        body = json.dumps(
            {
                "id": "evt_1",
                "object": "event",
                "type": "customer.created",
                "data": {"object": {"id": "cus_1", "object": "customer"}},
            }
        ).encode()
        return sign(body, 4_000_000_000)

    def spoil(self, fault: Mapping[str, object]) -> None:
        self.control("POST", "faults", fault)

    def control(self, method: str, name: str, body: Mapping[str, object] | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.server.url}/_sandbox/{name}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)


def sign(body: bytes, at: int) -> Webhook:
    return Webhook(body, {"stripe-signature": signature(body, WEBHOOK_SECRET, at)})


@contextmanager
def stripe_over_the_wire() -> Iterator[StripeStand]:
    with receiver() as (url, received):
        server = StripeServer(webhook_url=url, settle_after=0.2)
        server.start()
        try:
            yield StripeStand(server, received)
        finally:
            server.close()


@contextmanager
def receiver() -> Iterator[tuple[str, queue.Queue[Webhook]]]:
    """A tiny HTTP server that takes every webhook."""
    received: queue.Queue[Webhook] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.put(Webhook(body, dict(self.headers)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.server_port}/", received
        finally:
            listener.shutdown()
            thread.join()


STANDS: Mapping[str, Callable[[], AbstractContextManager[Stand]]] = {
    "pretend": pretend_in_memory,
    "stripe": stripe_over_the_wire,
}


@pytest.fixture(params=[*sorted(GATEWAYS), "pretend"])
def stand(request: pytest.FixtureRequest) -> Iterator[Stand]:
    """A registered gateway without a stand here fails: it would be one that nobody has tried."""
    with STANDS[request.param]() as made:
        yield made


@pytest.fixture
def stripe_stand() -> Iterator[StripeStand]:
    with stripe_over_the_wire() as made:
        yield made


@pytest.fixture
def order() -> ChargeOrder:
    return ORDER
