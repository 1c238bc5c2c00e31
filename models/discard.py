"""Discarding what waits in quarantine and shall never count. Nothing is deleted: the event stays whole, with who said
so, when and why, and its name stays taken.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session

from billing.errors import Fault, Refused
from models.database import columns, cursor
from models.event import ANY_CONTENT, Named
from models.event_key import contents_of, take_keys
from models.intake import customers_of
from models.quarantine import HeldBy, Name, Waiting, hold_named, hold_of_subject
from models.same_event import Unlike, the_same

MOST = 10_000
"""So many events of a subject are discarded at once."""


def discard_named(session: Session, names: Sequence[Name], reason: str, by_key: str) -> int:
    """Discard the events of these names; all, or, refused with every fault, none. Says how many waited until now.

    Those that were discarded before stay as they were.
    """
    held = hold_named(session, names)
    counting = _counting(session, held)
    ended = _ended(session, names)
    taken = contents_of(session, {Named.key_of(*name) for name in names if name not in ended})
    waited = {one.name for one in held}
    faults = [
        Fault(f"events.{n}.id", _why_not(name, counting, ended, taken))
        for n, name in enumerate(names)
        if name in counting or (name not in waited and ended.get(name) != "discarded")
    ]
    if faults:
        raise Refused(
            "The events cannot be discarded.",
            code="not_waiting",
            faults=faults,
            remedy="Leave these out and send the others again; nothing was changed. What was taken in and shall not"
            " count is made void by POST /v1/events/corrections.",
        )
    return _store(session, held, reason, by_key)


def discard_subject(session: Session, subject: str, field: HeldBy | None, reason: str, by_key: str) -> int:
    """Discard up to 10,000 of the events that wait of a subject, for one of the fields if it is given. Says how many.

    Those stay of which the same came meanwhile and counts: replayed, they are duplicates. Refused if nothing waits of
    the subject and nothing was discarded.
    """
    found: list[Waiting] = []
    held = hold_of_subject(session, subject, field, MOST)
    if not held and not _is_in_quarantine(session, subject, field):
        raise Refused(
            f"Nothing waits of the subject {subject!r}.",
            code="not_waiting",
            faults=[Fault("subject", "nothing waits of it" + (f" for its {field}" if field else ""))],
            remedy="GET /v1/quarantine lists what waits.",
        )
    while held and len(found) < MOST:
        counting = _counting(session, held)
        found += [one for one in held if one.name not in counting]
        held = hold_of_subject(session, subject, field, MOST - len(found), after=held[-1].name)
    return _store(session, found, reason, by_key)


def _counting(session: Session, held: Sequence[Waiting]) -> set[Name]:
    """Take their names, so that nothing under them counts from now on; those of which the same counts already."""
    named = [Named.of(one.event) for one in held]
    known = take_keys(session, named)
    customers = customers_of(session, {one.event.subject for one in named}) if known else {}
    unlike = {
        n: Unlike(one, known[one.key], customers[one.event.subject].id)
        for n, one in enumerate(named)
        if known.get(one.key, ANY_CONTENT) not in (one.content, ANY_CONTENT) and one.event.subject in customers
    }
    same = the_same(session, unlike)
    return {
        waiting.name
        for n, (waiting, one) in enumerate(zip(held, named, strict=True))
        if n in same or known.get(one.key) in (one.content, ANY_CONTENT)
    }


def _ended(session: Session, names: Sequence[Name]) -> dict[Name, str]:
    """Those of these names under which an event waited once, and what became of it: discarded or replayed."""
    rows = cursor(session).execute(
        "select source, id, case when discarded_at is null then 'replayed' else 'discarded' end from usage_quarantine"
        " where (source, id) in (select * from unnest(%s::text[], %s::text[]))"
        " and (discarded_at is not null or replayed_at is not null)",
        columns(names, 2),
    )
    return {(source, key): what for source, key, what in rows}


def _why_not(name: Name, counting: set[Name], ended: dict[Name, str], taken: dict[str, int]) -> str:
    if name in counting:
        return "the same came again meanwhile and was taken in; a replay takes this one off the list, as a duplicate"
    if name in ended or Named.key_of(*name) in taken:
        return "does not wait: it was taken in"
    return "no event waits under this source and id"


def _is_in_quarantine(session: Session, subject: str, field: HeldBy | None) -> bool:
    """Whether something of the subject waits or was discarded."""
    row = (
        cursor(session)
        .execute(
            "select exists (select from usage_quarantine where replayed_at is null and subject = %s"
            " and (%s::text is null or field = %s))",
            (subject, field, field),
        )
        .fetchone()
    )
    assert row is not None
    return bool(row[0])


def _store(session: Session, held: Sequence[Waiting], reason: str, by_key: str) -> int:
    if held:
        cursor(session).execute(
            "update usage_quarantine q set discarded_at = now(), discarded_by = %s, discarded_because = %s"
            " from unnest(%s::text[], %s::text[]) as n (source, id) where q.source = n.source and q.id = n.id",
            [by_key, reason, *columns([one.name for one in held], 2)],
        )
    return len(held)
