"""Prices tried out: what an item or a whole plan costs for given usage, with the explanation. Nothing is stored.

The lines are those of the biller for one whole period; only subscriptions, tax and credits are not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from billing.biller import whole_period
from billing.catalog_check import offer_faults
from billing.errors import Fault, Refused
from billing.explain import explain
from billing.line import Line
from billing.modifiers import Redeemed
from billing.money import Money, total
from billing.period import Period
from billing.plan import Entitlement, Plan, PlanItem
from billing.plan_check import Known, MeterShape
from billing.pricing import Price
from billing.standing import Standing
from billing.taxes import Parties
from billing.terms import Terms
from billing.usage import Portion, Totals

MOST_PERIODS = 10_000


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried: a plan with seats and coupons, usage by meter, and which period it is (0 is the first)."""

    plan: Plan
    usage: Mapping[str, tuple[Portion, ...]]
    seats: Decimal = Decimal(1)
    discount_percent: Decimal = Decimal(0)
    coupons: tuple[Redeemed, ...] = ()
    number: int = 0


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
        raise Refused("What is tried cannot be billed as it stands.", code="invalid_plan", faults=faults)
    if not 0 <= trial.number <= MOST_PERIODS:
        raise Refused("The trial cannot be priced.", faults=[Fault("number", f"must be from 0 to {MOST_PERIODS}")])
    strange = [meter for meter in trial.usage if meter not in meters]
    if strange:
        reason = f"no item is priced by it; there are {', '.join(sorted(meters)) or 'no meters'}"
        faults = [Fault(f"usage.{meter}", reason) for meter in strange]
        raise Refused("The usage does not fit what is tried.", code="invalid_usage", faults=faults)


def _kind(given: Entitlement) -> str:
    return "limit" if given.limit is not None else "value" if given.value is not None else "switch"


def quote(trial: Trial, start: date) -> Quote:
    """The period of that number of a subscription that began so that this period begins on `start`."""
    interval = trial.plan.interval
    try:
        anchor = interval.start(start, -trial.number)
        period = interval.period_at(anchor, interval.start(anchor, trial.number))
    except (ValueError, OverflowError) as error:
        fault = Fault("number", f"lies outside of all calendars: {trial.number} periods before {start}")
        raise Refused("The trial cannot be priced.", faults=[fault]) from error
    lines = whole_period(_on_trial(trial, anchor), _on_first_day(trial.usage, period), period)
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
