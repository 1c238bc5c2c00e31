"""Events and their delivery: signed as Stripe signs them, sent from the background, repeated until accepted."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

import stripe

from sandbox.stripe.answers import Body
from sandbox.stripe.later import Later

REPEATS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between one delivery and the next; then it is given up
_TIMEOUT = 5.0


@dataclass(slots=True)
class Delivery:
    """One event on its way: its exact bytes, and the status of every try (0 when nothing answered)."""

    event_id: str
    kind: str
    subject: str
    content: bytes
    statuses: list[int] = field(default_factory=list)

    @property
    def delivered(self) -> bool:
        return any(200 <= status < 300 for status in self.statuses)

    def shown(self) -> Body:
        return {
            "id": self.event_id,
            "type": self.kind,
            "payment_intent": self.subject,
            "statuses": list(self.statuses),
            "delivered": self.delivered,
        }


class Webhooks:
    """Sends events to one address, and remembers them. Without an address they are only remembered."""

    def __init__(self, url: str | None, secret: str, later: Later) -> None:
        self.url = url
        self._secret = secret
        self._later = later
        self._lock = threading.Lock()
        self._deliveries: list[Delivery] = []

    def send(self, delivery: Delivery, copies: int = 1) -> None:
        with self._lock:
            self._deliveries.append(delivery)
        if self.url:
            for _ in range(copies):
                self._later.after(0, lambda: self._deliver(delivery, 0))

    def shown(self) -> list[Body]:
        with self._lock:
            return [delivery.shown() for delivery in self._deliveries]

    def _deliver(self, delivery: Delivery, tried: int) -> None:
        status = self._post(delivery.content)
        with self._lock:
            delivery.statuses.append(status)
        if not 200 <= status < 300 and tried < len(REPEATS):
            self._later.after(REPEATS[tried], lambda: self._deliver(delivery, tried + 1))

    def _post(self, content: bytes) -> int:
        assert self.url is not None
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "Stripe-Signature": signature(content, self._secret, int(time.time())),
        }
        request = urllib.request.Request(self.url, data=content, headers=headers, method="POST")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_TIMEOUT) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code
        except OSError:
            return 0


def signature(content: bytes, secret: str, at: int) -> str:
    """The `Stripe-Signature` header: HMAC-SHA256 over `{at}.{content}`, `at` in seconds since 1970."""
    mac = hmac.new(secret.encode(), f"{at}.".encode() + content, hashlib.sha256).hexdigest()
    return f"t={at},v1={mac}"


def event(event_id: str, kind: str, created: int, subject: Body, key: str | None) -> bytes:
    return json.dumps(
        {
            "id": event_id,
            "object": "event",
            "api_version": stripe.api_version,
            "created": created,
            "data": {"object": subject},
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": key},
            "type": kind,
        }
    ).encode()
