"""A payment gateway in memory, for tests of other rooms: it keeps the promises of the Protocol and sends nothing.

What is to happen is said in advance (`expect`, `lose_answer`, `down`); what happened is counted (`charges`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass

from billing.errors import Fault, NotFound, Refused, Unavailable
from billing.ids import derive
from integrations.payments import COMPARE_SECRETS, ChargeOrder, Declined, GatewayEvent, Outcome, Paid, Pending

FINAL = frozenset(("expired_card", "lost_card", "stolen_card"))
API_KEY = "pretend-key"
_SECRET = b"pretend-secret"


@dataclass(frozen=True, slots=True)
class Webhook:
    """What the gateway would post to us."""

    body: bytes
    headers: Mapping[str, str]


class PretendGateway:
    """A `PaymentGateway` that any number of threads may use. A key other than `API_KEY` is let in nowhere.

    Set `down` and every request is `Unavailable` until it is unset.
    """

    def __init__(self, api_key: str = API_KEY) -> None:
        self.down = False
        self._api_key = api_key
        self._lock = threading.Lock()
        self._expected: defaultdict[str, deque[str]] = defaultdict(deque)
        self._answers_to_lose = 0
        self._orders: dict[str, ChargeOrder] = {}
        self._outcomes: dict[str, Outcome] = {}

    def charge(self, order: ChargeOrder) -> Outcome:
        with self._lock:
            self._let_in()
            reference = derive("pay", order.attempt_id)
            earlier = self._orders.get(reference)
            if earlier is None:
                self._orders[reference] = order
                self._outcomes[reference] = self._decide(reference, order)
            elif earlier.amount != order.amount:
                raise Refused(
                    f"Attempt {order.attempt_id} was for another amount.",
                    code="idempotency_error",
                    faults=[Fault("attempt_id", "was used for another charge")],
                )
            if self._answers_to_lose:
                self._answers_to_lose -= 1
                raise Unavailable("The answer was lost.")
            return self._outcomes[reference]

    def find(self, order: ChargeOrder) -> Outcome | None:
        with self._lock:
            self._let_in()
            return self._outcomes.get(derive("pay", order.attempt_id))

    def look_up(self, reference: str) -> Outcome:
        with self._lock:
            self._let_in()
            if reference not in self._outcomes:
                raise NotFound("payment", reference)
            return self._outcomes[reference]

    def read_event(self, body: bytes, headers: Mapping[str, str]) -> GatewayEvent | None:
        given = next((value for name, value in headers.items() if name.lower() == "pretend-signature"), "")
        if not hmac.compare_digest(_signature(body), given):
            said = "This webhook is not signed by the pretend gateway."
            raise Refused(said, code="bad_signature", remedy=COMPARE_SECRETS)
        facts = json.loads(body)
        if facts["kind"] != "payment":
            return None
        outcome = _outcome(facts["reference"], facts["outcome"])
        return GatewayEvent(facts["event_id"], facts["attempt_id"], outcome)

    def expect(self, customer_id: str, *outcomes: str) -> None:
        """How the customer's next new charges end: `succeeded`, `pending`, or the code of a decline."""
        with self._lock:
            self._expected[customer_id].extend(outcomes)

    def lose_answer(self, times: int = 1) -> None:
        """The next charges have their effect, and then the caller gets `Unavailable`."""
        with self._lock:
            self._answers_to_lose += times

    def settle(self, reference: str, outcome: str = "succeeded") -> Webhook:
        """Decide a pending payment, and get the signed webhook that tells so."""
        with self._lock:
            order = self._orders[reference]
            self._outcomes[reference] = _outcome(reference, outcome)
        return signed(
            {
                "kind": "payment",
                "event_id": derive("evt", reference, outcome),
                "attempt_id": order.attempt_id,
                "reference": reference,
                "outcome": outcome,
            }
        )

    @property
    def charges(self) -> tuple[ChargeOrder, ...]:
        """Every charge that had an effect (paid, pending or declined), once, in the order of their coming."""
        with self._lock:
            return tuple(self._orders.values())

    def _let_in(self) -> None:
        if self.down:
            raise Unavailable("The pretend gateway is down.")
        if self._api_key != API_KEY:
            raise Refused("The pretend gateway does not know this key.", code="bad_credentials")

    def _decide(self, reference: str, order: ChargeOrder) -> Outcome:
        expected = self._expected[order.customer_id]
        return _outcome(reference, expected.popleft() if expected else "succeeded")


def signed(facts: Mapping[str, str]) -> Webhook:
    """A webhook with a good signature; of a `kind` other than `payment` it is one that nobody uses."""
    body = json.dumps(facts).encode()
    return Webhook(body, {"Pretend-Signature": _signature(body)})


def _signature(body: bytes) -> str:
    return hmac.new(_SECRET, body, hashlib.sha256).hexdigest()


def _outcome(reference: str, word: str) -> Outcome:
    match word:
        case "succeeded":
            return Paid(reference)
        case "pending":
            return Pending(reference)
        case code:
            return Declined(reference, code, f"The pretend bank says {code}.", final=code in FINAL)
