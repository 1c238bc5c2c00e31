"""Prices tried out: what an item or a whole plan costs for given usage, with the explanation. Nothing is stored.

The lines are those of the biller for one whole period; only subscriptions, tax and credits are not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

from billing.biller import whole_period
from billing.by_day import by_day
from billing.catalog import Meter
from billing.catalog_check import offer_faults
from billing.errors import Fault, Refused
from billing.explain import explain
from billing.folding import fold, needs_times
from billing.line import Line
from billing.modifiers import Redeemed
from billing.money import Money, total
from billing.period import Period
from billing.plan import Entitlement, Plan, PlanItem
from billing.plan_check import Known, MeterShape
from billing.portion import Portion
from billing.pricing import Price
from billing.quantity import product
from billing.standing import Standing
from billing.taxes import Parties
from billing.terms import Terms
from billing.usage import BEFORE, Totals

MOST_PERIODS = 10_000
MOST_STEPS = 50_000


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried: a plan with seats and coupons, usage by meter, and which period it is (0 is the first). `dated` is
    usage of which the period has what lies on its days, in UTC.
    """

    plan: Plan
    usage: Mapping[str, tuple[Portion, ...]]
    seats: Decimal = Decimal(1)
    discount_percent: Decimal = Decimal(0)
    coupons: tuple[Redeemed, ...] = ()
    number: int = 0
    dated: Totals = field(default_factory=dict)

    def portions(self, meter: str | None) -> int:
        """How many portions of usage of a meter there are, however they are given."""
        return len(self.usage.get(meter or "", ())) + sum(
            len(some) for (of, _), some in self.dated.items() if of == meter
        )


class TriedEvent(NamedTuple):
    """An event that is tried: type, data, and when it happened, which not every meter asks for."""

    type: str
    data: Mapping[str, object]
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """A line of the trial and its explanation."""

    line: Line
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quote:
    """The lines of one whole period, fees and usage, and their sum before tax."""

    period: Period
    lines: tuple[Tried, ...]
    net: Money


ALONE = "quantity"
"""The meter that stands for the quantity of a price that is tried alone."""


def alone(price: Price, currency: str, unit: str = "") -> Plan:
    """A plan of nothing but this price: fees as they are, everything else for the quantity that is tried."""
    if price.kind in ("flat", "one_time"):
        return of_item(PlanItem("price", "Price", price), currency)
    return of_item(PlanItem("price", "Price", price, "meter", ALONE, unit), currency)


def of_item(item: PlanItem, currency: str) -> Plan:
    """A plan of nothing but this item."""
    return Plan("preview", 1, "Preview", currency, (item,))


def check_trial(trial: Trial) -> None:
    """Refuse what could not be billed, naming every fault; meters, features and products need not be there yet."""
    items = [*trial.plan.items, *(item for other in trial.plan.in_currencies for item in other.items)]
    dimensions = frozenset(name for item in items for name in item.price.dimensions())
    meters = {meter: MeterShape(dimensions, per_event=True) for item in items for meter in item.meters}
    features = {given.feature: _kind(given) for given in trial.plan.entitlements}
    products = {product for product in (trial.plan.product, *(item.product for item in items)) if product}
    if faults := offer_faults(trial.plan, Known(meters, features, frozenset(products))):
        raise Refused(
            "What is tried cannot be billed as it stands.",
            code="invalid_plan",
            faults=faults,
            remedy="Mend the named fields and try it again.",
        )
    if not 0 <= trial.number <= MOST_PERIODS:
        fault = Fault("number", f"must be from 0 to {MOST_PERIODS}")
        raise Refused("The trial cannot be priced.", faults=[fault], remedy="Try an earlier period.")
    if faults := list(_usage_faults(trial, set(meters))):
        raise Refused(
            "The usage does not fit what is tried.",
            code="invalid_usage",
            faults=faults,
            remedy="Give usage of the meters that items are priced by, each as the reason says.",
        )
    steps = sum(item.price.most_steps(trial.portions(item.meter)) for item in trial.plan.items)
    steps += len(trial.plan.items) * len(trial.plan.discounts)
    if steps > MOST_STEPS:
        said = f"would take up to {steps:,} steps over all items, tiers and discounts; at most {MOST_STEPS:,} are tried"
        remedy = "Try it with fewer portions of usage, or with fewer items, tiers or discounts."
        raise Refused(
            "There is too much usage to try.", code="invalid_usage", faults=[Fault("usage", said)], remedy=remedy
        )


