"""Usage events as they are kept, each in its month; what each is known by, and what came in conflict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from operator import itemgetter
from struct import unpack
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ARRAY, JSON, Column, Text
from sqlmodel import Field, Session, SQLModel

from models.database import FEW, Part, all_written, array_literals, columns, copy_texts, cursor, in_utc
from models.values import large, moment


class UsageEvent(SQLModel, table=True):
    """One event as it came; (`source`, `id`) makes it one, whatever its time says. Kept by month of `occurred_at`."""

    __tablename__ = "usage_event"
    source: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    customer_id: str
    type: str
    occurred_at: datetime = moment()
    received_at: datetime = moment()
    day: date
    data: Any = Field(sa_column=Column(JSON, nullable=False))
    meters: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    batch: int = large()


IS_VOID = "exists (select from usage_void v where v.source = e.source and v.id = e.id)"
"""In SQL, whether the event `e` does not count any more (models/correction.py)."""


class UsageConflict(SQLModel, table=True):
    """Another content under the name of an event that counts or waits already; each content once."""

    __tablename__ = "usage_conflict"
    source: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    content: int = large(primary_key=True)
    customer_id: str | None
    event: Any = Field(sa_column=Column(JSON, nullable=False))
    received_at: datetime = moment()


class Event(msgspec.Struct, frozen=True, gc=False):
    """A usage event as sent; `data` carries what meters count. (`source`, `id`) makes it one.

    A dataclass would do, but making one takes a microsecond more, of the twenty that an event costs.
    """

    source: str
    id: str
    subject: str
    type: str
    occurred_at: datetime
    data: dict[str, object]

    @property
    def data_as_sent(self) -> str:
        return _AS_SENT.encode(self.data).decode()

    @property
    def as_sent(self) -> str:
        """The whole event as JSON, its numbers digit by digit."""
        return _AS_SENT.encode(
            {
                "source": self.source,
                "id": self.id,
                "subject": self.subject,
                "type": self.type,
                "time": self.occurred_at,
                "data": self.data,
            }
        ).decode()


AS_STORED = msgspec.json.Decoder(dict[str, object], float_hook=Decimal)
"""Reads an event's data as it was sent, numbers exact."""
_AS_SENT = msgspec.json.Encoder(decimal_format="number")
_SORTED = msgspec.json.Encoder(decimal_format="number", order="sorted")


class Named(msgspec.Struct, frozen=True, gc=False):
    """An event with what it is known by. Made as often as events are, and so a structure likewise."""

    event: Event
    key: str
    """16 bytes of a digest of its name, as hexadecimal digits."""
    content: int
    """A digest of all but its name. Another order of fields is no other content, other digits are."""
    at: str
    """Its time in UTC."""

    @staticmethod
    def key_of(source: str, id: str) -> str:
        return sha256(_with_length(source) + id.encode()).hexdigest()[:32]

    @classmethod
    def of(cls, event: Event) -> Named:
        return cls.all_of([event])[0]

    @classmethod
    def all_of(cls, events: Sequence[Event]) -> list[Named]:
        """Of many at once the JSON costs a third less: it is written as lines, of which none holds an end of line."""
        moments = [in_utc(e.occurred_at) for e in events]
        said = _SORTED.encode_lines([(e.subject, e.type, at, e.data) for e, at in zip(events, moments, strict=True)])
        keys = [cls.key_of(e.source, e.id) for e in events]
        return list(map(cls, events, keys, _contents_of(said.splitlines()), all_written(moments)))


@lru_cache(maxsize=4096)
def _with_length(source: str) -> bytes:
    """As the name of an event begins: no two names are written alike."""
    written = source.encode()
    return b"%d:%b" % (len(written), written)


def written_without_subject(event: Event) -> bytes:
    """All but its name and its customer's, as its content is written; for `content_under`."""
    return _SORTED.encode(("", event.type, in_utc(event.occurred_at), event.data)).removeprefix(b'[""')


def content_under(subject: str, written: bytes) -> int:
    """The content of an event that is written without its subject, had it come with this one."""
    return _contents_of([b"[%b%b" % (_SORTED.encode(subject), written)])[0]


