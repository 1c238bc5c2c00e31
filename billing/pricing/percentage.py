"""A percentage of what was transacted, with a fee for each transaction, a free part, and bounds per transaction.

The quantity is money in the currency of the plan. Transactions count in order of their local day, within a day from
the smallest on. A refund is a transaction with a negative amount: it takes back what a transaction of that amount, had
it been the last one, cost, and gives back what that used of the free part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from billing.errors import Fault
from billing.pricing.charged import Charged, Model, Step, is_price, wrong_prices
from billing.quantity import added_up, less, percent_of, product
from billing.usage import Measured


@dataclass(frozen=True, slots=True)
class Percentage(Model):
    """`percent` of each transaction plus `fixed_fee`.

    Free are the first `free_transactions`, and what lies within the first `free_amount`; where both are set, a
    transaction is free only within both. What a transaction costs is at least `minimum_per_transaction` and at most
    `maximum_per_transaction`, unless it is free.
    """

    percent: Decimal
    fixed_fee: Decimal = Decimal(0)
    free_transactions: int = 0
    free_amount: Decimal = Decimal(0)
    minimum_per_transaction: Decimal | None = None
    maximum_per_transaction: Decimal | None = None
    kind: Literal["percentage"] = "percentage"

    def charge(self, used: Measured) -> Charged:
        if self.per_event():
            return Charged(tuple(_added(self._each(used))))
        return Charged((Step(used.quantity, percent_of(self.percent, Decimal(1))),))

    def per_event(self) -> bool:
        """For anything but the bare percentage, single transactions have to be known."""
        return self != Percentage(self.percent)

    def _each(self, used: Measured) -> Iterator[Step]:
        seen = _Seen()
        for portion in used.own:
            amount = portion.each if portion.each is not None else portion.quantity
            if amount < 0:
                seen.took(amount, portion.events, -1)
                refunded = self._taken(replace(seen), amount.copy_abs(), portion.events)
                yield from (replace(s, quantity=_less(s.quantity), flat_fee=_less(s.flat_fee)) for s in refunded)
            else:
                yield from self._taken(seen, amount, portion.events)

    def _taken(self, seen: _Seen, amount: Decimal, transactions: int) -> Iterator[Step]:
        """`transactions` of `amount` each, after what was seen."""
        if not transactions:
            return
        free = self._wholly_free(seen, amount, transactions)
        if free:
            yield Step(product(amount, Decimal(free)), Decimal(0), label="free")
            seen.took(amount, free)
        rest = transactions - free
        if rest and (part := self._part_free(seen, amount)):
            yield Step(part, Decimal(0), label="free")
            yield self._bounded(less(amount, part), 1)
            seen.took(amount, 1)
            rest -= 1
        if rest:
            yield self._bounded(amount, rest)
            seen.took(amount, rest)

    def _wholly_free(self, seen: _Seen, amount: Decimal, transactions: int) -> int:
        """How many of so many transactions of this amount come within the free part."""
        allowed = []
        if self.free_transactions:
            allowed.append(max(0, self.free_transactions - seen.transactions))
        if self.free_amount:
            left = less(self.free_amount, seen.amount)
            allowed.append(0 if left < amount else transactions if not amount else Fraction(left) // Fraction(amount))
        return min([transactions, *allowed]) if allowed else 0

    def _part_free(self, seen: _Seen, amount: Decimal) -> Decimal:
        """How much of one more transaction lies within the free amount."""
        if not self.free_amount or (self.free_transactions and seen.transactions >= self.free_transactions):
            return Decimal(0)
        return max(Decimal(0), min(less(self.free_amount, seen.amount), amount))

    def _bounded(self, amount: Decimal, transactions: int) -> Step:
        """`transactions` of `amount` each; bounds hold for what each costs."""
        cost = added_up((percent_of(self.percent, amount), self.fixed_fee))
        if self.minimum_per_transaction is not None and cost < self.minimum_per_transaction:
            return Step(Decimal(transactions), self.minimum_per_transaction, label="at the minimum", counts=False)
        if self.maximum_per_transaction is not None and cost > self.maximum_per_transaction:
            return Step(Decimal(transactions), self.maximum_per_transaction, label="at the maximum", counts=False)
        fees, rate = product(self.fixed_fee, Decimal(transactions)), percent_of(self.percent, Decimal(1))
        return Step(product(amount, Decimal(transactions)), rate, fees, label="by the percentage")

    def faults(self, *, negative: bool = False) -> tuple[Fault, ...]:
        names = ["percent", "fixed_fee", "minimum_per_transaction", "maximum_per_transaction"]
        found = list(wrong_prices(self, names, negative=negative))
        if not is_price(self.free_amount):
            found.append(Fault("free_amount", "must be a number, and not negative"))
        if self.free_transactions < 0:
            found.append(Fault("free_transactions", "must not be negative"))
        low, high = self.minimum_per_transaction, self.maximum_per_transaction
        if not found and low is not None and high is not None and high < low:
            found.append(Fault("maximum_per_transaction", f"must not be below the minimum, {low}"))
        return tuple(found)


@dataclass(slots=True)
class _Seen:
    """How far the free part is used up."""

    transactions: int = 0
    amount: Decimal = Decimal(0)

    def took(self, amount: Decimal, transactions: int, each: Literal[1, -1] = 1) -> None:
        """So many transactions of `amount` more; `each` counts -1 where they are refunds."""
        self.transactions += transactions * each
        self.amount = added_up((self.amount, product(amount, Decimal(transactions))))


def _less(figure: Decimal) -> Decimal:
    """The same taken back; exact, as a sign in front would not be."""
    return figure.copy_negate() if figure else figure


def _added(steps: Iterator[Step]) -> list[Step]:
    """Steps of one label and unit price as one."""
    found: dict[tuple[str, Decimal], Step] = {}
    for step in steps:
        key = (step.label, step.unit_price)
        if before := found.get(key):
            quantity = added_up((before.quantity, step.quantity))
            fees = added_up((before.flat_fee, step.flat_fee))
            found[key] = replace(step, quantity=quantity, flat_fee=fees)
        else:
            found[key] = step
    return list(found.values())
