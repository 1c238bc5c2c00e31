"""An id is the key of one request: the same one may come again and changes nothing, another one is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from billing.errors import Fault, Refused


def others(standing: object, asked: Mapping[str, object]) -> list[str]:
    """The names of what was asked for and is not what stands."""
    return [name for name, value in asked.items() if getattr(standing, name) != value]


def refuse_other(what: str, other: Sequence[str]) -> None:
    """Refuse the request if it has anything other than what stands under its id."""
    if other:
        said = f"belongs to {what} with another {', '.join(other)}"
        raise Refused("This id is taken.", code="conflict", faults=[Fault("id", said)], remedy="Choose a new id.")
