"""Changes of a running subscription: what they would cost, and that doing them gives what was previewed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal

from billing import lifecycle
from billing.catalog import NO_EXTRAS, Extras
from billing.errors import Fault, Refused
from billing.line import Line, discounted
from billing.modifiers import Redeemed
from billing.money import Money, total
from billing.period import Period, instant, local_day
from billing.plan import Plan
from billing.proration import BilledFee, prorate
from billing.rating import rate_fixed
from billing.standing import Standing
from billing.terms import Terms


@dataclass(frozen=True, slots=True)
class Change:
    """New terms from the local day `effective_on`. `plan` has the `extras` in it, which are kept with the terms."""

    amendment_id: str
    effective_on: date
    plan: Plan
    seats: Decimal
    discount_percent: Decimal
    coupons: tuple[Redeemed, ...] = ()
    extras: Extras = NO_EXTRAS


@dataclass(frozen=True, slots=True)
class Preview:
    """The lines a change adds to the next invoice. `valid_until`: proration counts days, so until the day ends."""

    effective_on: date
    lines: tuple[Line, ...]
    net: Money
    recurring_before: Money
    recurring_after: Money
    valid_until: datetime
    preview_hash: str


def preview(standing: Standing, change: Change, now: datetime) -> Preview:
    """What `change` costs if done now. Refused if it cannot be done, naming the field."""
    _check(standing, change, now)
    before, after = standing.terms, terms_after(standing, change)
    lines = _proration(standing, after, change.effective_on, change.amendment_id)
    today = local_day(now, standing.zone)
    return Preview(
        effective_on=change.effective_on,
        lines=lines,
        net=total([line.net for line in lines], standing.currency),
        recurring_before=_recurring(standing, before, change.effective_on),
        recurring_after=_recurring(standing, after, change.effective_on),
        valid_until=instant(today + timedelta(days=1), standing.zone),
        preview_hash=_fingerprint(standing, after, lines),
    )


def terms_after(standing: Standing, change: Change) -> Terms:
    return Terms(
        standing.terms.version + 1,
        change.effective_on,
        change.plan,
        change.seats,
        change.discount_percent,
        change.coupons,
    )


def ending_lines(standing: Standing, ends_on: date, cause: str) -> tuple[Line, ...]:
    """What is given back when a subscription ends inside a period that was billed in advance."""
    return _proration(standing, None, ends_on, cause)


def _proration(standing: Standing, after: Terms | None, on: date, cause: str) -> tuple[Line, ...]:
    """Interval by interval, over the days from `on` that are billed in advance; the others are not touched."""
    fees = billed_fees(standing)
    lines: list[Line] = []
    day = max(on, standing.anchor)
    while day < standing.billed_through("advance"):
        whole = standing.period_at(day)
        rest = Period(day, min(whole.end, standing.billed_through("advance")))
        lines += prorate(fees, standing.history, after, rest, whole, cause)
        day = whole.end
    return tuple(lines)


def billed_fees(standing: Standing) -> Sequence[BilledFee]:
    """Fees on issued invoices, and those already decided that wait for the next one."""
    waiting = [BilledFee.of(p.line) for p in standing.pending if p.line.kind == "proration"]
    return (*standing.fees, *waiting)


def _check(standing: Standing, change: Change, now: datetime) -> None:
    lifecycle.after(standing.state, "amend")
    faults: list[Fault] = []
    today = local_day(now, standing.zone)
    if change.effective_on < today:
        faults.append(Fault("effective_on", f"must not be before today, {today} in {standing.zone_name}"))
    if standing.ends_on is not None and change.effective_on >= standing.ends_on:
        faults.append(Fault("effective_on", f"the subscription ends on {standing.ends_on}"))
    if change.plan.currency != standing.currency:
        faults.append(Fault("plan", f"is priced in {change.plan.currency}; the contract is in {standing.currency}"))
    if change.plan.interval != standing.interval:
        faults.append(Fault("plan", "is billed at another interval; that needs a new subscription"))
    if not change.seats.is_finite() or change.seats < 0 or change.seats != change.seats.to_integral_value():
        faults.append(Fault("seats", "must be a whole number, zero or more"))
    if not change.discount_percent.is_finite() or not 0 <= change.discount_percent <= 100:
        faults.append(Fault("discount_percent", "must be between 0 and 100"))
    if faults:
        remedy = "Correct these fields and send it again, an amendment under a new id; nothing was changed."
        raise Refused("The change cannot be made as asked.", code="invalid_amendment", faults=faults, remedy=remedy)


def _recurring(standing: Standing, terms: Terms, day: date) -> Money:
    """Fees and seats of the whole interval that contains `day`, had these terms held in all of it, less percentages."""
    whole = standing.period_at(max(day, standing.anchor))
    held = [*standing.history, replace(terms, effective_on=whole.start)]
    lines = [line for lane in (True, False) for line in rate_fixed(held, whole, whole, advance=lane)]
    return total([line.net for line in discounted([x for x in lines if x.kind == "recurring"])], standing.currency)


def _fingerprint(standing: Standing, after: Terms, lines: Sequence[Line]) -> str:
    """Equal exactly if the same terms would be agreed at the same lines; 5 seats and 5.0 seats are the same."""
    after = replace(after, seats=after.seats.normalize(), discount_percent=after.discount_percent.normalize())
    said = repr((standing.subscription_id, after, tuple((x.item, x.period, x.gross, x.discount) for x in lines)))
    return hashlib.sha256(said.encode()).hexdigest()[:32]
