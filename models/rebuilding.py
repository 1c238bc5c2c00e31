"""Carrying out a rebuild (models/rebuild.py): opened while nobody sends, counted and compared while everybody does,
swapped by one row, and what does not hold taken away afterwards.

What makes it exact is one moment at which no event is being taken in. Events stored before it are counted here; every
event since is added to both totals by whoever takes it in, because they read under their lock that a rebuild is open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from sqlmodel import Session

from billing.catalog import Meter
from billing.counting import Span, with_span
from billing.errors import Fault, Refused
from billing.folding import Clocks, Folding
from billing.period import zone
from models import catalog
from models.afresh import Counted, lock_afresh
from models.customer import lock_roots
from models.database import columns, connection, cursor
from models.event import AS_STORED, IS_VOID, digest_of, hold_months
from models.intake import hold_all
from models.meter_version import put_spans, spans
from models.rebuild import MeterRebuild, ToDo, misfits, open_of
from models.subscription import forget_seen

EVENTS_AT_ONCE = 20_000
"""Counted in one transaction, and in memory; a customer's day with more of them has a transaction for itself."""
CUSTOMERS_AT_ONCE = 250
ROWS_AT_ONCE = 5_000


def how(session: Session, row: MeterRebuild) -> Meter:
    """How the rebuild counts."""
    found = cursor(session).execute(
        f"select {catalog.columns_of('c')} from meter_rebuild r join meter m on m.id = r.meter_id"
        " cross join lateral jsonb_populate_record(m, r.content) c where r.id = %s",
        (row.id,),
    )
    return catalog.meter_from(found.fetchall()[0])


def start(session: Session, row: MeterRebuild) -> None:
    """From its commit on, what comes is added to the rebuild too. Senders wait for little more than a commit."""
    events = _one(
        session,
        "select coalesce(sum(events), 0)::bigint from usage_answered where outcome = 'accepted' and type = %s"
        " and day >= %s and day < %s",
        (how(session, row).event_type, row.since, row.until),
    )
    customers = _one(session, "select count(*) from customer", ())
    if not _alone(session, row, "open"):
        return
    cursor(session).execute(
        "update meter_rebuild set opened_at = now(), seen = pg_current_snapshot()::text, events = %s, customers = %s"
        " where id = %s",
        (events, customers, row.id),
    )
    session.expire(row)


def _alone(session: Session, row: MeterRebuild, to_do: ToDo) -> bool:
    """Until the commit no event is taken in or counted afresh; whether nobody else has done meanwhile what is to do."""
    lock_afresh(session)
    hold_all(session)
    session.refresh(row, with_for_update=True)
    return row.to_do == to_do


def _one(session: Session, statement: str, asked: tuple[object, ...]) -> int:
    row = cursor(session).execute(statement, asked).fetchone()
    return int(row[0]) if row else 0


# Counting what is stored.


class Stretch(NamedTuple):
    """Days of one customer, both included, that are counted together."""

    customer_id: str
    first: date
    last: date


def count_next(session: Session, meter_id: str) -> bool:
    """Count the next stored events, in order of customer and day; whether there may be more."""
    _lock_marks(session)
    hold_months(session)
    row = open_of(session, meter_id, locked=True)
    if row is None or row.to_do != "count":
        return False
    mine = how(session, row)
    stretches = _next(session, row, mine.event_type)
    if not stretches:
        # Void ones were not counted, and some may have come between the estimate and the opening.
        cursor(session).execute(
            "update meter_rebuild set counted_at = now(), events = counted where id = %s", (row.id,)
        )
        return False
    stored, made, events = _stored(session, row, mine.event_type, stretches), Counted({}, {}), 0
    while some := list(islice(stored, EVENTS_AT_ONCE)):  # A customer's day may have millions.
        made.take(_counted(session, row.series, mine, some))
        events += len(some)
    made.add(session)
    cursor(session).execute(
        "update meter_rebuild set counted = counted + %s, through_customer = %s, through_day = %s where id = %s",
        (events, stretches[-1].customer_id, stretches[-1].last, row.id),
    )
    return True


def _counted(session: Session, series: str, mine: Meter, events: Sequence[_Stored]) -> Counted:
    """What the series makes of events; on those of which it says otherwise than what holds, that is written."""
    folding = Folding([replace(mine, meter_id=series)], Clocks())
    differing: list[tuple[str, str, str]] = []
    for e in events:
        data, digest = AS_STORED.decode(e.data), digest_of(e.key.hex, e.content)
        _, counted = folding.add(e.customer_id, zone(e.zone), mine.event_type, e.occurred_at, data, digest=digest)
        if bool(counted) != e.counted:
            differing.append((e.source, e.id, e.occurred_at.isoformat()))
    _mark(session, series, differing)
    return Counted(folding.days(), folding.windows())


