"""Whether an event is the one whose name it has, though it calls their customer by another name.

Of a stored event only the customer's id is kept, whichever of its names the sender used. So an event that was exported
and comes again has another subject than it came with, and a digest of its content that is not the one that was kept.
Only those that would be in conflict are looked at here: what is new costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sqlmodel import Session

from models.customer import aliases_of
from models.event import Event, Named, content_under, written_without_subject

MOST_WORK = 1_000_000
"""So many digests are made for the events of one transaction, where one of a kilobyte counts as two: a second or two,
in which others may wait for its locks. It is enough for 10,000 events of which each may have come by 100 names.
"""
_KILOBYTE = 1000


class Unlike(NamedTuple):
    """An event, the content by which its name is known, which is another one, and the event's customer."""

    named: Named
    kept: int
    customer_id: str


def the_same(session: Session, unlike: Mapping[int, Unlike], work: int | None = None) -> set[int]:
    """The places of those that have the content which was kept, under one of their customer's names.

    For want of work some may stay in conflict that are the same: nothing counts twice by that.
    """
    if not unlike:
        return set()
    aliases = aliases_of(session, list({one.customer_id for one in unlike.values()}))
    names = {customer_id: Names([customer_id, *some]) for customer_id, some in aliases.items()}
    left, same = MOST_WORK if work is None else work, set[int]()
    for n, one in unlike.items():
        tried, found = names[one.customer_id].call(one.named.event, one.kept, left)
        left -= tried
        if found:
            same.add(n)
    return same


class Names:
    """A customer's names. By which an event was known last comes first, as a sender uses the same for many."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)

    def call(self, event: Event, kept: int, work: int | None = None) -> tuple[int, bool]:
        """How much work it was to look, of so much, and whether the event has that content under one of the names."""
        written = written_without_subject(event)
        each = 1 + len(written) // _KILOBYTE
        most = len(self._names) if work is None else min(len(self._names), work // each)
        for n, name in enumerate(self._names[:most]):
            if content_under(name, written) == kept:
                self._names.insert(0, self._names.pop(n))
                return (n + 1) * each, True
        return most * each, False
