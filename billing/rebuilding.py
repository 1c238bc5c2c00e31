"""What other totals of a meter are worth to a subscription, before they hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from billing.biller import whole_period
from billing.late_usage import late_usage
from billing.money import Money, total
from billing.standing import Standing
from billing.usage import Totals


@dataclass(frozen=True, slots=True)
class Worth:
    """Net of tax, in the subscription's currency: what the next invoice has more for periods that are billed, or a
    person is asked about (`late`), and what periods that are not billed yet come to more by now (`open`). Below zero,
    the customer gets it back.
    """

    late: Money
    open: Money


def worth(standing: Standing, before: Totals, after: Totals) -> Worth:
    """The difference between one customer's totals as they hold and as they would be. Raises Refused as the biller."""
    return Worth(
        _late(standing, after) - _late(standing, before), _unbilled(standing, after) - _unbilled(standing, before)
    )


def _late(standing: Standing, totals: Totals) -> Money:
    found = late_usage(standing, totals)
    return total([line.net for line in (*found.lines, *found.released, *found.held)], standing.currency)


def _unbilled(standing: Standing, totals: Totals) -> Money:
    """Every period of which usage is known and nothing is billed, at its whole price."""
    start = standing.billed_through("arrears")
    end = max((day for _, day in totals), default=date.min) + timedelta(days=1)
    nets: list[Money] = []
    while start < min(end, standing.ends_on or end):
        period = standing.period_at(start)
        nets += [line.net for line in whole_period(standing, totals, period)]
        start = period.end
    return total(nets, standing.currency)
