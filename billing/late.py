"""What becomes of usage that comes after its window was billed: a meter's policy, one of four values.

How the policies are carried out is in billing/late_usage.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from billing.errors import Fault, Refused
from billing.money import CURRENCIES, Money, exponent

HIGHEST = Decimal(10**12)


@dataclass(frozen=True, slots=True)
class NextInvoice:
    """The difference is a line of the next invoice, named as late."""

    kind: Literal["next_invoice"] = "next_invoice"


@dataclass(frozen=True, slots=True)
class CreditAndRebill:
    """The next invoice gives back what was billed for the window, and bills the whole window afresh."""

    kind: Literal["credit_and_rebill"] = "credit_and_rebill"


@dataclass(frozen=True, slots=True)
class Below:
    """An amount in units of a currency."""

    currency: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class IgnoreBelow:
    """Nothing, while the difference of a window is below the amount in the subscription's currency; all of it, once it
    is not. In currencies that are not named, every difference is billed.
    """

    amounts: tuple[Below, ...]
    kind: Literal["ignore_below"] = "ignore_below"

    def ignores(self, net: Money) -> bool:
        """Whether a difference of so much, up or down, is too small."""
        return any(abs(net.major) < below.amount for below in self.amounts if below.currency == net.currency)


@dataclass(frozen=True, slots=True)
class Hold:
    """A person is asked whether it is billed or waived."""

    kind: Literal["hold"] = "hold"


Late = NextInvoice | CreditAndRebill | IgnoreBelow | Hold
NEXT_INVOICE = NextInvoice()


def in_words(late: Late) -> str:
    """What becomes of it, as it stands in a sentence."""
    match late:
        case NextInvoice():
            return "billed on the next invoice"
        case CreditAndRebill():
            return "credited and billed again"
        case IgnoreBelow():
            return "ignored below " + ", ".join(f"{below.amount:,f} {below.currency}" for below in late.amounts)
        case Hold():
            return "held for a person"


def late_faults(late: Late) -> Iterator[Fault]:
    """Faults of a policy: amounts that are none, or no amounts of their currency."""
    if not isinstance(late, IgnoreBelow):
        return
    if not late.amounts:
        yield Fault("late.amounts", "at least one is needed: below which amount a difference is ignored")
    yield from (
        Fault(f"late.amounts.{i}.{field}", reason)
        for i, below in enumerate(late.amounts)
        for field, reason in _amount_faults(below, late.amounts[:i])
    )


def _amount_faults(below: Below, before: Sequence[Below]) -> Iterator[tuple[str, str]]:
    known = below.currency in CURRENCIES
    if not known:
        yield "currency", f"{below.currency!r} is not an ISO 4217 currency in use"
    elif any(other.currency == below.currency for other in before):
        yield "currency", f"{below.currency!r} is listed more than once"
    if not below.amount.is_finite() or not 0 < below.amount < HIGHEST:
        yield "amount", "must be above zero and below 10^12"
    elif known and below.amount != round(below.amount, exponent(below.currency)):
        yield "amount", f"must be whole minor units, of which {below.currency} has {exponent(below.currency)} decimals"


def to_be_billed(answer: str) -> bool:
    """What a person decided about held usage: the first word is `bill` or `waive`. Refused if it is neither."""
    word = re.match(r"\s*(bill|waive)\b", answer, re.IGNORECASE)
    if word is None:
        fault = Fault("answer", "must begin with the word bill or waive; a reason may follow")
        remedy = "Answer `bill` or `waive`, and why."
        raise Refused("The answer does not say what to do.", code="unclear_answer", faults=[fault], remedy=remedy)
    return word[1].lower() == "bill"
