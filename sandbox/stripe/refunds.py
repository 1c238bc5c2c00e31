"""What can be asked of refunds: money goes back at once, and never more than came."""

from __future__ import annotations

from dataclasses import replace

from stripe.params import RefundCreateParams, RefundRetrieveParams

from sandbox.stripe.account import Account, Cause, now
from sandbox.stripe.answers import Body, invalid, missing
from sandbox.stripe.customers import metadata_of
from sandbox.stripe.resources import Intent, Refund


def create_refund(account: Account, cause: Cause, params: RefundCreateParams) -> Body:
    intent = _paid_intent(account, params)
    left = intent.amount - intent.refunded
    amount = params.get("amount", left)
    if left == 0:
        raise invalid(f"Charge {intent.charge} has already been refunded.", code="charge_already_refunded")
    if not 1 <= amount <= left:
        raise invalid(f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})", param="amount")
    refund = Refund(
        account.new_id("re", cause),
        now(),
        amount,
        intent.currency,
        intent.id,
        intent.charge,
        params.get("reason"),
        metadata_of(params.get("metadata")),
    )
    account.refunds[refund.id] = refund
    account.keep(replace(intent, refunds={**intent.refunds, refund.id: amount}))
    return refund.shown()


def retrieve_refund(account: Account, name: str, params: RefundRetrieveParams) -> Body:
    refund = account.refunds.get(name)
    if refund is None:
        raise missing("refund", name, param="refund", in_path=True)
    return refund.shown()


def _paid_intent(account: Account, params: RefundCreateParams) -> Intent:
    if charge := params.get("charge"):
        intent = next((one for one in account.intents.values() if one.charge == charge), None)
        absent = missing("charge", charge, param="charge")
    elif name := params.get("payment_intent"):
        intent = account.intents.get(name)
        absent = missing("payment_intent", name, param="payment_intent")
    else:
        raise invalid("One of the following params should be provided: payment_intent, charge.")
    if intent is None:
        raise absent
    if intent.status != "succeeded":
        raise invalid(f"{intent.id} does not have a successful charge to refund.", param="payment_intent")
    return intent
