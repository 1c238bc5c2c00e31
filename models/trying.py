"""Events that are only tried: what would become of them, and what it would change, in money too. Nothing is kept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import NamedTuple

from psycopg.errors import SerializationFailure
from sqlalchemy import Engine
from sqlmodel import Session

from billing.time_bounds import TimeBounds
from models.database import snapshot, transaction
from models.event import Event
from models.intake import Outcome, customers_of, lock_stripes, receive
from models.usage import totals_of
from models.worth import CurrencyWorth, DayChange, changes, worth_of

ATTEMPTS = 3
"""So often others may be in the way; then they wait."""


class Tried(NamedTuple):
    """What would become of each event; by customer, the days that would change; and what that is worth."""

    outcomes: list[Outcome]
    days: dict[str, list[DayChange]]
    worth: list[CurrencyWorth]


def tried(engine: Engine, events: Sequence[Event], bounds: TimeBounds, free: Collection[int] = ()) -> Tried:
    """As models/intake.py `receive`, in a transaction of its own. All changes are told as of one moment: what others
    send meanwhile is not among them.

    Where others change the same rows of totals meanwhile it begins anew, at a later moment; where they go on doing so,
    they wait until it has looked.
    """
    for _ in range(ATTEMPTS):
        with suppress(SerializationFailure), snapshot(engine) as session:
            return _tried(session, events, bounds, free, alone=False)
    with transaction(engine) as session:
        return _tried(session, events, bounds, free, alone=True)


def _tried(
    session: Session, events: Sequence[Event], bounds: TimeBounds, free: Collection[int], *, alone: bool
) -> Tried:
    """What is stored is given back before its worth is reckoned, with all locks."""
    customer_ids = sorted({customer.id for customer in customers_of(session, {e.subject for e in events}).values()})
    attempt = session.begin_nested()
    if alone:
        lock_stripes(session, set(customer_ids), alone=True)
    before = totals_of(session, customer_ids)
    outcomes = receive(session, events, bounds, free)
    after = totals_of(session, customer_ids)
    attempt.rollback()
    days = {name: list(changes(before[name], after[name])) for name in customer_ids}
    changed = [name for name in customer_ids if days[name]]
    return Tried(outcomes, {name: days[name] for name in changed}, worth_of(session, changed, before, after))
