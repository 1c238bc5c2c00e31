"""What can be asked of customers and payment methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from stripe.params import CustomerCreateParams, CustomerRetrieveParams, PaymentMethodAttachParams
from stripe.params import PaymentMethodRetrieveParams as MethodRetrieveParams

from sandbox.stripe.account import Account, Cause, now
from sandbox.stripe.answers import ApiError, Body, invalid, missing
from sandbox.stripe.outcomes import DECLINED_AT_ATTACH, DECLINES, TEST_METHODS
from sandbox.stripe.resources import Customer, Method


def create_customer(account: Account, cause: Cause, params: CustomerCreateParams) -> Body:
    customer = Customer(
        account.new_id("cus", cause),
        now(),
        params.get("name"),
        params.get("email"),
        params.get("description"),
        metadata_of(params.get("metadata")),
    )
    account.customers[customer.id] = customer
    return customer.shown()


def retrieve_customer(account: Account, name: str, params: CustomerRetrieveParams) -> Body:
    return find_customer(account, name, in_path=True).shown()


def retrieve_method(account: Account, name: str, params: MethodRetrieveParams) -> Body:
    """A test method is shown under its own name, as a method that nobody has yet."""
    method = account.methods.get(name) or _loose(name, name)
    if method is None:
        raise missing("PaymentMethod", name, param="payment_method", in_path=True)
    return method.shown()


def attach_method(account: Account, cause: Cause, name: str, params: PaymentMethodAttachParams) -> Body:
    """Attaching a test method makes a new one from it; the cards that decline at once do so here too."""
    customer = find_customer(account, params.get("customer", ""), in_path=False)
    method = usable_method(account, cause, name, in_path=True)
    if method.customer is not None:
        raise invalid("The payment method you provided has already been attached to a customer.")
    if method.used_loose:
        raise _worn_out()
    if word := DECLINED_AT_ATTACH.get(method.origin):
        raise ApiError(402, **DECLINES[word].shown())
    attached = replace(method, customer=customer.id)
    account.methods[attached.id] = attached
    return attached.shown()


def find_customer(account: Account, name: str, *, in_path: bool) -> Customer:
    customer = account.customers.get(name)
    if customer is None:
        raise missing("customer", name, param="customer", in_path=in_path)
    return customer


def usable_method(account: Account, cause: Cause, name: str, *, in_path: bool = False) -> Method:
    """The method of that name, or a new one made from a test method of that name."""
    method = account.methods.get(name) or _loose(name, account.new_id("pm", cause))
    if method is None:
        raise missing("PaymentMethod", name, param="payment_method", in_path=in_path)
    return method


def chargeable_method(account: Account, cause: Cause, name: str, customer: str | None) -> Method:
    """The method, if this customer may be charged with it; one that nobody has works only once."""
    method = usable_method(account, cause, name)
    if method.customer is not None and method.customer != customer:
        raise invalid(
            f"The payment method {method.id} belongs to another customer than the one you supplied.",
            param="payment_method",
        )
    if method.used_loose:
        raise _worn_out()
    return method


def metadata_of(given: object) -> Mapping[str, str]:
    return cast("dict[str, str]", given) if isinstance(given, dict) else {}


def _loose(origin: str, method_id: str) -> Method | None:
    if origin not in TEST_METHODS:
        return None
    return Method(method_id, now(), origin, "us_bank_account" if "usBankAccount" in origin else "card")


def _worn_out() -> ApiError:
    return invalid(
        "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment, "
        "or was detached from a Customer. It may not be used again.",
        param="payment_method",
    )
