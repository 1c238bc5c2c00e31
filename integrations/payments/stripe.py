"""Stripe, through its official SDK: off-session charges by payment intent, and its signed webhooks.

Requests are never repeated in here; whoever calls does that, and it is safe: every request that makes
something carries an idempotency key of ours, and because Stripe forgets keys after a day, a charge first looks
whether its attempt was made before. What is answered as declined is cancelled first, so that nobody can pay it later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import stripe
from stripe.params import PaymentIntentListParams

from billing.errors import Fault, Refused, Unavailable
from billing.ids import derive
from billing.money import Money, exponent
from integrations.payments import COMPARE_SECRETS, ChargeOrder, Declined, GatewayEvent, Outcome, Paid, Pending

# Codes after which the same card cannot work again (docs.stripe.com/declines/codes).
FINAL_CODES = frozenset(
    "account_closed bank_account_declined canceled card_not_supported currency_not_supported "
    "debit_not_authorized do_not_try_again expired_card fraudulent incorrect_number invalid_account "
    "invalid_number lost_card no_account pickup_card restricted_card revocation_of_all_authorizations "
    "revocation_of_authorization stolen_card stop_payment_order".split()
)

# Where Stripe's smallest unit is not ISO 4217's (docs.stripe.com/currencies): decimal places it counts in.
_STRIPE_PLACES = {"ISK": 2, "UGX": 2, "MGA": 0}
# These have three decimal places, of which the last must be zero.
_LAST_MUST_BE_ZERO = frozenset("BHD JOD KWD OMR TND".split())

_EVENTS = frozenset(f"payment_intent.{name}" for name in ("succeeded", "payment_failed", "processing", "canceled"))
# Can be paid still, by the payer who confirms or by whoever tries another method.
_OPEN = frozenset(("requires_action", "requires_payment_method"))
_BY_US: Literal["abandoned"] = "abandoned"  # the reason that our cancellations give
_CLOCKS_APART = timedelta(hours=1)  # by how much Stripe's clock may be behind ours


class StripeGateway:
    """A `PaymentGateway`. `method_token` is a Stripe payment method (`pm_...`).

    A method that belongs to a Stripe customer is charged there; one that belongs to nobody yet is attached to
    a Stripe customer made for ours. Seconds are for connecting and for waiting for one answer.
    """

    def __init__(
        self,
        api_key: str,
        webhook_secret: str,
        api_base: str = stripe.DEFAULT_API_BASE,
        *,
        connect_seconds: float = 5,
        answer_seconds: float = 30,
    ) -> None:
        self._webhook_secret = webhook_secret
        self._client = stripe.StripeClient(
            api_key,
            base_addresses={"api": api_base},
            max_network_retries=0,
            http_client=stripe.RequestsClient(timeout=(connect_seconds, answer_seconds)),
        )
        self._api = self._client.v1

    def charge(self, order: ChargeOrder) -> Outcome:
        amount = stripe_amount(order.amount)
        with _in_our_errors():
            payer = self._payer(order)
            earlier = self._earlier(payer.customer, order)
            if earlier is None:
                return self._create(payer, order, amount)
            if (earlier.amount, earlier.currency) != (amount, order.amount.currency.lower()):
                raise _key_reused(f"Attempt {order.attempt_id} was for another amount ({earlier.id}).")
            if earlier.status == "requires_confirmation":
                return self._confirm(earlier, order)
            return self._decided(earlier)

    def find(self, order: ChargeOrder) -> Outcome | None:
        with _in_our_errors():
            found = self._earlier(self._owner(order), order)
            if found is not None and found.status == "requires_confirmation":
                found = self._cancelled(found)  # It was stored, and not yet tried when Stripe failed.
            untried = found is None or (found.status == "canceled" and found.last_payment_error is None)
            return None if found is None or untried else self._decided(found)

    def look_up(self, reference: str) -> Outcome:
        with _in_our_errors():
            return self._decided(self._api.payment_intents.retrieve(reference))

    def read_event(self, body: bytes, headers: Mapping[str, str]) -> GatewayEvent | None:
        signature = next((v for k, v in headers.items() if k.lower() == "stripe-signature"), None)
        try:
            event = self._client.construct_event(body, signature, self._webhook_secret)
        except (stripe.SignatureVerificationError, UnicodeDecodeError) as error:
            raise Refused(
                "This webhook is not signed by Stripe, or is too old.",
                code="bad_signature",
                remedy=COMPARE_SECRETS,
            ) from error
        except ValueError as error:
            raise Refused("This webhook is signed but its body is not valid JSON.", code="unreadable_event") from error
        intent = event.data.object
        if event.type not in _EVENTS or not isinstance(intent, stripe.PaymentIntent):
            return None
        attempt_id = intent.metadata.to_dict().get("perennial_attempt")
        return GatewayEvent(event.id, attempt_id, _outcome(intent)) if attempt_id else None

    def _payer(self, order: ChargeOrder) -> _Payer:
        """The Stripe customer to charge and the method, attached to it if the bank let us."""
        method = self._api.payment_methods.retrieve(order.method_token)
        if method.customer is not None:
            owner = method.customer if isinstance(method.customer, str) else method.customer.id
            return _Payer(owner, method.id)
        customer = self._api.customers.create(
            {
                "name": order.customer_name,
                "email": order.customer_email,
                "metadata": {"perennial_customer": order.customer_id},
            },
            # Name and email are in the key because Stripe refuses a key that comes back with other facts.
            {"idempotency_key": derive("cus", order.customer_id, order.customer_name, order.customer_email)},
        )
        try:
            attached = self._api.payment_methods.attach(
                order.method_token,
                {"customer": customer.id},
                {"idempotency_key": derive("attach", customer.id, order.method_token)},
            )
        except stripe.CardError:
            # The charge will be declined as well, and leaves a payment intent that can be looked up.
            return _Payer(customer.id, order.method_token)
        return _Payer(customer.id, attached.id)

    def _owner(self, order: ChargeOrder) -> str | None:
        """The Stripe customer that the method belongs to, if it is there still and belongs to one."""
        try:
            method = self._api.payment_methods.retrieve(order.method_token)
        except stripe.InvalidRequestError:
            return None
        return method.customer if method.customer is None or isinstance(method.customer, str) else method.customer.id

    def _earlier(self, customer: str | None, order: ChargeOrder) -> stripe.PaymentIntent | None:
        """What was made of this attempt before, of that customer or of all; looked for from its start on, however much
        came after it.
        """
        asked: PaymentIntentListParams = {"limit": 100}
        if customer is not None:
            asked["customer"] = customer
        if order.begun_at is not None:
            asked["created"] = {"gte": int((order.begun_at - _CLOCKS_APART).timestamp())}
        since = self._api.payment_intents.list(asked).auto_paging_iter()
        return next(
            (one for one in since if one.metadata.to_dict().get("perennial_attempt") == order.attempt_id),
            None,
        )

    def _create(self, payer: _Payer, order: ChargeOrder, amount: int) -> Outcome:
        try:
            intent = self._api.payment_intents.create(
                {
                    "amount": amount,
                    "currency": order.amount.currency.lower(),
                    "customer": payer.customer,
                    "payment_method": payer.method,
                    "confirm": True,
                    "off_session": True,
                    "description": f"Invoice {order.invoice_id}",
                    "metadata": {
                        "perennial_attempt": order.attempt_id,
                        "perennial_invoice": order.invoice_id,
                        "perennial_customer": order.customer_id,
                    },
                },
                {"idempotency_key": order.attempt_id},
            )
        except stripe.CardError as decline:
            return self._decided(_intent_of(decline))
        return self._decided(intent)

    def _confirm(self, intent: stripe.PaymentIntent, order: ChargeOrder) -> Outcome:
        """Finish an attempt that Stripe had stored but not yet tried when it failed."""
        try:
            confirmed = self._api.payment_intents.confirm(
                intent.id, {"off_session": True}, {"idempotency_key": derive("confirm", order.attempt_id)}
            )
        except stripe.CardError as decline:
            return self._decided(_intent_of(decline))
        return self._decided(confirmed)

    def _decided(self, intent: stripe.PaymentIntent) -> Outcome:
        """What became of it. One that can be paid still is cancelled: only then does it count as declined."""
        return _outcome(intent if intent.status not in _OPEN else self._cancelled(intent) or intent)

    def _cancelled(self, intent: stripe.PaymentIntent) -> stripe.PaymentIntent | None:
        """Cancel it; if it has gone on meanwhile, how it stands now."""
        try:
            self._api.payment_intents.cancel(intent.id, {"cancellation_reason": _BY_US})
        except stripe.InvalidRequestError as error:
            if error.code != "payment_intent_unexpected_state":
                raise
            found = self._api.payment_intents.retrieve(intent.id)
            if found.status in _OPEN:
                raise Unavailable(f"Payment {intent.id} can be paid still, and Stripe does not cancel it.") from error
            return found
        return None


@dataclass(frozen=True, slots=True)
class _Payer:
    customer: str
    method: str


def stripe_amount(money: Money) -> int:
    """In Stripe's smallest unit of the currency. Refused if Stripe cannot express it exactly."""
    places = _STRIPE_PLACES.get(money.currency, exponent(money.currency))
    shift = places - exponent(money.currency)
    factor = int(10 ** abs(shift))
    amount, rest = (money.minor * factor, 0) if shift >= 0 else divmod(money.minor, factor)
    if rest or (money.currency in _LAST_MUST_BE_ZERO and amount % 10):
        raise Refused(
            f"Stripe cannot charge exactly {money}.",
            code="amount_not_chargeable",
            faults=[Fault("amount", "has more decimal places than Stripe takes in this currency")],
            remedy="Collect this invoice in another way, or round its total.",
        )
    return amount


