"""How a charge ends: Stripe's well-known test methods, the declines behind them, and the queue that overrules them.

Words for an outcome are `succeeded`, `processing`, `processing_then_succeeded`, `processing_then_failed`,
`requires_action` (the payer has to confirm), `requires_action_then_succeeded` (and does so as soon as that was
answered), or the name of a decline such as `insufficient_funds`.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence

from sandbox.stripe.resources import Decline

_STOP = "do_not_try_again"
_LATER = "try_again_later"

DECLINES: Mapping[str, Decline] = {
    "generic_decline": Decline("card_declined", "generic_decline", "Your card was declined.", _LATER),
    "insufficient_funds": Decline("card_declined", "insufficient_funds", "Your card has insufficient funds.", _LATER),
    "do_not_honor": Decline("card_declined", "do_not_honor", "Your card was declined.", _LATER),
    "card_velocity_exceeded": Decline(
        "card_declined",
        "card_velocity_exceeded",
        "Your card was declined for making repeated attempts too frequently or exceeding its amount limit.",
        _LATER,
    ),
    "fraudulent": Decline("card_declined", "fraudulent", "Your card was declined.", _STOP),
    "lost_card": Decline("card_declined", "lost_card", "Your card was declined.", _STOP),
    "stolen_card": Decline("card_declined", "stolen_card", "Your card was declined.", _STOP),
    "expired_card": Decline("expired_card", "expired_card", "Your card has expired."),
    "incorrect_number": Decline("incorrect_number", "incorrect_number", "Your card number is incorrect."),
    "incorrect_cvc": Decline("incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect."),
    "processing_error": Decline(
        "processing_error",
        "processing_error",
        "An error occurred while processing your card. Try again in a little bit.",
    ),
    "authentication_required": Decline(
        "authentication_required",
        "authentication_required",
        "Your card was declined. This transaction requires authentication.",
    ),
    "debit_not_authorized": Decline(
        "debit_not_authorized",
        "debit_not_authorized",
        "The customer has notified their bank that this debit was unauthorized.",
    ),
}
OUTCOMES = frozenset(DECLINES) | {
    "succeeded",
    "processing",
    "processing_then_succeeded",
    "processing_then_failed",
    "requires_action",
    "requires_action_then_succeeded",
}

# Methods that answer like a real card from the first moment, and so cannot be attached to a customer.
_DECLINED = {
    "chargeDeclined": "generic_decline",
    "chargeDeclinedInsufficientFunds": "insufficient_funds",
    "chargeDeclinedLostCard": "lost_card",
    "chargeDeclinedStolenCard": "stolen_card",
    "chargeDeclinedFraudulent": "fraudulent",
    "chargeDeclinedExpiredCard": "expired_card",
    "chargeDeclinedIncorrectCvc": "incorrect_cvc",
    "chargeDeclinedProcessingError": "processing_error",
    "chargeDeclinedVelocityLimitExceeded": "card_velocity_exceeded",
}
DECLINED_AT_ATTACH: Mapping[str, str] = {
    f"{brand}_{name}": word for name, word in _DECLINED.items() for brand in ("pm_card", "pm_card_visa")
}
TEST_METHODS: Mapping[str, str] = {
    **dict.fromkeys(
        ("pm_card_visa", "pm_card_visa_debit", "pm_card_mastercard", "pm_card_amex", "pm_card_discover"),
        "succeeded",
    ),
    **DECLINED_AT_ATTACH,
    "pm_card_chargeCustomerFail": "generic_decline",
    "pm_card_authenticationRequired": "authentication_required",
    "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds": "insufficient_funds",
    "pm_usBankAccount_success": "processing_then_succeeded",
    "pm_usBankAccount_processing": "processing",
    "pm_usBankAccount_insufficientFunds": "processing_then_failed",
}


class OutcomeQueue:
    """Outcomes set in advance, first come first served; each new charge takes one, a replay none.

    A queue belongs to one of our customers (`perennial_customer` in the metadata) or to a payment method.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: defaultdict[str, deque[str]] = defaultdict(deque)

    def add(self, owner: str, outcomes: Sequence[str]) -> None:
        with self._lock:
            self._waiting[owner].extend(outcomes)

    def take(self, *owners: str | None) -> str | None:
        """The next outcome of the first of `owners` that has one."""
        with self._lock:
            for owner in owners:
                if owner and self._waiting.get(owner):
                    return self._waiting[owner].popleft()
        return None

    def waiting(self) -> dict[str, list[str]]:
        with self._lock:
            return {owner: list(queue) for owner, queue in self._waiting.items() if queue}
