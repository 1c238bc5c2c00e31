"""The tie-outs of a month: every figure arrived at in two ways that do not read the same rows.

Documents, schedules, events and watermarks stand on the left, the ledger or what was made of them on the right. What
the comparisons are in SQL is in models/closing.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal

from sqlmodel import Session

from billing.accrual import usage_coverage
from billing.chart import REVENUE
from billing.money import Money
from billing.period import Period
from billing.quantity import added_up
from billing.revenue import earned
from billing.standing import FEES_REACH, Lane, Standing
from billing.terms import windows
from billing.tieout import TieOut, tie_out
from billing.usage import Totals, provable
from models import closing, revenue
from models.closing import compare
from models.revenue import Recognition
from models.subscription import settled
from models.usage import events_folded, totals_folded, totals_of


def proofs(
    session: Session, entity_id: str, currency: str, month: Period, standings: Sequence[Standing]
) -> list[TieOut]:
    """Every tie-out of the month. `standings` are all subscriptions of the legal entity."""
    last_day = month.end - timedelta(days=1)
    found = revenue.recognitions(session, entity_id, last_day)
    customers = sorted({s.customer_id for s in standings})
    totals = totals_of(session, customers)
    return [
        *(
            _in_money(c.name, (c.left_label, c.right_label), currency, compare(session, c, entity_id, month))
            for c in closing.COMPARISONS
        ),
        _deferred(closing.positions(session, entity_id, last_day), found, last_day, currency),
        _revenue(revenue.recognised(session, entity_id, last_day), found, last_day, currency),
        _fees(standings),
        _usage_folded(totals_folded(session, customers), events_folded(session, customers)),
        _usage_billed(standings, totals, settled(session, entity_id)),
    ]


def _in_money(name: str, labels: tuple[str, str], currency: str, rows: Sequence[tuple[str, int, int]]) -> TieOut:
    return tie_out(
        name, labels, currency, [(what, Money(a, currency).major, Money(b, currency).major) for what, a, b in rows]
    )


def _deferred(
    positions: Sequence[tuple[str, int, int]], found: Sequence[Recognition], last_day: date, currency: str
) -> TieOut:
    """By contract: what documents billed less what the schedules say was earned is what stands in the ledger."""
    done: dict[str, int] = defaultdict(int)
    for r in found:
        done[r.contract_id] += earned(r.promise, last_day).minor
    known = {contract: (billed, position) for contract, billed, position in positions}
    rows = [
        (contract, known.get(contract, (0, 0))[0] - done[contract], known.get(contract, (0, 0))[1])
        for contract in sorted(known.keys() | done.keys())
    ]
    return _in_money("deferred revenue", ("billed - earned", "contract position in the ledger"), currency, rows)


def _revenue(
    posted: Mapping[tuple[str, str], int], found: Sequence[Recognition], last_day: date, currency: str
) -> TieOut:
    """By promise and account of revenue."""
    due = {
        (r.promise.obligation_id, REVENUE[r.promise.revenue].number): earned(r.promise, last_day).minor for r in found
    }
    rows = [
        (f"{promise} in {account}", due.get((promise, account), 0), posted.get((promise, account), 0))
        for promise, account in sorted(due.keys() | posted.keys())
    ]
    return _in_money("revenue", ("earned by the schedules", "revenue in the ledger"), currency, rows)


def _fees(standings: Sequence[Standing]) -> TieOut:
    """Days that the watermarks say are billed against days that lines cover, by subscription and item."""
    rows = [
        (f"{s.subscription_id} {item}", Decimal(days), Decimal(covered))
        for s in standings
        for item, (days, covered) in sorted(_fee_days(s).items())
    ]
    return tie_out("fees billed", ("billed by the watermarks", "covered by lines"), "days", rows)


def _fee_days(standing: Standing) -> dict[str, tuple[int, int]]:
    lines: dict[str, list[Period]] = defaultdict(list)
    for fee in standing.fees:
        lines[fee.item].append(fee.period)
    for pending in standing.pending:
        lines[pending.line.item].append(pending.line.period)
    found: dict[str, tuple[int, int]] = {}
    for lane in standing.lanes:
        for item, period in _fee_windows(standing, lane):
            days, covered = found.get(item, (0, 0))
            found[item] = days + period.days, covered + _covered(period, lines[item])
    return found


def _fee_windows(standing: Standing, lane: Lane) -> Iterator[tuple[str, Period]]:
    """Every fee of the lane with the stretches of terms that it was owed in, up to the watermark."""
    start = max(standing.anchor, standing.billed_through("arrears") - FEES_REACH)
    end = min(lane.billed_through, standing.ends_on or lane.billed_through)
    if start < end:
        for window in windows(standing.history, Period(start, end)):
            for item in window.terms.plan.items:
                if item.basis != "meter" and not item.price.once and item.in_advance == (lane.name == "advance"):
                    yield item.key, window.period


def _covered(period: Period, lines: Sequence[Period]) -> int:
    """How many days of `period` are in any of the lines' periods."""
    days, reached = 0, period.start
    for line in sorted(lines):
        part = Period(reached, max(reached, period.end)).overlap(line)
        if part.days:
            days, reached = days + part.days, part.end
    return days


def _usage_folded(folded: Mapping[str, Decimal], events: Mapping[str, Decimal]) -> TieOut:
    keys = sorted(folded.keys() | events.keys())
    rows = [(key, events.get(key, Decimal(0)), folded.get(key, Decimal(0))) for key in keys]
    return tie_out("usage folded", ("quantities of the stored events", "live totals"), "units", rows)


def _usage_billed(standings: Sequence[Standing], totals: Mapping[str, Totals], settled_ones: Collection[str]) -> TieOut:
    folded = _by_meter(totals)
    mine: dict[str, list[Standing]] = defaultdict(list)
    for standing in standings:
        mine[standing.customer_id].append(standing)
    covered = {
        f"{customer_id} {meter}": quantity
        for customer_id, some in mine.items()
        for meter, quantity in usage_coverage(some, totals[customer_id], settled_ones).items()
    }
    rows = [(key, folded[key], covered.get(key, Decimal(0))) for key in sorted(folded)]
    labels = ("live totals, or events where days do not add up", "invoiced, unbilled or not billable")
    return tie_out("usage billed", labels, "units", rows)


def _by_meter(totals: Mapping[str, Totals]) -> dict[str, Decimal]:
    """ "customer meter" to the quantity of all days, or the number of events where days do not add up."""
    days: dict[str, list[Decimal]] = defaultdict(list)
    for customer_id, mine in totals.items():
        for (meter, _), portions in mine.items():
            days[f"{customer_id} {meter}"].append(provable(portions))
    return {key: added_up(quantities) for key, quantities in days.items()}
