"""Which request goes where: method, path, the SDK's type of its parameters, and the function that answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from stripe.params import (
    CustomerCreateParams,
    CustomerRetrieveParams,
    PaymentIntentCancelParams,
    PaymentIntentConfirmParams,
    PaymentIntentCreateParams,
    PaymentIntentListParams,
    PaymentIntentRetrieveParams,
    PaymentMethodAttachParams,
    PaymentMethodRetrieveParams,
    RefundCreateParams,
    RefundRetrieveParams,
)

from sandbox.stripe import customers, intents, refunds
from sandbox.stripe.account import Account, Cause
from sandbox.stripe.answers import Body, invalid
from sandbox.stripe.contract import accept

P = TypeVar("P")
Pairs = Sequence[tuple[str, str]]
Work = Callable[[Account, Cause], Body]
Prepare = Callable[[str, Pairs], Work]


@dataclass(frozen=True, slots=True)
class Route:
    """`prepare` checks the parameters and gives the work, which has not begun yet."""

    method: str
    path: re.Pattern[str]
    prepare: Prepare


def find(method: str, path: str, pairs: Pairs) -> Work:
    for route in ROUTES:
        match = route.path.fullmatch(path)
        if match and route.method == method:
            return route.prepare(match["id"] if route.path.groups else "", pairs)
    raise invalid(f"Unrecognized request URL ({method}: {path}).", status=404)


def _creates(path: str, kind: type[P], answer: Callable[[Account, Cause, P], Body]) -> Route:
    def prepare(name: str, pairs: Pairs) -> Work:
        params = accept(kind, pairs)
        return lambda account, cause: answer(account, cause, params)

    return Route("POST", re.compile(path), prepare)


def _changes(path: str, kind: type[P], answer: Callable[[Account, Cause, str, P], Body]) -> Route:
    def prepare(name: str, pairs: Pairs) -> Work:
        params = accept(kind, pairs)
        return lambda account, cause: answer(account, cause, name, params)

    return Route("POST", re.compile(path), prepare)


def _shows(path: str, kind: type[P], answer: Callable[[Account, str, P], Body]) -> Route:
    def prepare(name: str, pairs: Pairs) -> Work:
        params = accept(kind, pairs)
        return lambda account, _: answer(account, name, params)

    return Route("GET", re.compile(path), prepare)


def _lists(path: str, kind: type[P], answer: Callable[[Account, P], Body]) -> Route:
    def prepare(name: str, pairs: Pairs) -> Work:
        params = accept(kind, pairs)
        return lambda account, _: answer(account, params)

    return Route("GET", re.compile(path), prepare)


_ID = r"/(?P<id>[A-Za-z0-9_]+)"
ROUTES = (
    _creates("/v1/customers", CustomerCreateParams, customers.create_customer),
    _shows(f"/v1/customers{_ID}", CustomerRetrieveParams, customers.retrieve_customer),
    _shows(f"/v1/payment_methods{_ID}", PaymentMethodRetrieveParams, customers.retrieve_method),
    _changes(f"/v1/payment_methods{_ID}/attach", PaymentMethodAttachParams, customers.attach_method),
    _creates("/v1/payment_intents", PaymentIntentCreateParams, intents.create_intent),
    _lists("/v1/payment_intents", PaymentIntentListParams, intents.list_intents),
    _changes(f"/v1/payment_intents{_ID}/cancel", PaymentIntentCancelParams, intents.cancel_intent),
    _shows(f"/v1/payment_intents{_ID}", PaymentIntentRetrieveParams, intents.retrieve_intent),
    _changes(f"/v1/payment_intents{_ID}/confirm", PaymentIntentConfirmParams, intents.confirm_intent),
    _creates("/v1/refunds", RefundCreateParams, refunds.create_refund),
    _shows(f"/v1/refunds{_ID}", RefundRetrieveParams, refunds.retrieve_refund),
)
