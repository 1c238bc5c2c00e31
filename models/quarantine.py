"""Events that wait: of no known customer, or of a time that cannot be right. Kept whole, and sent again when somebody
has said whose they are, or that the time is meant. How one is discarded is told by models/discard.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import JSON, Column
from sqlmodel import Field, Session, SQLModel

from billing.time_bounds import TimeBounds
from models.database import columns, cursor
from models.event import ANY_CONTENT, AS_STORED, Event, Named
from models.same_event import Unlike, the_same
from models.values import large, moment

UNKNOWN = "unknown customer"
WAITS = "replayed_at is null and discarded_at is null"

HeldBy = Literal["subject", "time"]
"""The field for which an event waits: nobody is known by its subject, or its time is out of bounds."""
Name = tuple[str, str]
"""Source and id."""


class UsageQuarantine(SQLModel, table=True):
    """An event that waits, kept whole until it is replayed, or for ever if it is discarded; `field` says for which of
    its fields.

    `customer_id` is whose it is, once that is known: what becomes of it is then counted there. Until then `duplicates`
    and `conflicts` count what came under its name again.
    """

    __tablename__ = "usage_quarantine"
    source: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    subject: str
    event: Any = Field(sa_column=Column(JSON, nullable=False))
    reason: str
    field: str
    content: int = large()
    customer_id: str | None = None
    duplicates: int = large(default=0)
    conflicts: int = large(default=0)
    received_at: datetime = moment()
    replayed_at: datetime | None = moment(default=None)
    discarded_at: datetime | None = moment(default=None)
    discarded_by: str | None = None
    discarded_because: str | None = None


class Held(NamedTuple):
    """An event that is to wait, why, and whose it is if that is known."""

    named: Named
    field: HeldBy
    reason: str
    customer_id: str | None

    @property
    def name(self) -> Name:
        return self.named.event.source, self.named.event.id


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that waits. `duplicates` and `conflicts` came under its name and are in nobody's audit yet."""

    event: Event
    customer_id: str | None
    duplicates: int
    conflicts: int

    @property
    def name(self) -> Name:
        return self.event.source, self.event.id


def keep(session: Session, held: Sequence[Held]) -> list[Literal["quarantined", "duplicate", "conflict"]]:
    """Keep events, the first under each name; of the others, whether they are the same again or in conflict with it."""
    if not held:
        return []
    first: dict[Name, Held] = {}
    for one in held:
        first.setdefault(one.name, one)
    kept = _enter(session, list(first.values()))
    contents = {name: one.named.content for name, one in first.items()}
    contents |= _contents(session, [name for name in first if name not in kept])
    told: list[Literal["quarantined", "duplicate", "conflict"]] = []
    for one in held:
        if one.name in kept and first[one.name] is one:
            told.append("quarantined")
        else:
            told.append("duplicate" if contents[one.name] in (one.named.content, ANY_CONTENT) else "conflict")
    unlike = {
        n: Unlike(one.named, contents[one.name], one.customer_id)
        for n, (one, kind) in enumerate(zip(held, told, strict=True))
        if kind == "conflict" and one.customer_id is not None
    }
    for n in the_same(session, unlike):
        told[n] = "duplicate"
    again = Counter((one.name, kind) for one, kind in zip(held, told, strict=True) if one.customer_id is None)
    _count_again(session, {name: (again[name, "duplicate"], again[name, "conflict"]) for name in first})
    return told


def _enter(session: Session, held: Sequence[Held]) -> set[Name]:
    """The names of those that are new here. In order, so that two who enter the same never wait for each other."""
    rows = [
        (*one.name, one.named.event.subject, one.named.event.as_sent, one.named.content, one.field, one.reason)
        for one in held
    ]
    whose = [one.customer_id for one in held]
    kept = cursor(session).execute(
        "insert into usage_quarantine (source, id, subject, event, content, field, reason, customer_id)"
        " select * from unnest(%s::text[], %s::text[], %s::text[], %s::json[], %s::bigint[], %s::text[], %s::text[],"
        " %s::text[]) order by 1, 2 on conflict do nothing returning source, id",
        [*columns(rows, 7), whose],
    )
    return set(kept.fetchall())


