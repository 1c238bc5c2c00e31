"""Pages that go on behind a row of several keys: their `next` is those keys as JSON, and is sent back as `after`."""

from __future__ import annotations

import json
from typing import TypeVar

import msgspec

from billing.errors import Fault, Refused

T = TypeVar("T")


def behind(*keys: object) -> str:
    """What to send as `after` for what follows the row with these keys."""
    return json.dumps(keys)


def place(after: str, keys: msgspec.json.Decoder[T]) -> T | None:
    """The keys in `after`; None of an empty one. Refused if it is no such `next`."""
    if not after:
        return None
    try:
        return keys.decode(after)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused(
            "The page cannot be found.",
            code="invalid_request",
            faults=[Fault("after", "must be `next` of the page before")],
            remedy="Begin again without it.",
        ) from error
