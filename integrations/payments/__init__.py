"""The door to payment gateways: its verbs and what they answer. `registry.py` names the gateways that exist.

A declined card is an answer. A gateway that cannot be reached or asks to be left alone raises `Unavailable`;
one that rejects our credentials or our request raises `Refused`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from billing.money import Money

COMPARE_SECRETS = "Compare the endpoint's signing secret with the one in the settings."
"""What to do about a webhook whose signature does not fit."""


@dataclass(frozen=True, slots=True)
class ChargeOrder:
    """Charge `amount` to a stored payment method, off session. `attempt_id` is the idempotency key.

    `begun_at` is when the attempt was begun, before the gateway was first asked; None if no real clock says.
    """

    attempt_id: str
    invoice_id: str
    amount: Money
    customer_id: str
    customer_name: str
    customer_email: str
    method_token: str
    begun_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Paid:
    """The money is captured. `reference` is the gateway's id of the payment."""

    reference: str


@dataclass(frozen=True, slots=True)
class Declined:
    """Not paid: the payer's bank said no, or the payer would have to confirm.

    `final` says that trying the same method again is pointless.
    """

    reference: str
    code: str
    message: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class Pending:
    """Accepted and not decided yet (bank debits); a webhook or `look_up` will tell."""

    reference: str


Outcome = Paid | Declined | Pending


@dataclass(frozen=True, slots=True)
class GatewayEvent:
    """A webhook, verified and translated. `attempt_id` is ours, carried back in the gateway's metadata."""

    event_id: str
    attempt_id: str
    outcome: Outcome


class PaymentGateway(Protocol):
    """One payment provider, spoken to through its official SDK.

    What `charge`, `find` or `look_up` answer as `Declined` cannot be paid any more: what is open still is cancelled
    first, and if it was paid meanwhile, that is the answer.
    """

    def charge(self, order: ChargeOrder) -> Outcome:
        """Charge once: calling again with the same `attempt_id` moves no money and tells how that attempt stands.

        This holds after any failure and however much later. Another amount under a used `attempt_id` is
        Refused (code `idempotency_error`).
        """

    def find(self, order: ChargeOrder) -> Outcome | None:
        """What became of an attempt whose answer was lost, whatever its amount; None if nothing did. Nothing is charged
        by asking, and what was never tried will not be: the same `attempt_id` must not be charged after it.
        """

    def look_up(self, reference: str) -> Outcome:
        """How a payment stands now, by the gateway's reference. Refused if there is none."""

    def read_event(self, body: bytes, headers: Mapping[str, str]) -> GatewayEvent | None:
        """Verify a webhook's signature and translate it; None if it is of a kind we do not use.

        Refused (code `bad_signature`) if it is not the gateway's, or too old. An event may come twice (with
        the same `event_id`), and after a later one: ask `look_up` before acting on a `Pending` or `Declined`.
        """