def _contents(session: Session, names: Sequence[Name]) -> dict[Name, int]:
    """What came first under these names; nobody else counts what comes again meanwhile."""
    if not names:
        return {}
    rows = cursor(session).execute(
        "select source, id, content from usage_quarantine"
        " where (source, id) in (select * from unnest(%s::text[], %s::text[]))"
        " order by source, id for no key update",
        columns(names, 2),
    )
    return {(source, key): content for source, key, content in rows}


def _count_again(session: Session, again: dict[Name, tuple[int, int]]) -> None:
    rows = [(*name, *counts) for name, counts in again.items() if any(counts)]
    if rows:
        cursor(session).execute(
            "update usage_quarantine q set duplicates = q.duplicates + n.duplicates,"
            " conflicts = q.conflicts + n.conflicts"
            " from unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[]) as n (source, id, duplicates, conflicts)"
            " where q.source = n.source and q.id = n.id",
            columns(rows, 4),
        )


def discarded_among(session: Session, known: Sequence[tuple[str, str, int]]) -> set[Name]:
    """Those of known names, each with the content by which it is known, that are so because they were discarded."""
    if not known:
        return set()
    rows = cursor(session).execute(
        "select q.source, q.id from unnest(%s::text[], %s::text[], %s::bigint[]) as n (source, id, content)"
        " join usage_quarantine q on q.source = n.source and q.id = n.id and q.content in (n.content, 0)"
        " where q.discarded_at is not null",
        columns(known, 3),
    )
    return set(rows.fetchall())


def waiting(
    session: Session, subjects: Sequence[str] | None, limit: int, bounds: TimeBounds | None = None
) -> list[Waiting]:
    """Events that wait, those first that may fit by now: of subjects that are known, and within the bounds, if any."""
    now = datetime.now(UTC)
    first, last = bounds.around(now, now) if bounds else (None, None)
    rows = cursor(session).execute(
        f"select {_WHOLE} from usage_quarantine q where {WAITS}"
        " and (%(subjects)s::text[] is null or subject = any(%(subjects)s))"
        " order by (exists (select from customer c where c.id = q.subject)"
        " or exists (select from customer_alias a where a.alias = q.subject))"
        " and (field <> 'time' or %(first)s::timestamptz is null"
        " or (event ->> 'time')::timestamptz between %(first)s and %(last)s) desc, source, id limit %(limit)s",
        {"subjects": subjects, "limit": limit, "first": first, "last": last},
    )
    return [_waiting(*row) for row in rows]


def hold_of_subject(
    session: Session, subject: str, by: HeldBy | None, limit: int, after: Name = ("", "")
) -> list[Waiting]:
    """Events of a subject that wait, for one of the fields if it is given, in order of their names, behind `after`;
    until the commit nobody else sends them again. Without those of which the same came meanwhile, and counts.
    """
    rows = cursor(session).execute(
        f"select {_WHOLE} from usage_quarantine q where {WAITS} and subject = %s and (%s::text is null or field = %s)"
        " and not exists (select from usage_key k where k.key = usage_key_of(q.source, q.id)"
        " and k.content in (q.content, 0)) and (source, id) > (%s, %s) order by source, id limit %s for no key update",
        (subject, by, by, *after, limit),
    )
    return [_waiting(*row) for row in rows]


def hold_named(session: Session, names: Sequence[Name]) -> list[Waiting]:
    """Those of these events that wait; until the commit nobody else sends them again."""
    rows = cursor(session).execute(
        f"select {_WHOLE} from usage_quarantine where {WAITS}"
        " and (source, id) in (select * from unnest(%s::text[], %s::text[])) order by source, id for no key update",
        columns(names, 2),
    )
    return [_waiting(*row) for row in rows]


def hold(session: Session, some: Sequence[Waiting]) -> list[Waiting]:
    """Those of them that wait still, as they are now; until the commit nobody else sends them again."""
    rows = cursor(session).execute(
        "select source, id, customer_id, duplicates, conflicts from usage_quarantine"
        " where (source, id) in (select * from unnest(%s::text[], %s::text[]))"
        f" and {WAITS} order by source, id for no key update",
        columns([one.name for one in some], 2),
    )
    events = {one.name: one for one in some}
    return [
        replace(events[source, key], customer_id=customer_id, duplicates=duplicates, conflicts=conflicts)
        for source, key, customer_id, duplicates, conflicts in rows
    ]


