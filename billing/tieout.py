"""Tie-outs: two ways of arriving at one figure, and what stands behind a difference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that was compared and differs: an invoice, a payment, a customer's meter."""

    what: str
    left: Decimal
    right: Decimal


@dataclass(frozen=True, slots=True)
class TieOut:
    """`left` and `right` must be equal, in `unit` (a currency, or a meter's unit); `items` are those that are not."""

    name: str
    left_label: str
    left: Decimal
    right_label: str
    right: Decimal
    unit: str
    items: tuple[Item, ...]

    @property
    def difference(self) -> Decimal:
        return self.left - self.right

    @property
    def holds(self) -> bool:
        """Differences that cancel out are differences all the same."""
        return not self.items and self.left == self.right


def tie_out(name: str, labels: tuple[str, str], unit: str, rows: Iterable[tuple[str, Decimal, Decimal]]) -> TieOut:
    """Sum up both sides and keep the rows that differ, largest difference first."""
    left = right = Decimal(0)
    items: list[Item] = []
    for what, one, other in rows:
        left, right = left + one, right + other
        if one != other:
            items.append(Item(what, one, other))
    items.sort(key=lambda item: (-abs(item.left - item.right), item.what))
    return TieOut(name, labels[0], left, labels[1], right, unit, tuple(items))
