"""Events that are only tried: what would become of them, and what it would change, in money too. Nothing is kept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlmodel import Session

from billing.time_bounds import TimeBounds
from models.event import Event
from models.intake import Outcome, customers_of, receive
from models.usage import totals_of
from models.worth import CurrencyWorth, DayChange, changes, worth_of


class Tried(NamedTuple):
    """What would become of each event; by customer, the days that would change; and what that is worth."""

    outcomes: list[Outcome]
    days: dict[str, list[DayChange]]
    worth: list[CurrencyWorth]


def tried(session: Session, events: Sequence[Event], bounds: TimeBounds, free: Collection[int] = ()) -> Tried:
    """As models/intake.py `receive`. What is stored is given back before its worth is reckoned, with all locks.

    What others send for the same customers at that moment may be among the changes.
    """
    customer_ids = sorted({customer.id for customer in customers_of(session, {e.subject for e in events}).values()})
    attempt = session.begin_nested()
    before = totals_of(session, customer_ids)
    outcomes = receive(session, events, bounds, free)
    after = totals_of(session, customer_ids)
    attempt.rollback()
    days = {name: list(changes(before[name], after[name])) for name in customer_ids}
    changed = [name for name in customer_ids if days[name]]
    return Tried(outcomes, {name: days[name] for name in changed}, worth_of(session, changed, before, after))