def release(session: Session, settled: Sequence[tuple[Waiting, str]]) -> None:
    """These wait no longer: they are stored, or known from elsewhere. Each with its customer."""
    rows = [(*one.name, customer_id) for one, customer_id in settled]
    if rows:
        cursor(session).execute(
            "update usage_quarantine q set replayed_at = now(),"
            " customer_id = n.customer_id, duplicates = 0, conflicts = 0"
            " from unnest(%s::text[], %s::text[], %s::text[]) as n (source, id, customer_id)"
            " where q.source = n.source and q.id = n.id",
            columns(rows, 3),
        )
        _attribute_conflicts(session, rows)


def hold_for_time(session: Session, found: Sequence[tuple[Waiting, str, str]]) -> None:
    """These wait on, because of their time: whose they are is known now. Each with its customer and the reason."""
    rows = [(*one.name, customer_id, reason) for one, customer_id, reason in found]
    if rows:
        cursor(session).execute(
            "update usage_quarantine q set field = 'time', reason = n.reason,"
            " customer_id = n.customer_id, duplicates = 0, conflicts = 0"
            " from unnest(%s::text[], %s::text[], %s::text[], %s::text[]) as n (source, id, customer_id, reason)"
            " where q.source = n.source and q.id = n.id",
            columns(rows, 4),
        )
        _attribute_conflicts(session, [(source, key, customer_id) for source, key, customer_id, _ in rows])


def _attribute_conflicts(session: Session, rows: Sequence[tuple[str, str, str]]) -> None:
    """What came in conflict under these names, while nobody was known, is from now on told of their customers."""
    cursor(session).execute(
        "update usage_conflict c set customer_id = n.customer_id"
        " from unnest(%s::text[], %s::text[], %s::text[]) as n (source, id, customer_id)"
        " where c.source = n.source and c.id = n.id and c.customer_id is null",
        columns(rows, 3),
    )


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An event that waits, why, and for which of its fields; `customer_id` is null while nobody is known. Or one that
    was discarded: when, by which key, and why.
    """

    source: str
    id: str
    subject: str
    customer_id: str | None
    type: str
    time: datetime
    field: HeldBy
    reason: str
    received_at: datetime
    discarded_at: datetime | None
    discarded_by: str | None
    discarded_because: str | None


def count_waiting(session: Session, subject: str | None, by: HeldBy | None = None) -> int:
    """How many events wait; of one subject, or for one of the fields, if these are given."""
    [(found,)] = cursor(session).execute(
        f"select count(*) from usage_quarantine where {WAITS}"
        " and (%(subject)s::text is null or subject = %(subject)s) and (%(by)s::text is null or field = %(by)s)",
        {"subject": subject, "by": by},
    )
    return int(found)


Place = tuple[datetime, str, str]
"""Where a page of what waits ends: when the event came, its source and its id."""


def quarantined(
    session: Session,
    limit: int,
    subject: str | None = None,
    by: HeldBy | None = None,
    after: Place | None = None,
    *,
    discarded: bool = False,
) -> list[Quarantined]:
    """What waits, or was discarded, oldest first, behind `after`; of one subject, or for one of the fields, if these
    are given.
    """
    received_at, source, key = after or (None, None, None)
    rows = cursor(session).execute(
        "select source, id, subject, customer_id, event ->> 'type', (event ->> 'time')::timestamptz, field, reason,"
        " received_at, discarded_at, discarded_by, discarded_because from usage_quarantine"
        f" where {'discarded_at is not null' if discarded else WAITS}"
        " and (%(subject)s::text is null or subject = %(subject)s) and (%(by)s::text is null or field = %(by)s)"
        " and (%(at)s::timestamptz is null or (received_at, source, id) > (%(at)s, %(source)s, %(key)s))"
        " order by received_at, source, id limit %(limit)s",
        {"subject": subject, "by": by, "limit": limit, "at": received_at, "source": source, "key": key},
    )
    return [Quarantined(*row) for row in rows]


_WHOLE = (
    "source, id, subject, event ->> 'type', (event ->> 'time')::timestamptz, event ->> 'data', customer_id, duplicates,"
    " conflicts"
)


def _waiting(
    source: str,
    id: str,
    subject: str,
    kind: str,
    at: datetime,
    data: str,
    customer_id: str | None,
    duplicates: int,
    conflicts: int,
) -> Waiting:
    """Of a row of `_WHOLE`."""
    return Waiting(Event(source, id, subject, kind, at, AS_STORED.decode(data)), customer_id, duplicates, conflicts)