def count(plan: Plan, meters: Iterable[Meter], events: Sequence[TriedEvent]) -> tuple[dict[str, list[Portion]], Totals]:
    """What the plan's meters make of events: usage of the period, whenever they happened; and, of meters of which they
    say nothing without their times, usage by day in UTC. Refused if one has no time that needs one.
    """
    asked = {meter for item in plan.items for meter in item.meters}
    mine = [meter for meter in meters if meter.meter_id in asked]
    timed = [meter for meter in mine if needs_times(meter)]
    timeless = {event.type for event in events if event.at is None}
    faults = [
        Fault("events", f"have no times, without which {meter.meter_id!r} cannot count: give its quantity in `usage`")
        for meter in timed
        if meter.event_type in timeless
    ]
    if faults:
        remedy = "Give each event of that type its `time`, or the quantity."
        raise Refused("The events cannot be counted.", code="invalid_usage", faults=faults, remedy=remedy)
    found = fold(mine, ((event.type, event.data) for event in events))
    dated = ((event.type, event.at, event.data) for event in events if event.at is not None)
    return {meter: list(portions) for meter, portions in found.items()}, by_day(timed, dated)


def _usage_faults(trial: Trial, meters: set[str]) -> Iterator[Fault]:
    """Usage that no item asks for, and several events of which it is not plain how much each was."""
    single = {item.meter for item in trial.plan.items if item.price.per_event()}
    for meter, portions in trial.usage.items():
        if meter not in meters:
            known = ", ".join(sorted(meters)) or "no meters"
            yield Fault(f"usage.{meter}", f"no item is priced by it; there are {known}")
        elif (meter, BEFORE) in trial.dated:
            yield Fault(f"usage.{meter}", "is counted by events too, of which it has the level: give one of both")
        elif meter in single and any(p.each is None and p.events != 1 for p in portions):
            yield Fault(f"usage.{meter}", "is priced event by event: say the quantity of `each`")
        elif any(p.each is not None and product(p.each, Decimal(p.events)) != p.quantity for p in portions):
            yield Fault(f"usage.{meter}", "has a quantity that is not `each` times its events")


def _kind(given: Entitlement) -> str:
    return "limit" if given.limit is not None else "value" if given.value is not None else "switch"


def quote(trial: Trial, start: date) -> Quote:
    """The period of that number of a subscription that began so that this period begins on `start`.

    The next period has to lie in the calendar too: its fees are billed together with this one's usage.
    """
    interval = trial.plan.interval
    try:
        anchor = interval.start(start, -trial.number)
        period = interval.period_at(anchor, interval.start(anchor, trial.number))
        interval.period_at(anchor, period.end)
    except (ValueError, OverflowError) as error:
        said = f"leads out of all calendars: {trial.number} periods before {start}, or two after it"
        fault = Fault("number", said)
        raise Refused("The trial cannot be priced.", faults=[fault], remedy="Try an earlier period.") from error
    lines = whole_period(_on_trial(trial, anchor), {**_on_first_day(trial.usage, period), **trial.dated}, period)
    tried = tuple(Tried(line, tuple(explain(line.because, line.gross, line.discount))) for line in lines)
    return Quote(period, tried, total([line.net for line in lines], trial.plan.currency))


def _on_trial(trial: Trial, anchor: date) -> Standing:
    """A subscription that is there only for the engine to look at."""
    terms = Terms(1, anchor, trial.plan, trial.seats, trial.discount_percent, trial.coupons)
    return Standing(
        subscription_id="trial",
        root_id="trial",
        customer_id="trial",
        contract_id="trial",
        entity_id="trial",
        clock_id=None,
        currency=trial.plan.currency,
        zone_name="UTC",
        anchor=anchor,
        interval=trial.plan.interval,
        state="active",
        payment_terms_days=0,
        parties=Parties("DE", "DE", False),
        ends_on=None,
        history=(terms,),
    )


def _on_first_day(usage: Mapping[str, Sequence[Portion]], period: Period) -> Totals:
    return {(meter, period.start): tuple(portions) for meter, portions in usage.items()}
