"""A subscription's states and what may happen in each.

A signed subscription is *pending* until its first day, then *active*. It can be amended while pending or active.
A cancellation is scheduled while pending or active and can be undone until it takes effect; then the subscription
has *ended*, for good.
"""

from __future__ import annotations

from typing import Literal

from billing.errors import Refused

State = Literal["pending", "active", "ended"]
Event = Literal["activate", "amend", "schedule_cancellation", "undo_cancellation", "end"]

TRANSITIONS: dict[tuple[State, Event], State] = {
    ("pending", "activate"): "active",
    ("pending", "amend"): "pending",
    ("pending", "schedule_cancellation"): "pending",
    ("pending", "undo_cancellation"): "pending",
    ("pending", "end"): "ended",
    ("active", "amend"): "active",
    ("active", "schedule_cancellation"): "active",
    ("active", "undo_cancellation"): "active",
    ("active", "end"): "ended",
}


def after(state: State, event: Event) -> State:
    """The state that `event` leads to; refused if it is not in the table, with what is possible instead."""
    found = TRANSITIONS.get((state, event))
    if found is None:
        possible = sorted(name for (at, name) in TRANSITIONS if at == state)
        raise Refused(
            f"A subscription that is {state} cannot {event.replace('_', ' ')}.",
            code="transition_not_possible",
            remedy=f"Possible now: {', '.join(p.replace('_', ' ') for p in possible) or 'nothing; it has ended'}.",
        )
    return found
