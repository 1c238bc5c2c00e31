"""Carrying out a rebuild of a meter's days: opened, counted and compared piece by piece; then, when a person has
looked, applied or dropped, and what does not hold taken away.

Each piece is a transaction that finds in the rebuild's row where it has to go on, so that it may be tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from time import monotonic

from sqlalchemy import Engine
from sqlmodel import Session
from temporalio import activity

from activities.pulse import heartbeating
from billing.portion import Portion
from billing.usage import BEFORE, Totals
from models import rebuild, rebuilding
from models.database import snapshot, transaction
from models.rebuild import MeterDifference, MeterRebuild, MeterWorth
from models.usage import prepared_of, totals_of
from models.worth import changes, worth_of

SECONDS_AT_ONCE = 20
"""An activity takes piece after piece for so long, and is then called again: so its history tells how far it is."""


@dataclass(frozen=True, slots=True)
class RebuildOutlook:
    """How the open rebuild of a meter stands: what is to be done next (nothing where a person is waited for), and how
    far counting and comparing are. `rebuild_id` is empty if none is open.
    """

    to_do: str
    rebuild_id: str = ""
    counted: int = 0
    events: int = 0
    compared: int = 0
    customers: int = 0
    differing: int = 0
    applied: bool = False


class Rebuilds:
    """Database work of the `Rebuild` workflow. Each step does what the row says is next, or nothing."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @activity.defn
    def look_at_rebuild(self, meter_id: str) -> RebuildOutlook:
        """What is to be done next."""
        with transaction(self.engine) as session:
            return _outlook(session, meter_id)

    @activity.defn
    def open_rebuild(self, meter_id: str) -> RebuildOutlook:
        """Have what comes counted by it too."""
        return self._at_once(meter_id, "open", lambda session, row: rebuilding.start(session, row))

    @activity.defn
    def count_rebuild(self, meter_id: str) -> RebuildOutlook:
        """Count stored events."""
        return self._piece_by_piece(meter_id, rebuilding.count_next)

    @activity.defn
    def compare_rebuild(self, meter_id: str) -> RebuildOutlook:
        """Write down what it changes for the next customers, in quantities and in money."""
        return self._piece_by_piece(meter_id, compare_next)

    @activity.defn
    def apply_rebuild(self, meter_id: str) -> RebuildOutlook:
        """Let it hold."""
        return self._at_once(meter_id, "apply", lambda session, row: rebuilding.swap(session, row, datetime.now(UTC)))

    @activity.defn
    def drop_rebuild(self, meter_id: str) -> RebuildOutlook:
        """Have nothing more counted by it."""
        return self._at_once(meter_id, "drop", lambda session, row: rebuilding.give_up(session, row, datetime.now(UTC)))

    @activity.defn
    def clear_rebuild(self, meter_id: str) -> RebuildOutlook:
        """Take away what does not hold."""
        return self._piece_by_piece(meter_id, rebuilding.clear_next)

    def _at_once(self, meter_id: str, what: str, do: Callable[[Session, MeterRebuild], None]) -> RebuildOutlook:
        with transaction(self.engine) as session:
            row = rebuild.open_of(session, meter_id)
            if row is not None and row.to_do == what:
                do(session, row)
        return self.look_at_rebuild(meter_id)

    def _piece_by_piece(self, meter_id: str, do: Callable[[Session, str], bool]) -> RebuildOutlook:
        until = monotonic() + SECONDS_AT_ONCE
        # Both sides of a comparison are of one moment, while events go on coming in.
        opened = snapshot if do is compare_next else transaction
        with heartbeating():
            more = True
            while more and monotonic() < until:
                with opened(self.engine) as session:
                    more = do(session, meter_id)
        return self.look_at_rebuild(meter_id)


def _outlook(session: Session, meter_id: str) -> RebuildOutlook:
    row = rebuild.open_of(session, meter_id)
    if row is None:
        return RebuildOutlook("")
    differing = rebuild.sums(session, row.id).customers if row.compared_at else 0
    return RebuildOutlook(
        row.to_do,
        row.id,
        row.counted,
        row.events,
        row.compared,
        row.customers,
        differing,
        row.applied_at is not None,
    )


def compare_next(session: Session, meter_id: str) -> bool:
    """Compare the next customers' totals with those that hold; whether there may be more."""
    row = rebuild.open_of(session, meter_id, locked=True)
    if row is None or row.to_do != "compare":
        return False
    customer_ids = rebuilding.next_customers(session, row.compared_through)
    if not customer_ids:
        row.compared_at = datetime.now(UTC)
        return False
    before = totals_of(session, customer_ids)
    prepared = prepared_of(session, customer_ids, row.series)
    after = {name: {**_without(before[name], row), **prepared[name]} for name in customer_ids}
    changed = [name for name in customer_ids if before[name] != after[name]]
    for name in changed:
        session.add_all(
            MeterDifference(rebuild_id=row.id, customer_id=name, day=day, before=had, after=has)
            for _, day, had, has in changes(before[name], after[name])
        )
    session.add_all(
        MeterWorth(
            rebuild_id=row.id,
            customer_id=one.customer_id,
            currency=one.currency,
            late_minor=one.worth.late.minor,
            open_minor=one.worth.open.minor,
            refused=one.refused,
        )
        for one in worth_of(session, changed, before, after)
    )
    row.compared, row.compared_through = row.compared + len(customer_ids), customer_ids[-1]
    return True


def _without(totals: Totals, row: MeterRebuild) -> dict[tuple[str, date], tuple[Portion, ...]]:
    """The totals without those that the rebuild would replace; whether a changed meter carries over, it says itself."""
    return {
        (name, day): some
        for (name, day), some in totals.items()
        if name != row.meter_id or not (row.since <= day < row.until or (row.changes and day == BEFORE))
    }