def _outcome(intent: stripe.PaymentIntent) -> Outcome:
    match intent.status:
        case "succeeded":
            return Paid(intent.id)
        case "processing":
            return Pending(intent.id)
        case "canceled" if intent.cancellation_reason != _BY_US:
            return Declined(intent.id, "canceled", "The payment was canceled at Stripe.", final=True)
        case "requires_action" | "requires_payment_method" | "canceled":
            return _declined(intent)
        case other:
            raise Unavailable(f"Payment {intent.id} is {other} at Stripe, which is neither paid nor declined.")


def _declined(intent: stripe.PaymentIntent) -> Declined:
    """Why it is not paid, in the same words before and after our cancellation."""
    error = intent.last_payment_error
    if intent.status == "requires_action" or error is None:
        return Declined(intent.id, "authentication_required", "The payer has to confirm, and did not.")
    facts = error.to_dict()
    code = str(facts.get("decline_code") or facts.get("code") or "generic_decline")
    final = code in FINAL_CODES or facts.get("advice_code") == "do_not_try_again"
    return Declined(intent.id, code, str(facts.get("message") or "The card was declined."), final)


def _intent_of(decline: stripe.CardError) -> stripe.PaymentIntent:
    if decline.error is None or decline.error.payment_intent is None:
        raise Unavailable("Stripe declined the card without naming the payment.") from decline
    return decline.error.payment_intent


