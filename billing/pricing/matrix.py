"""A matrix: the rate depends on one or more properties of the events, such as region and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from billing.errors import Fault
from billing.portion import Portion
from billing.pricing.charged import NEGATIVE, Charged, Model, Step, is_price, wrong_prices
from billing.usage import Measured

ANY = "*"
Places = Mapping[tuple[str, ...], int]


@dataclass(frozen=True, slots=True)
class Cell:
    """`rate` for units whose properties have these values, in the order of the dimensions; '*' is any value."""

    values: tuple[str, ...]
    rate: Decimal


@dataclass(frozen=True, slots=True)
class Matrix(Model):
    """The first cell that fits prices a unit; what fits none, or lacks a property, has the `default` rate."""

    by: tuple[str, ...]
    cells: tuple[Cell, ...]
    default: Decimal
    kind: Literal["matrix"] = "matrix"

    def dimensions(self) -> tuple[str, ...]:
        return self.by

    def most_steps(self, portions: int) -> int:
        """Cells that leave values open are looked at one by one: a hundred values take as long as a further step."""
        return portions * (1 + (1 + sum(ANY in cell.values for cell in self.cells)) * len(self.by) // 100)

    def charge(self, used: Measured) -> Charged:
        named = {cell.values: no for no, cell in enumerate(self.cells) if ANY not in cell.values}
        open_ = [(no, cell) for no, cell in enumerate(self.cells) if ANY in cell.values]
        return Charged(tuple(self._step(portion, named, open_) for portion in used.own))

    def _step(self, portion: Portion, named: Places, open_: Sequence[tuple[int, Cell]]) -> Step:
        """The first cell that fits: the one that names all the values, or an earlier one that leaves some open."""
        values = tuple(portion.value(name) for name in self.by)
        label = ", ".join(f"{name} {value or '(none)'}" for name, value in zip(self.by, values, strict=True))
        fitting = (no for no, cell in open_ if all(w in (ANY, v) for w, v in zip(cell.values, values, strict=True)))
        no = min(named.get(values, len(self.cells)), next(fitting, len(self.cells)))
        rate = self.cells[no].rate if no < len(self.cells) else self.default
        return Step(portion.quantity, rate, label=label)

    def faults(self, *, negative: bool = False) -> tuple[Fault, ...]:
        found = list(wrong_prices(self, ["default"], negative=negative))
        if not self.by or len(set(self.by)) < len(self.by):
            found.append(Fault("by", "must name one or more properties, each once"))
        seen: set[tuple[str, ...]] = set()
        for i, cell in enumerate(self.cells):
            if len(cell.values) != len(self.by):
                found.append(Fault(f"cells.{i}.values", f"must have {len(self.by)} values, one for each of `by`"))
            elif cell.values in seen:
                found.append(Fault(f"cells.{i}.values", "stand in an earlier cell already, which prices them"))
            seen.add(cell.values)
            if not is_price(cell.rate, negative=negative):
                found.append(Fault(f"cells.{i}.rate", NEGATIVE))
        return tuple(found)
