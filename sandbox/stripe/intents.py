"""What can be asked of payment intents, and how a charge runs from confirmation to its end."""

from __future__ import annotations

from dataclasses import replace

from stripe.params import (
    PaymentIntentCancelParams,
    PaymentIntentConfirmParams,
    PaymentIntentCreateParams,
    PaymentIntentListParams,
    PaymentIntentListParamsCreated,
    PaymentIntentRetrieveParams,
)

from sandbox.stripe.account import Account, Cause, derived, now
from sandbox.stripe.answers import ApiError, Body, invalid, missing
from sandbox.stripe.customers import chargeable_method, find_customer, metadata_of
from sandbox.stripe.outcomes import DECLINES, TEST_METHODS
from sandbox.stripe.resources import Decline, Intent, Method

# Stripe's smallest charges, in the smallest unit of each currency; others are not checked.
_SMALLEST = {"usd": 50, "eur": 50, "gbp": 30, "chf": 50, "jpy": 50}
_LARGEST = 99_999_999
# Currencies with a third decimal, which must be zero; and those written with two decimals that must be zero.
_MULTIPLES = dict.fromkeys(("bhd", "jod", "kwd", "omr", "tnd"), 10) | dict.fromkeys(("isk", "ugx"), 100)


def create_intent(account: Account, cause: Cause, params: PaymentIntentCreateParams) -> Body:
    currency = params["currency"].lower()
    _check_amount(params["amount"], currency)
    if "off_session" in params and not params.get("confirm"):
        raise invalid("off_session can only be used with confirm=true.", param="off_session")
    customer = params.get("customer")
    if customer is not None:
        find_customer(account, customer, in_path=False)
    intent = Intent(
        account.new_id("pi", cause),
        now(),
        params["amount"],
        currency,
        customer,
        params.get("description"),
        metadata_of(params.get("metadata")),
    )
    method = None
    if name := params.get("payment_method"):
        method = chargeable_method(account, cause, name, customer)
        account.methods[method.id] = method
        intent = replace(intent, status="requires_confirmation", method=method.id, kind=method.kind)
    if params.get("confirm"):
        return _charge(account, cause, intent, method, bool(params.get("off_session"))).shown()
    return account.keep(intent).shown()


def confirm_intent(account: Account, cause: Cause, name: str, params: PaymentIntentConfirmParams) -> Body:
    intent = _find(account, name)
    if intent.status not in ("requires_payment_method", "requires_confirmation"):
        raise invalid(
            f"You cannot confirm this PaymentIntent because it has a status of {intent.status}.",
            code="payment_intent_unexpected_state",
        )
    chosen = params.get("payment_method") or intent.method
    method = chargeable_method(account, cause, chosen, intent.customer) if chosen else None
    return _charge(account, cause, intent, method, bool(params.get("off_session"))).shown()


def cancel_intent(account: Account, cause: Cause, name: str, params: PaymentIntentCancelParams) -> Body:
    """Nothing can be paid any more. What went wrong before is still shown."""
    intent = _find(account, name)
    if intent.status not in ("requires_payment_method", "requires_confirmation", "requires_action"):
        raise invalid(
            f"You cannot cancel this PaymentIntent because it has a status of {intent.status}.",
            code="payment_intent_unexpected_state",
        )
    reason = params.get("cancellation_reason")
    canceled = account.keep(replace(intent, status="canceled", cancellation_reason=reason))
    account.tell("payment_intent.canceled", canceled, cause)
    return canceled.shown()


def retrieve_intent(account: Account, name: str, params: PaymentIntentRetrieveParams) -> Body:
    return _find(account, name).shown()


def list_intents(account: Account, params: PaymentIntentListParams) -> Body:
    """Newest first, `limit` at a time (10 unless told, 100 at most)."""
    customer, limit = params.get("customer"), params.get("limit", 10)
    if not 1 <= limit <= 100:
        raise invalid("This value must be between 1 and 100.", param="limit")
    names = list(account.intents) if customer is None else list(account.intents_of.get(customer, ()))
    names.reverse()
    if (asked := params.get("created")) is not None:
        names = [name for name in names if _made(account.intents[name], asked)]
    if after := params.get("starting_after"):
        if after not in names:
            raise missing("payment_intent", after, param="starting_after")
        names = names[names.index(after) + 1 :]
    page = [account.intents[name].shown() for name in names[:limit]]
    return {"object": "list", "url": "/v1/payment_intents", "has_more": len(names) > limit, "data": page}


