"""Whether an event is the one whose name it has, though it calls their customer by another name.

Of a stored event only the customer's id is kept, whichever of its names the sender used. So an event that was exported
and comes again has another subject than it came with, and a digest of its content that is not the one that was kept.
Only those that would be in conflict are looked at here: what is new costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace
from sqlmodel import Session

from models.customer import aliases_of
from models.event import Event, Named


class Unlike(NamedTuple):
    """An event, the content by which its name is known, which is another one, and the event's customer."""

    named: Named
    kept: int
    customer_id: str


def the_same(session: Session, unlike: Mapping[int, Unlike]) -> set[int]:
    """The places of those that have the content which was kept, under one of their customer's names."""
    aliases = aliases_of(session, list({one.customer_id for one in unlike.values()})) if unlike else {}
    return {
        n
        for n, one in unlike.items()
        if is_called(one.named.event, [one.customer_id, *aliases[one.customer_id]], one.kept)
    }


def is_called(event: Event, names: Sequence[str], kept: int) -> bool:
    """Whether the event has that content with one of these subjects."""
    return any(Named.of(replace(event, subject=name)).content == kept for name in names)
