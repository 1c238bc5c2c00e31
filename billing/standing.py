"""How a subscription stands: everything the biller and an amendment need to know, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Literal
from zoneinfo import ZoneInfo

from billing.late import NEXT_INVOICE, Late
from billing.lifecycle import State
from billing.line import Line
from billing.money import Money
from billing.period import Interval, Period, instant, zone
from billing.proration import BilledFee
from billing.taxes import Parties
from billing.terms import Terms

LaneName = Literal["advance", "arrears"]

FEES_REACH = timedelta(days=400)
"""How many days before the watermark a standing knows what was billed as fees; usage it knows for ever."""


@dataclass(frozen=True, slots=True)
class Lane:
    """The watermark of one kind of billing: everything before `billed_through` has been billed."""

    name: LaneName
    billed_through: date


@dataclass(frozen=True, slots=True)
class BilledUsage:
    """What has been invoiced for one window of a metered item so far, over all its `lines`.

    `amounts_off` is the part of gross - net that was no percentage, `given_off` what it was when the window was first
    billed. `invoices` are the numbers of the documents, where lines are to name them.
    """

    item: str
    period: Period
    quantity: Decimal
    gross: Money
    net: Money
    lines: int = 1
    amounts_off: int = 0
    given_off: int = 0
    invoices: tuple[str, ...] = ()

    @property
    def net_of_percent(self) -> Money:
        return Money(self.net.minor + self.amounts_off, self.net.currency)


@dataclass(frozen=True, slots=True)
class PendingLine:
    """A line decided earlier that waits for the next invoice."""

    pending_id: str
    line: Line


@dataclass(frozen=True, slots=True)
class Standing:
    """One subscription with its terms, watermarks and what was billed. `ends_on` is the first day not billed.

    `late` are its meters' policies for late usage, where they are not the usual one. `set_aside` is late usage that was
    held for a person: asked about, or waived. The versions are what documents print of who sells and who buys.
    """

    subscription_id: str
    root_id: str
    customer_id: str
    contract_id: str
    entity_id: str
    clock_id: str | None
    currency: str
    zone_name: str
    anchor: date
    interval: Interval
    state: State
    payment_terms_days: int
    parties: Parties
    ends_on: date | None
    history: tuple[Terms, ...]
    lanes: tuple[Lane, ...] = ()
    fees: tuple[BilledFee, ...] = ()
    usage: tuple[BilledUsage, ...] = ()
    true_ups: tuple[BilledUsage, ...] = ()
    pending: tuple[PendingLine, ...] = ()
    late: tuple[tuple[str, Late], ...] = ()
    set_aside: tuple[Line, ...] = ()
    entity_version: int = 1
    customer_version: int = 1

    @property
    def zone(self) -> ZoneInfo:
        return zone(self.zone_name)

    @property
    def terms(self) -> Terms:
        """The latest version."""
        return max(self.history, key=lambda t: t.version)

    def late_of(self, meter: str | None) -> Late:
        """What becomes of the meter's late usage."""
        return next((policy for name, policy in self.late if name == meter), NEXT_INVOICE)

    def billed_through(self, lane: LaneName) -> date:
        return next((x.billed_through for x in self.lanes if x.name == lane), self.anchor)

    def period_at(self, day: date) -> Period:
        return self.interval.period_at(self.anchor, day)

    @property
    def life(self) -> Period:
        """The days on which it runs; none if it was cancelled before it began."""
        return Period(self.anchor, max(self.anchor, self.ends_on or date.max))

    def part_at(self, day: date) -> Period:
        """The part of the period that contains `day` in which the subscription runs."""
        return self.period_at(day).overlap(self.life)


def next_bill_at(standing: Standing, lane: Lane) -> datetime | None:
    """When a lane is due again: the start of its next period in advance, its end in arrears.

    After the end None, unless lines wait for a last invoice: what is given back must not be lost.
    """
    if standing.ends_on is not None and lane.billed_through >= standing.ends_on:
        return instant(standing.ends_on, standing.zone) if standing.pending else None
    if lane.name == "advance":
        return instant(lane.billed_through, standing.zone)
    end = standing.period_at(lane.billed_through).end
    return instant(min(end, standing.ends_on or end), standing.zone)