def _contents_of(lines: Sequence[bytes]) -> list[int]:
    """The first 8 bytes of a digest of each. One that is 0 would be ANY_CONTENT."""
    digests = b"".join([sha256(line).digest()[:8] for line in lines])
    return [content or 1 for content in unpack(f">{len(lines)}q", digests)]


def digest_of(key: str, content: int) -> int:
    """What an event adds to the digest of a set of events: 128 bits, the same as `usage_digest` in SQL."""
    return int.from_bytes(sha256(f"{key}{content}".encode()).digest()[:16])


ANY_CONTENT = 0
"""The digest of an event that came before digests were kept: whatever comes under its name is the same again."""


def hold_months(session: Session) -> None:
    """Until the commit no month of events is made or taken away (models/event_month.py). Whoever will need it takes it
    before it reads any event: who makes a month has it alone, and waits for those who read.
    """
    cursor(session).execute("select pg_advisory_xact_lock_shared(hashtext('usage months'))")


_STORE_FEW = """
insert into usage_event (source, id, customer_id, type, occurred_at, day, data, meters)
select source, id, customer_id, type, occurred_at, day, data, meters::text[]
from slot, unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::date[], %s::json[],
                  %s::text[]) as e (source, id, customer_id, type, occurred_at, day, data, meters)
"""


def store_many(session: Session, rows: Sequence[tuple[Named, str, date, Sequence[str]]]) -> list[Part]:
    """Keep events, each with its customer, its local day and the meters that counted it; few are left to be entered
    with their totals (models/slot.py), which is a statement less.

    Those of a customer together, and so side by side in its index: COPY of many costs a sixth less.
    """
    if not rows:
        return []
    named, customer_ids, days, meters = zip(*sorted(rows, key=itemgetter(1)), strict=True)
    events = [one.event for one in named]
    found: dict[str, Sequence[str]] = {
        "source": [e.source for e in events],
        "id": [e.id for e in events],
        "customer_id": customer_ids,
        "type": [e.type for e in events],
        "occurred_at": [one.at for one in named],
        "day": list(map({day: str(day) for day in set(days)}.__getitem__, days)),
        "data": _AS_SENT.encode_lines([e.data for e in events]).decode().split("\n")[:-1],
        "meters": ["{" + ",".join(f'"{meter}"' for meter in counted) + "}" for counted in meters],
    }
    if len(rows) < FEW:
        return [Part(_STORE_FEW, array_literals(found.values()))]
    copy_texts(session, "usage_event", found)
    return []


def store_conflicts(session: Session, found: Sequence[tuple[Named, str | None]]) -> None:
    """Keep what came under the name of another event, with its customer if that is known."""
    if found:
        rows = [(e.event.source, e.event.id, e.content, customer_id or "", e.event.as_sent) for e, customer_id in found]
        cursor(session).execute(
            "insert into usage_conflict (source, id, content, customer_id, event)"
            " select source, id, content, nullif(customer_id, ''), event from unnest(%s::text[], %s::text[],"
            " %s::bigint[], %s::text[], %s::json[]) as c (source, id, content, customer_id, event)"
            " order by 1, 2, 3 on conflict do nothing",
            columns(rows, 5),
        )


class Conflicting(NamedTuple):
    """What came under the name of another event; `event` is JSON as it was sent."""

    source: str
    id: str
    content: int
    customer_id: str | None
    event: str
    received_at: datetime


