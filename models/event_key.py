"""The names of events: each is entered once and for ever, by whoever comes first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from operator import attrgetter

from psycopg.errors import UniqueViolation
from sqlmodel import Field, Session, SQLModel

from models.database import FEW, columns, copy_texts, cursor
from models.event import Named
from models.values import large, moment


class UsageKey(SQLModel, table=True):
    """An event was taken in; `content` is a digest of all but its name, `occurred_at` tells in which month it lies."""

    __tablename__ = "usage_key"
    key: str = Field(primary_key=True)
    content: int = large()
    occurred_at: datetime = moment()


class _Trust:
    """Whether names are taken for new, if they are not few: not if of many some were known of late, as duplicates
    seldom come alone.

    Of a process. That threads of it may count one transaction less or more does no harm.
    """

    TRANSACTIONS = 30
    """For so many of them a known name is remembered. What is entered in vain is dead weight in the table, and a line
    in the log of PostgreSQL."""

    def __init__(self) -> None:
        self._doubted = 0

    def takes_for_new(self) -> bool:
        """Asked once for each transaction."""
        trusted = self._doubted <= 0
        self._doubted -= 1
        return trusted

    def saw_a_known_name(self) -> None:
        self._doubted = self.TRANSACTIONS


_trust = _Trust()


def take_keys(session: Session, named: Sequence[Named]) -> dict[str, int]:
    """Enter keys, each once in `named`; those that were there before, with the digest of what then came.

    Whoever enters the same key at the same time waits for this transaction. In order of keys, so that two never wait
    for each other. One that is forgotten at that moment (models/event_month.py) is entered anew.
    """
    ordered = sorted(named, key=attrgetter("key"))
    if len(ordered) < FEW:
        return _entered(session, ordered)
    if _trust.takes_for_new() and _entered_as_new(session, ordered):
        return {}
    known = _entered(session, ordered)
    if known:
        _trust.saw_a_known_name()
    return known


def _entered_as_new(session: Session, named: Sequence[Named]) -> bool:
    """Whether all were new; if one was not, none is entered. To ask of each whether it is new takes half as long again,
    or longer.
    """
    try:
        with session.begin_nested():  # The transaction goes on either way.
            copy_texts(
                session,
                "usage_key",
                {
                    "key": [e.key for e in named],
                    "content": [str(e.content) for e in named],
                    "occurred_at": [e.at for e in named],
                },
            )
    except UniqueViolation:
        return False
    return True


def _entered(session: Session, named: Sequence[Named]) -> dict[str, int]:
    asked = cursor(session).execute(
        "with fresh as (insert into usage_key (key, content, occurred_at)"
        " select * from unnest(%s::uuid[], %s::bigint[], %s::timestamptz[]) on conflict do nothing returning key)"
        # Nearly always all are, and to read which takes as long as to enter them.
        " select count(*), case when count(*) < %s then array_agg(key)::text[] end from fresh",
        [*columns([(e.key, e.content, e.at) for e in named], 3), len(named)],
    )
    many, fresh = asked.fetchall()[0]
    if many == len(named):
        return {}
    there = {e.key for e in named} - {key.replace("-", "") for key in fresh or ()}
    known = contents_of(session, there)
    forgotten = [e for e in named if e.key in there and e.key not in known]
    return known | _entered(session, forgotten) if forgotten else known


def contents_of(session: Session, keys: Collection[str]) -> dict[str, int]:
    """Those keys that were entered before, with the digest of what then came."""
    rows = cursor(session).execute(
        "select key, content from usage_key where key = any(%s::uuid[])", columns([(key,) for key in keys], 1)
    )
    return {key.hex: content for key, content in rows}
