"""One Stripe account: what it holds, the ids it gives out, and the events it sends. No HTTP here.

Ids follow from the idempotency key when a request has one, so that a run with crashes and repeats makes the
same ids as a run without.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections import defaultdict
from dataclasses import dataclass

from sandbox.stripe.later import Later
from sandbox.stripe.outcomes import OutcomeQueue
from sandbox.stripe.resources import Customer, Intent, Method, Refund
from sandbox.stripe.webhooks import Delivery, Webhooks, event

API_KEY = "sk_test_sandbox"
WEBHOOK_SECRET = "whsec_sandbox"


@dataclass(frozen=True, slots=True)
class Cause:
    """What new ids are derived from: the request's idempotency key, if it has one."""

    key: str | None = None


class Account:
    """The whole state. `lock` is held while a request works, so requests happen one after the other."""

    def __init__(self, webhooks: Webhooks, later: Later, settle_after: float) -> None:
        self.lock = threading.RLock()
        self.webhooks = webhooks
        self.later = later
        self.settle_after = settle_after
        self.outcomes = OutcomeQueue()
        self.doubled_events = 0
        self.customers: dict[str, Customer] = {}
        self.methods: dict[str, Method] = {}
        self.intents: dict[str, Intent] = {}
        self.intents_of: defaultdict[str | None, list[str]] = defaultdict(list)
        self.refunds: dict[str, Refund] = {}
        self._sequence = itertools.count(1)

    def new_id(self, prefix: str, cause: Cause) -> str:
        if cause.key is None:
            return f"{prefix}_{next(self._sequence):024d}"
        return derived(prefix, cause.key)

    def keep(self, intent: Intent) -> Intent:
        """Store the intent as it now is."""
        if intent.id not in self.intents:
            self.intents_of[intent.customer].append(intent.id)
        self.intents[intent.id] = intent
        return intent

    def tell(self, kind: str, intent: Intent, cause: Cause) -> None:
        """Send an event about the intent; its id is the same in every run that does the same."""
        event_id = derived("evt", f"{intent.id}/{intent.tries}/{kind}")
        content = event(event_id, kind, now(), intent.shown(), cause.key)
        doubled = self.doubled_events > 0
        self.doubled_events -= doubled
        self.webhooks.send(Delivery(event_id, kind, intent.id, content), copies=2 if doubled else 1)


def derived(prefix: str, cause: str) -> str:
    return f"{prefix}_{hashlib.sha256(f'{prefix}/{cause}'.encode()).hexdigest()[:24]}"


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())
