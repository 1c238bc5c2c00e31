"""Tiers, as several models have them: cumulative bounds that belong to the tier below and may be fractional.

A sliver above a bound lies in the next tier. The first tier begins at zero and is always open; a total below zero
(usage reversed beyond what was used) lies in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol, TypeVar

from billing.errors import Fault
from billing.pricing.charged import NEGATIVE, is_price
from billing.quantity import less


class Bounded(Protocol):
    """A tier of any model: up to and including `up_to`, None being without end."""

    @property
    def up_to(self) -> Decimal | None: ...


T = TypeVar("T", bound=Bounded)


@dataclass(frozen=True, slots=True)
class Tier:
    """Units above the tier before, up to and including `up_to`; None is without end."""

    up_to: Decimal | None
    rate: Decimal
    flat_fee: Decimal = Decimal(0)


def passed(tiers: Sequence[T], quantity: Decimal) -> Iterator[tuple[T, Decimal]]:
    """The tiers that a quantity reaches, each with how much of it lies inside."""
    floor = Decimal(0)
    for tier in tiers:
        if tier.up_to is None or quantity <= tier.up_to:
            yield tier, less(quantity, floor) if floor else quantity
            return
        yield tier, less(tier.up_to, floor)
        floor = tier.up_to


def reached(tiers: Sequence[T], quantity: Decimal) -> T:
    """The one tier in which the whole quantity ends."""
    return next(tier for tier in tiers if tier.up_to is None or quantity <= tier.up_to)


def named(tiers: Sequence[T], tier: T) -> str:
    """Where a tier lies: 'above 100 up to 200'."""
    at = tiers.index(tier)
    below = tiers[at - 1].up_to if at else None
    begins = f"above {below:,f}" if below is not None else ""
    ends = f"up to {tier.up_to:,f}" if tier.up_to is not None else ""
    return " ".join(part for part in (begins, ends) if part) or "any quantity"


def wrong_tiers(tiers: Sequence[T], prices: Sequence[str], *, negative: bool = False) -> tuple[Fault, ...]:
    """Faults of bounds (overlap, gap, no last tier) and of the named prices of each tier."""
    if not tiers:
        return (Fault("tiers", "at least one tier is needed"),)
    found: list[Fault] = []
    floor = Decimal(0)
    for i, tier in enumerate(tiers):
        last = i == len(tiers) - 1
        found += [
            Fault(f"tiers.{i}.{name}", NEGATIVE)
            for name in prices
            if not is_price(getattr(tier, name), negative=negative)
        ]
        if last and tier.up_to is not None:
            found.append(Fault(f"tiers.{i}.up_to", "the last tier must be without end (null)"))
        elif not last and tier.up_to is None:
            found.append(Fault(f"tiers.{i}.up_to", "only the last tier may be without end"))
        elif tier.up_to is not None:
            if not tier.up_to.is_finite() or tier.up_to <= floor:
                found.append(Fault(f"tiers.{i}.up_to", f"must be above {floor}, where the tier before ends"))
            else:
                floor = tier.up_to
    return tuple(found)