def _lock_marks(session: Session) -> None:
    """Until the commit no other rebuild writes on events: two that did so in different orders would wait for each
    other. Taken before any other lock, so that nobody has to wait for one who waits for this; whoever counts a customer
    afresh keeps rebuilds off by itself.
    """
    cursor(session).execute("select pg_advisory_xact_lock(hashtext('usage marks'))")


def _next(session: Session, row: MeterRebuild, event_type: str) -> list[Stretch]:
    """What was accepted says where events lie. Days that come behind the cursor later have no older events."""
    days = (
        cursor(session)
        .execute(
            "select customer_id, day, sum(events)::bigint from usage_answered where type = %s and outcome = 'accepted'"
            " and day >= %s and day < %s and (customer_id, day) > (%s, %s) group by 1, 2 order by 1, 2 limit %s",
            (event_type, row.since, row.until, row.through_customer, row.through_day, ROWS_AT_ONCE),
        )
        .fetchall()
    )
    found: list[Stretch] = []
    together = 0
    for customer_id, day, events in days:
        together += events
        if found and together > EVENTS_AT_ONCE:
            break
        if found and found[-1].customer_id == customer_id:
            found[-1] = found[-1]._replace(last=day)
        else:
            found.append(Stretch(customer_id, day, day))
    return found


class _Stored(NamedTuple):
    customer_id: str
    zone: str
    source: str
    id: str
    occurred_at: datetime
    data: str
    counted: bool
    key: UUID
    content: int


_STORED = f"""
select c.id, c.time_zone, e.source, e.id, e.occurred_at, e.data::text, %(meter)s = any(counted_by(e.meters)),
       k.key, k.content
from unnest(%(customers)s::text[], %(firsts)s::date[], %(lasts)s::date[]) s (customer_id, first, last)
join customer c on c.id = s.customer_id
join usage_event e on e.customer_id = s.customer_id and e.type = %(type)s and e.day >= s.first and e.day <= s.last
  and e.occurred_at >= s.first - 1 and e.occurred_at < s.last + 2
join usage_key k on k.key = usage_key_of(e.source, e.id)
where pg_visible_in_snapshot(e.batch, %(seen)s::text::pg_snapshot)
  and not {IS_VOID}
"""


def _stored(session: Session, row: MeterRebuild, event_type: str, stretches: Sequence[Stretch]) -> Iterator[_Stored]:
    """The events that were stored before the rebuild was opened, piece by piece."""
    customers, firsts, lasts = columns(stretches, 3)
    with connection(session).cursor(name="stored") as cur:
        cur.itersize = ROWS_AT_ONCE
        cur.execute(
            _STORED,
            {
                "meter": row.meter_id,
                "type": event_type,
                "customers": customers,
                "firsts": firsts,
                "lasts": lasts,
                "seen": row.seen,
            },
        )
        for found in cur:
            yield _Stored(*found)


def _mark(session: Session, series: str, events: Sequence[tuple[str, str, str]]) -> None:
    """Write on events that the series counts them, where what holds does not, or the other way round."""
    if events:
        cursor(session).execute(
            "update usage_event e set meters = array_append(e.meters, %s)"
            " from unnest(%s::text[], %s::text[], %s::timestamptz[]) as n (source, id, occurred_at)"
            " where e.occurred_at = n.occurred_at and e.source = n.source and e.id = n.id",
            [series, *columns(events, 3)],
        )


# Comparing.


def next_customers(session: Session, after: str) -> list[str]:
    """Customers in order of id, behind `after`."""
    rows = cursor(session).execute(
        "select id from customer where id > %s order by 1 limit %s", (after, CUSTOMERS_AT_ONCE)
    )
    return [customer_id for (customer_id,) in rows]


# Applying and dropping.


def swap(session: Session, row: MeterRebuild, at: datetime) -> None:
    """From its commit on the rebuild's totals hold, for everybody at once. Senders wait for little more than that."""
    catalog.lock(session)
    mine = how(session, row)
    if row.changes and (reasons := misfits(session, mine)):
        raise Refused(
            f"The meter {row.meter_id!r} would not fit what is sold any more.",
            code="invalid_rebuild",
            faults=[Fault("change", reason) for reason in reasons],
            remedy="Drop the rebuild, or publish versions that fit; then answer the task.",
        )
    if not _alone(session, row, "apply"):
        return
    held = spans(session, row.meter_id)
    if row.changes:
        version = _new_version(session, row, mine, at)
    else:
        version = next(span.version for span in held if span.since <= row.since < span.until)
    put_spans(session, row.meter_id, with_span(held, Span(row.since, row.until, row.series, version)))
    cursor(session).execute(
        "update meter_rebuild set applied_at = %s, batch = pg_current_xact_id()::text::bigint where id = %s",
        (at, row.id),
    )
    session.expire(row)


