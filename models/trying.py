"""Events that are only tried: what would become of them, and what it would change, in money too. Nothing is kept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import NamedTuple

from psycopg.errors import SerializationFailure
from sqlalchemy import Engine
from sqlmodel import Session

from billing.errors import Unavailable
from billing.time_bounds import TimeBounds
from models.database import snapshot
from models.event import Event
from models.intake import Outcome, customers_of, receive
from models.usage import totals_of
from models.worth import CurrencyWorth, DayChange, changes, worth_of

ATTEMPTS = 5
SOON = timedelta(seconds=5)


class Tried(NamedTuple):
    """What would become of each event; by customer, the days that would change; and what that is worth."""

    outcomes: list[Outcome]
    days: dict[str, list[DayChange]]
    worth: list[CurrencyWorth]


def tried(engine: Engine, events: Sequence[Event], bounds: TimeBounds, free: Collection[int] = ()) -> Tried:
    """As models/intake.py `receive`, in a transaction of its own. All that is said is of one moment: what others send
    meanwhile is not among the changes.

    Where others change the same totals meanwhile it begins anew, at a later moment; Unavailable if they go on doing so.
    """
    for _ in range(ATTEMPTS):
        with suppress(SerializationFailure), snapshot(engine) as session:
            return _tried(session, events, bounds, free)
    raise Unavailable("Others go on sending events for the same customers and days.", after=SOON)


def _tried(session: Session, events: Sequence[Event], bounds: TimeBounds, free: Collection[int]) -> Tried:
    """What is stored is given back before its worth is reckoned, with all locks."""
    customer_ids = sorted({customer.id for customer in customers_of(session, {e.subject for e in events}).values()})
    attempt = session.begin_nested()
    before = totals_of(session, customer_ids)
    outcomes = receive(session, events, bounds, free)
    after = totals_of(session, customer_ids)
    attempt.rollback()
    days = {name: list(changes(before[name], after[name])) for name in customer_ids}
    changed = [name for name in customer_ids if days[name]]
    return Tried(outcomes, {name: days[name] for name in changed}, worth_of(session, changed, before, after))
