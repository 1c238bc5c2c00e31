"""The control surface under `/_sandbox/`: what the demo and the tests arrange, and what they look at. JSON both ways.

POST   /_sandbox/outcomes         {"customer" | "payment_method": id, "outcomes": [word, ...]}
POST   /_sandbox/faults           {"kind", "method", "path", "count", "retry_after", "seconds"}
GET    /_sandbox/outcomes | faults | payment_intents | webhooks
DELETE /_sandbox/faults           none to come any more; requests that hang go on
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from sandbox.stripe.account import Account
from sandbox.stripe.answers import Answer, Body, invalid
from sandbox.stripe.faults import Fault, Faults
from sandbox.stripe.idempotency import Keys
from sandbox.stripe.outcomes import OUTCOMES


@checked(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class _Outcomes:
    outcomes: list[str]
    customer: str | None = None
    payment_method: str | None = None


@checked(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class _DuplicateWebhook:
    """The next `count` events are delivered twice."""

    kind: Literal["duplicate_webhook"]
    count: Annotated[int, Field(ge=1)] = 1


T = TypeVar("T")
_OUTCOMES = TypeAdapter(_Outcomes)
_FAULT: TypeAdapter[Fault | _DuplicateWebhook] = TypeAdapter(_DuplicateWebhook | Fault)


@dataclass(frozen=True, slots=True)
class Control:
    account: Account
    faults: Faults
    keys: Keys

    def answer(self, method: str, path: str, content: bytes) -> Answer:
        match method, path.removeprefix("/_sandbox/"):
            case "POST", "outcomes":
                return Answer(200, self._arrange(content))
            case "POST", "faults":
                return Answer(200, self._spoil(content))
            case "DELETE", "faults":
                self.faults.clear()
                self.account.doubled_events = 0
                return Answer(200, self.faults.shown())
            case "DELETE", "idempotency_keys":
                self.keys.forget()
                return Answer(200, {})
            case "GET", "faults":
                return Answer(200, self.faults.shown())
            case "GET", "outcomes":
                return Answer(200, {"waiting": self.account.outcomes.waiting()})
            case "GET", "payment_intents":
                with self.account.lock:
                    return Answer(200, {"data": [one.shown() for one in self.account.intents.values()]})
            case "GET", "webhooks":
                return Answer(200, {"data": self.account.webhooks.shown()})
        raise invalid(f"There is no {method} {path}; see sandbox/stripe/control.py.", status=404)

    def _arrange(self, content: bytes) -> Body:
        order = _read(_OUTCOMES, content)
        owner = order.customer or order.payment_method
        if owner is None:
            raise invalid("Say whose outcomes these are: customer or payment_method.", param="customer")
        if unknown := sorted(set(order.outcomes) - OUTCOMES):
            raise invalid(f"Unknown: {unknown}. There are {sorted(OUTCOMES)}.", param="outcomes")
        self.account.outcomes.add(owner, order.outcomes)
        return {"waiting": self.account.outcomes.waiting()}

    def _spoil(self, content: bytes) -> Body:
        fault = _read(_FAULT, content)
        if isinstance(fault, Fault):
            self.faults.add(fault)
        else:
            with self.account.lock:
                self.account.doubled_events += fault.count
        return self.faults.shown()


def _read(adapter: TypeAdapter[T], content: bytes) -> T:
    try:
        return adapter.validate_json(content)
    except ValidationError as refusal:
        raise invalid(str(refusal)) from None