def conflicts(
    session: Session, customer_id: str | None, after: tuple[str, str, int] | None, limit: int
) -> list[Conflicting]:
    """A page of what came in conflict, of one customer or all, in order of source, id and content, behind `after`."""
    source, id, content = after or (None, None, None)
    rows = cursor(session).execute(
        "select source, id, content, customer_id, event::text, received_at from usage_conflict"
        " where (%(customer)s::text is null or customer_id = %(customer)s)"
        " and (%(source)s::text is null or (source, id, content) > (%(source)s, %(id)s, %(content)s::bigint))"
        " order by source, id, content limit %(limit)s",
        {"customer": customer_id, "source": source, "id": id, "content": content, "limit": limit},
    )
    return [Conflicting(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Voided:
    """Why an event does not count any more, by whose key, since when, and by source and id what counts instead."""

    reason: str
    by: str
    at: datetime
    instead: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as it is kept; `data` is JSON as it was sent."""

    source: str
    id: str
    customer_id: str
    type: str
    occurred_at: datetime
    received_at: datetime
    day: date
    data: str
    meters: tuple[str, ...]
    voided: Voided | None


class Narrowed(NamedTuple):
    """Events behind a total of less than days: from one moment up to but not including another, and with these values
    of fields, an empty one where they have none. With a type, those of it that the meter does not count.
    """

    since: datetime | None = None
    until: datetime | None = None
    properties: tuple[tuple[str, str], ...] = ()
    uncounted: str | None = None


Place = tuple[datetime, str, str]
"""Where a page begins: behind the event of that time, source and id."""


def events_of(
    session: Session,
    customer_id: str,
    between: tuple[date, date],
    meter_id: str | None,
    after: Place | None,
    limit: int,
    narrowed: Narrowed | None = None,
) -> list[Stored]:
    """A page of a customer's events of local days, the second not included, in order of time, source and id.

    With a meter, only those that it counts: the events behind its total, or what it does not count; void ones are
    among neither. Without, they are.
    """
    first, last = between
    narrowed = narrowed or Narrowed()
    rows = cursor(session).execute(
        "select source, id, customer_id, type, occurred_at, received_at, day, data::text, counted_by(meters),"
        " reason, by_key, voided_at, instead_source, instead_id from usage_event e"
        " left join lateral (select reason, by_key, voided_at, instead_source, instead_id from usage_void v"
        " where v.source = e.source and v.id = e.id) v on true"
        " where customer_id = %(customer)s and day >= %(first)s and day < %(last)s"
        # Local days lie within a day of the same days in UTC, by which events are found.
        " and occurred_at >= %(first)s::date - 1 and occurred_at < %(last)s::date + 1"
        " and (%(meter)s::text is null or (%(meter)s = any(counted_by(meters))) = (%(uncounted)s::text is null)"
        " and voided_at is null)"
        " and (%(uncounted)s::text is null or type = %(uncounted)s)"
        " and occurred_at >= coalesce(%(since)s::timestamptz, '-infinity')"
        " and occurred_at < coalesce(%(until)s::timestamptz, 'infinity')"
        " and not exists (select from unnest(%(names)s::text[], %(values)s::text[]) as p (name, value) where p.value <>"
        # A number as dimensions have it: with its decimals, without an exponent.
        " coalesce(case json_typeof(data -> name) when 'number' then (data ->> name)::numeric::text"
        " else data ->> name end, ''))"
        " and (%(time)s::timestamptz is null or (occurred_at, source, id) > (%(time)s, %(source)s, %(id)s))"
        " order by occurred_at, source, id limit %(limit)s",
        {
            "customer": customer_id,
            "first": first,
            "last": last,
            "meter": meter_id,
            "since": narrowed.since,
            "until": narrowed.until,
            "names": [name for name, _ in narrowed.properties],
            "values": [value for _, value in narrowed.properties],
            "uncounted": narrowed.uncounted,
            "time": after[0] if after else None,
            "source": after[1] if after else None,
            "id": after[2] if after else None,
            "limit": limit,
        },
    )
    return [
        Stored(source, key, who, kind, at, received_at, day, data, tuple(meters), _voided(*void))
        for source, key, who, kind, at, received_at, day, data, meters, *void in rows
    ]


def _voided(
    reason: str | None, by: str | None, at: datetime | None, other: str | None, its: str | None
) -> Voided | None:
    if reason is None or by is None or at is None:
        return None
    return Voided(reason, by, at, None if other is None or its is None else (other, its))


def make_months(session: Session, first: date, months: int) -> list[date]:
    """Partitions for so many months from that of `first` on; those that are new."""
    rows = cursor(session).execute(
        "select month::date from generate_series(date_trunc('month', %(first)s::timestamp),"
        " date_trunc('month', %(first)s::timestamp) + (%(months)s - 1) * interval '1 month', '1 month') as month"
        " where make_usage_month(month::date) order by 1",
        {"first": first, "months": months},
    )
    return [month for (month,) in rows]