@contextmanager
def _in_our_errors() -> Iterator[None]:
    """Stripe's exceptions as ours. A decline has been turned into a value before it comes here."""
    try:
        yield
    except stripe.IdempotencyError as error:
        raise _key_reused(str(error.user_message)) from error
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        raise Refused(
            f"Stripe does not let us in: {error.user_message}",
            code="bad_credentials",
            remedy="Check the Stripe API key in the settings and its permissions.",
        ) from error
    except (stripe.InvalidRequestError, stripe.CardError) as error:
        field = error.param or "request"
        raise Refused(
            f"Stripe refuses the request: {error.user_message}",
            code=error.code or "invalid_request",
            faults=[Fault(field, str(error.user_message))],
            remedy="Look the request up in Stripe's log and correct the invoice, customer or method.",
        ) from error
    except stripe.StripeError as error:
        # No answer, 429, 409 (the key is in use) and 5xx: the effect is unknown, the same request may be repeated.
        raise Unavailable(f"Stripe did not answer: {error.user_message}", after=_wish(error)) from error


def _wish(error: stripe.StripeError) -> timedelta | None:
    stated = (error.headers or {}).get("Retry-After", "")
    return timedelta(seconds=int(stated)) if stated.isdigit() else None


def _key_reused(reason: str) -> Refused:
    return Refused(
        reason,
        code="idempotency_error",
        faults=[Fault("attempt_id", "was used for another charge")],
        remedy="Charge under a new attempt id; look up what the old one did.",
    )
