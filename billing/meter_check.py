"""By which fields of its events a meter may keep its totals apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from billing.errors import Fault

MOST_DIMENSIONS = 5
LONGEST_NAME = 100
# Names and values of the dimensions are part of a key, and a key has to fit on a third of a page.
MOST_BYTES = 400
LONGEST_VALUE = 100
"""A dimension's value has at most so many characters as text; a longer one counts as none."""


def dimension_faults(dimensions: Sequence[str], quantity_field: str) -> Iterator[Fault]:
    """Faults of a meter's dimensions, which must be other fields than the one that is added up."""
    if len(dimensions) > MOST_DIMENSIONS:
        yield Fault("dimensions", f"are {len(dimensions)}; a meter has at most {MOST_DIMENSIONS}")
    elif sum(len(name.encode()) for name in dimensions) > MOST_BYTES:
        yield Fault("dimensions", f"have names of more than {MOST_BYTES} bytes together")
    for i, name in enumerate(dimensions):
        if not 1 <= len(name) <= LONGEST_NAME:
            yield Fault(f"dimensions.{i}", f"must have 1 to {LONGEST_NAME} characters")
        elif name in dimensions[:i]:
            yield Fault(f"dimensions.{i}", f"{name!r} stands more than once")
        elif name == quantity_field:
            yield Fault(f"dimensions.{i}", f"{name!r} is what is added up; `per_event` keeps its values apart")
