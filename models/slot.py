"""Slots: a total is kept in several rows, one for each slot, and is what they make together.

Whoever adds to totals has a slot for itself until the commit, so two who add to the same total do not wait for one
another. (The pattern is known as the slotted counter.) The lowest free slot is taken, so a total has no more rows than
there were ever transactions that added to totals at the same moment.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session

from models.database import Part, execute_together

SLOTS = 16
"""So many may add to totals at once; one more waits until another has committed."""

_FREE = """
select slot::smallint as no from generate_series(0, %s - 1) as slot
where pg_try_advisory_xact_lock(hashtext('usage slot'), slot) limit 1
"""
_WAITED_FOR = """
select slot::smallint as no
from (select pg_backend_pid() %% %s as slot) as chosen, pg_advisory_xact_lock(hashtext('usage slot'), slot)
"""
"""Any one, so that those who wait are spread over all."""


def enter(session: Session, parts: Sequence[Part]) -> None:
    """Execute as one statement what adds to totals, in a slot that nobody else adds to until the commit.

    Each part takes its rows `from slot`, which is one row with the slot's number as `no`; or none, if no slot is free,
    and so nothing is entered before there is one. Which of it was is seen by the last part, which must have something
    to enter. Called after all other locks are taken: whoever has a slot waits for nobody, so it is free again soon. To
    be called seldom in a transaction, for each time may take another slot.
    """
    if parts and not execute_together(session, parts, slot=Part(_FREE, [SLOTS])):
        execute_together(session, parts, slot=Part(_WAITED_FOR, [SLOTS]))
