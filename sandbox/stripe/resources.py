"""The objects that the server remembers, and how Stripe shows each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sandbox.stripe.answers import Body


@dataclass(frozen=True, slots=True)
class Decline:
    """A bank's refusal: Stripe's `code`, the issuer's `decline_code`, and words for a person."""

    code: str
    decline_code: str
    message: str
    advice_code: str | None = None

    def shown(self) -> dict[str, str]:
        facts = {"type": "card_error", "code": self.code, "message": self.message}
        if self.code == "card_declined" or self.code == "authentication_required":
            facts["decline_code"] = self.decline_code
        if self.advice_code:
            facts["advice_code"] = self.advice_code
        return facts


@dataclass(frozen=True, slots=True)
class Customer:
    id: str
    created: int
    name: str | None
    email: str | None
    description: str | None
    metadata: Mapping[str, str]

    def shown(self) -> Body:
        return {
            "id": self.id,
            "object": "customer",
            "created": self.created,
            "livemode": False,
            "name": self.name,
            "email": self.email,
            "description": self.description,
            "metadata": self.metadata,
            "balance": 0,
            "currency": None,
            "default_source": None,
            "delinquent": False,
            "invoice_settings": {"default_payment_method": None, "custom_fields": None, "footer": None},
        }


@dataclass(frozen=True, slots=True)
class Method:
    """A payment method. `origin` is the test method it was made from, which decides how it behaves."""

    id: str
    created: int
    origin: str
    kind: str
    customer: str | None = None
    used_loose: bool = False

    def shown(self) -> Body:
        detail: Body = {"last4": "4242", "brand": "visa", "exp_month": 12, "exp_year": 2040, "country": "US"}
        if self.kind == "us_bank_account":
            detail = {"last4": "6789", "bank_name": "STRIPE TEST BANK", "account_type": "checking"}
        return {
            "id": self.id,
            "object": "payment_method",
            "created": self.created,
            "livemode": False,
            "type": self.kind,
            self.kind: detail,
            "customer": self.customer,
            "billing_details": {"address": None, "email": None, "name": None, "phone": None},
            "metadata": {},
        }


@dataclass(frozen=True, slots=True)
class Intent:
    """A payment intent. `amount` is in Stripe's smallest unit of the lower-case `currency`."""

    id: str
    created: int
    amount: int
    currency: str
    customer: str | None
    description: str | None
    metadata: Mapping[str, str]
    status: str = "requires_payment_method"
    method: str | None = None
    kind: str = "card"
    charge: str | None = None
    decline: Decline | None = None
    tries: int = 0
    cancellation_reason: str | None = None
    refunds: Mapping[str, int] = field(default_factory=dict)

    @property
    def refunded(self) -> int:
        return sum(self.refunds.values())

    def shown(self) -> Body:
        return {
            "id": self.id,
            "object": "payment_intent",
            "created": self.created,
            "livemode": False,
            "amount": self.amount,
            "amount_capturable": 0,
            "amount_received": self.amount if self.status == "succeeded" else 0,
            "currency": self.currency,
            "customer": self.customer,
            "description": self.description,
            "metadata": self.metadata,
            "status": self.status,
            "payment_method": self.method,
            "payment_method_types": [self.kind],
            "latest_charge": self.charge,
            "last_payment_error": self.decline.shown() if self.decline else None,
            "capture_method": "automatic_async",
            "confirmation_method": "automatic",
            "client_secret": f"{self.id}_secret_sandbox",
            "canceled_at": None,
            "cancellation_reason": self.cancellation_reason,
            "next_action": None,
            "setup_future_usage": None,
        }


@dataclass(frozen=True, slots=True)
class Refund:
    id: str
    created: int
    amount: int
    currency: str
    intent: str
    charge: str | None
    reason: str | None
    metadata: Mapping[str, str]

    def shown(self) -> Body:
        return {
            "id": self.id,
            "object": "refund",
            "created": self.created,
            "amount": self.amount,
            "currency": self.currency,
            "payment_intent": self.intent,
            "charge": self.charge,
            "reason": self.reason,
            "metadata": self.metadata,
            "status": "succeeded",
        }