def _new_version(session: Session, row: MeterRebuild, mine: Meter, at: datetime) -> int:
    """The meter in its table, and its history; its name may have been changed meanwhile, and stays."""
    found = session.get_one(catalog.Meter, row.meter_id, with_for_update=True)
    for name, value in catalog.row_of(mine).model_dump(exclude={"id", "name", "late", "version"}).items():
        setattr(found, name, value)
    found.version += 1
    session.flush()
    cursor(session).execute(
        "insert into meter_version (meter_id, version, since, content, made_at, made_with)"
        " select id, version, %s, to_jsonb(m) - '{name,late}'::text[], %s, %s from meter m where id = %s",
        (row.since, at, row.apply_with or "", row.meter_id),
    )
    return found.version


def give_up(session: Session, row: MeterRebuild, at: datetime) -> None:
    """From its commit on nothing is added to the rebuild any more."""
    if not _alone(session, row, "drop"):
        return
    cursor(session).execute("update meter_rebuild set dropped_at = %s where id = %s", (at, row.id))
    session.expire(row)


def clear_next(session: Session, meter_id: str) -> bool:
    """Take away what does not hold of the next customers, and settle the marks on their events; whether there may be
    more. Whose totals have changed has ended subscriptions billed again.
    """
    _lock_marks(session)
    hold_months(session)
    row = open_of(session, meter_id, locked=True)
    if row is None or row.to_do != "clear":
        return False
    customer_ids = next_customers(session, row.cleared_through)
    if customer_ids:
        _bill_again(session, row, customer_ids)
        _clear(session, row, customer_ids)
        done = "cleared_through = %s"
    else:
        done = "settled_at = now(), cleared_through = %s"
        if row.dropped_at:
            for table in ("meter_difference", "meter_worth"):
                cursor(session).execute(f"delete from {table} where rebuild_id = %s", (row.id,))
    through = customer_ids[-1] if customer_ids else row.cleared_through
    cursor(session).execute(f"update meter_rebuild set {done} where id = %s", (through, row.id))
    return bool(customer_ids)


def _bill_again(session: Session, row: MeterRebuild, customer_ids: Sequence[str]) -> None:
    """Under the lock of their accounts: whoever billed them by the former totals is through, or has not begun."""
    if row.dropped_at:
        return
    rows = cursor(session).execute(
        "select id, root_id from customer c where id = any(%s)"
        " and (exists (select from usage_total t where t.customer_id = c.id and t.meter_id = %s)"
        " or exists (select from meter_difference d where d.rebuild_id = %s and d.customer_id = c.id))",
        (list(customer_ids), row.series, row.id),
    )
    concerned: dict[str, str] = dict(rows.fetchall())
    lock_roots(session, sorted(set(concerned.values())))
    forget_seen(session, set(concerned))


_NOT_HELD = """
  t.customer_id = any(%(customers)s) and t.meter_id = any(%(series)s)
  and not exists (select from meter_span n where n.series = t.meter_id and {day} >= n.since and {day} < n.until)
"""
# By the transaction that let the rebuild hold: since then the meter counts them, or does not (models/usage_proof.py).
_RECOUNTED = """
insert into usage_recounted (source, id, meter_id, batch, counted, recounted_at)
select e.source, e.id, r.meter_id, r.batch::text::xid8, r.meter_id = any(counted_by(e.meters)), r.applied_at
from usage_event e join meter_rebuild r on r.series = %(mark)s
where e.customer_id = any(%(customers)s) and %(mark)s = any(e.meters)
  and e.occurred_at >= %(since)s::date - 1 and e.occurred_at < %(until)s::date + 1
on conflict do nothing
"""
_SETTLED = """
update usage_event set meters = case
  when not %(applied)s then array_remove(meters, %(mark)s)
  when %(meter)s = any(meters) then array_remove(array_remove(meters, %(mark)s), %(meter)s)
  else array_append(array_remove(meters, %(mark)s), %(meter)s) end
where customer_id = any(%(customers)s) and occurred_at >= %(since)s::date - 1 and occurred_at < %(until)s::date + 1
  and %(mark)s = any(meters)
"""
_FIRST_MOMENT, _LAST_MOMENT = date(1, 1, 2), date(9999, 12, 30)


def _clear(session: Session, row: MeterRebuild, customer_ids: Sequence[str]) -> None:
    cur = cursor(session)
    known = cur.execute("select series from meter_rebuild where meter_id = %s", (row.meter_id,)).fetchall()
    asked = {
        "customers": list(customer_ids),
        "series": [row.meter_id, *(series for (series,) in known)],
        "meter": row.meter_id,
        "mark": row.series,
        "applied": row.applied_at is not None,
        "since": max(row.since, _FIRST_MOMENT),
        "until": min(row.until, _LAST_MOMENT),
    }
    cur.execute(f"delete from usage_total t where {_NOT_HELD.format(day='t.day')}", asked)
    day = "(t.starts_at at time zone c.time_zone)::date"
    cur.execute(
        f"delete from usage_window t using customer c where c.id = t.customer_id and {_NOT_HELD.format(day=day)}", asked
    )
    if row.applied_at:
        cur.execute(_RECOUNTED, asked)
    cur.execute(_SETTLED, asked)
