"""Pages that go on behind a row of several keys: their `next` is those keys as JSON, and is sent back as `after`.

Lists whose rows have one key of their own (an id, a number) have no `next`: that key is sent as `after`.
"""

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
        raise lost("must be `next` of the page before") from error


def lost(reason: str) -> Refused:
    """What is said of an `after` behind which nothing can be found."""
    return Refused(
        "The page cannot be found.",
        code="invalid_request",
        faults=[Fault("after", reason)],
        remedy="Begin again without it.",
    )