def _made(intent: Intent, asked: PaymentIntentListParamsCreated | int) -> bool:
    """Whether it was made when it is asked for, in seconds since 1970."""
    if isinstance(asked, int):
        return intent.created == asked
    first, last = asked.get("gte", 0), asked.get("lte", intent.created)
    after, before = asked.get("gt", -1), asked.get("lt", intent.created + 1)
    return first <= intent.created <= last and after < intent.created < before


def _charge(account: Account, cause: Cause, intent: Intent, method: Method | None, off_session: bool) -> Intent:
    """Ask the bank, as it were. A decline is stored, told by webhook, and raised as the 402 that Stripe sends."""
    if method is None:
        raise invalid(
            "You cannot confirm this PaymentIntent because it's missing a payment method.",
            code="payment_intent_unexpected_state",
        )
    intent = replace(
        intent,
        tries=intent.tries + 1,
        method=method.id,
        kind=method.kind,
        charge=derived("ch", f"{intent.id}/{intent.tries}"),
        decline=None,
    )
    account.methods[method.id] = replace(method, used_loose=method.customer is None)
    word = _outcome_of(account, intent, method)
    if word == "authentication_required" and not off_session:
        word = "requires_action"
    if word.startswith("requires_action"):
        waiting = account.keep(replace(intent, status="requires_action", charge=None))
        if word == "requires_action_then_succeeded":
            _succeed(account, cause, intent)
        return waiting
    if word in DECLINES:
        raise _declined(account, cause, intent, DECLINES[word])
    if word == "succeeded":
        return _succeed(account, cause, intent)
    pending = account.keep(replace(intent, status="processing"))
    account.tell("payment_intent.processing", pending, cause)
    if word != "processing":
        account.later.after(account.settle_after, lambda: settle(account, intent.id, word))
    return pending


def settle(account: Account, name: str, word: str) -> None:
    """The bank's late answer to a pending payment; one that is pending no longer stays as it is."""
    with account.lock:
        intent = account.intents[name]
        if intent.status != "processing":
            return
        if word == "processing_then_succeeded":
            _succeed(account, Cause(), intent)
        else:
            _fail(account, Cause(), intent, DECLINES["insufficient_funds"])


def _outcome_of(account: Account, intent: Intent, method: Method) -> str:
    payer = account.customers.get(intent.customer or "")
    return (
        account.outcomes.take(
            intent.metadata.get("perennial_customer"),
            payer.metadata.get("perennial_customer") if payer else None,
            method.id,
            method.origin,
        )
        or TEST_METHODS[method.origin]
    )


def _succeed(account: Account, cause: Cause, intent: Intent) -> Intent:
    paid = account.keep(replace(intent, status="succeeded"))
    account.tell("payment_intent.succeeded", paid, cause)
    return paid


def _fail(account: Account, cause: Cause, intent: Intent, decline: Decline) -> Intent:
    failed = account.keep(replace(intent, status="requires_payment_method", method=None, decline=decline))
    account.tell("payment_intent.payment_failed", failed, cause)
    return failed


def _declined(account: Account, cause: Cause, intent: Intent, decline: Decline) -> ApiError:
    failed = _fail(account, cause, intent, decline)
    return ApiError(402, **decline.shown(), charge=failed.charge, payment_intent=failed.shown())


def _find(account: Account, name: str) -> Intent:
    intent = account.intents.get(name)
    if intent is None:
        raise missing("payment_intent", name, param="intent", in_path=True)
    return intent


def _check_amount(amount: int, currency: str) -> None:
    if amount < 1:
        raise invalid(
            "This value must be greater than or equal to 1.", param="amount", code="parameter_invalid_integer"
        )
    if amount < _SMALLEST.get(currency, 1):
        raise invalid(
            f"Amount must be at least {_SMALLEST[currency]} in the smallest unit of {currency}.",
            param="amount",
            code="amount_too_small",
        )
    if amount > _LARGEST:
        raise invalid("Amount must be no more than 99999999.", param="amount", code="amount_too_large")
    multiple = _MULTIPLES.get(currency, 1)
    if amount % multiple:
        raise invalid(f"Invalid amount: must be a multiple of {multiple} in {currency}.", param="amount")
