"""Prices tried out: what an item or a whole plan costs for given usage, with the explanation. Nothing is stored.

The lines are those of the biller for one whole period; only subscriptions, tax and credits are not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from billing.biller import whole_period
from billing.explain import explain
from billing.line import Line
from billing.modifiers import Redeemed
from billing.money import Money, total
from billing.period import Period
from billing.plan import Plan
from billing.standing import Standing
from billing.taxes import Parties
from billing.terms import Terms
from billing.usage import Portion, Totals


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


def quote(trial: Trial, start: date) -> Quote:
    """The period of that number of a subscription that began so that this period begins on `start`."""
    interval = trial.plan.interval
    anchor = interval.start(start, -trial.number)
    period = interval.period_at(anchor, interval.start(anchor, trial.number))
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
