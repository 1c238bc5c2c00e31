"""The three ways in which work can fail, named after who can mend it.

A declined card, an unknown customer's event or an empty search are answers, not errors: they are returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: the field's path, as the caller wrote it, and why."""

    field: str
    reason: str


class Refused(Exception):
    """A person must act: the request or the data is wrong, and repeating it changes nothing.

    `faults` name the fields. `remedy` says what to do. `code` is a stable word for programs.
    """

    def __init__(self, reason: str, *, code: str = "refused", faults: Sequence[Fault] = (), remedy: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.faults = tuple(faults)
        self.remedy = remedy


class NotFound(Refused):
    """What was named does not exist (for this caller). `meant` is the id that the name is an alias of, if so; `remedy`
    is for what no list shows.
    """

    def __init__(self, kind: str, name: str, meant: str = "", remedy: str = "") -> None:
        super().__init__(
            f"There is no {kind} {name!r}" + (f": it is an alias of {meant}." if meant else "."),
            code="not_found",
            remedy=f"Use the id {meant!r}."
            if meant
            else remedy or f"Check the id; list the {_several(kind)} to see which exist.",
        )


def _several(kind: str) -> str:
    """The plural: 'legal entities', 'keys'."""
    return f"{kind[:-1]}ies" if kind.endswith("y") and kind[-2] not in "aeiou" else f"{kind}s"


class Unavailable(Exception):
    """Time will help: a neighbour is slow, down, or asks to be called later.

    `after` is the neighbour's own wish for when to come back, if it stated one.
    """

    def __init__(self, reason: str, *, after: timedelta | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class Broken(Exception):
    """Our own bug: an invariant does not hold. Never caught to go on; parked and shown with its cause."""
