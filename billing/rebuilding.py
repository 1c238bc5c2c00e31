"""What other totals of a meter are worth to a subscription, before they hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

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

    @classmethod
    def nothing(cls, currency: str) -> Worth:
        return cls(Money.zero(currency), Money.zero(currency))

    def __add__(self, other: Worth) -> Worth:
        """Of two subscriptions in one currency."""
        return Worth(self.late + other.late, self.open + other.open)

    def __bool__(self) -> bool:
        return bool(self.late or self.open)


def worth(standing: Standing, before: Totals, after: Totals, today: date) -> Worth:
    """The difference between one customer's totals as they hold and as they would be. Raises Refused as the biller."""
    # Of both the same periods, so that fees are no part of it; up to the running one, as a level goes on without usage.
    last = max([today, *(day for _, day in before), *(day for _, day in after)])
    return Worth(
        _late(standing, after) - _late(standing, before),
        _unbilled(standing, after, last) - _unbilled(standing, before, last),
    )


def _late(standing: Standing, totals: Totals) -> Money:
    found = late_usage(standing, totals)
    return total([line.net for line in (*found.lines, *found.released, *found.held)], standing.currency)


def _unbilled(standing: Standing, totals: Totals, last: date) -> Money:
    """Every period up to that of a day of which nothing is billed, at its whole price; one with the end, up to it."""
    start, end = standing.billed_through("arrears"), standing.ends_on or date.max
    nets: list[Money] = []
    while start <= last and start < end:
        period = standing.period_at(start)
        nets += [line.net for line in whole_period(standing, totals, period, ends_on=standing.ends_on)]
        start = period.end
    return total(nets, standing.currency)
