"""Slots: a total is kept in several rows, one for each slot, and is what they make together.

Whoever adds to totals has a slot for itself until the commit, so two who add to the same total do not wait for one
another. (The pattern is known as the slotted counter.) The lowest free slot is taken, so a total has no more rows than
there were ever transactions that added to totals at the same moment.
"""

from __future__ import annotations

from typing import NewType

from sqlmodel import Session

from models.database import cursor

Slot = NewType("Slot", int)

SLOTS = 16
"""So many may add to totals at once; one more waits until another has committed."""


def take_slot(session: Session) -> Slot:
    """A slot that nobody else adds to until the commit.

    It is taken after all other locks: whoever has it waits for nobody, so it is free again soon.
    """
    cur = cursor(session)
    free = cur.execute(
        "select slot from generate_series(0, %s) as slot where pg_try_advisory_xact_lock(hashtext('usage slot'), slot)"
        " limit 1",
        (SLOTS - 1,),
    ).fetchone()
    return Slot(free[0]) if free else _waited_for(session)


def _waited_for(session: Session) -> Slot:
    """Any one, so that those who wait are spread over all."""
    chosen = cursor(session).execute(
        "select slot, pg_advisory_xact_lock(hashtext('usage slot'), slot)"
        " from (select pg_backend_pid() %% %s as slot) chosen",
        (SLOTS,),
    )
    return Slot(chosen.fetchall()[0][0])
