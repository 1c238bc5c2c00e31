"""What a plan asks of all its lines of a period together: amounts off, a minimum and a maximum, a commitment.

Each is a line of its own or a discount on lines that are rounded already, so that every line stays explained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from fractions import Fraction

from billing.amending import billed_fees
from billing.line import Because, Line, amount_off
from billing.modifiers import NO_BOUNDS, Limits, bounded
from billing.money import Amount, Money, refuse_beyond, total
from billing.period import Period
from billing.recipe import WHOLE
from billing.standing import BilledUsage, Standing
from billing.terms import Terms, Window, in_force, windows

PLAN, INVOICE = "plan", "invoice"
NAMES = {
    "minimum": "Minimum spend, difference",
    "maximum": "Maximum spend, difference",
    "commitment": "Commitment, what is missing",
    "overage": "Commitment, what is beyond",
}


def amounts_off(standing: Standing, boundary: date, lines: Sequence[Line]) -> tuple[Line, ...]:
    """The lines of one boundary, less the amounts off that plan and coupons give there.

    A boundary is the day on which a period begins in advance and the one before ends in arrears: its lines share
    what is given off.
    """
    terms = in_force(standing.history, min(boundary, standing.ends_on or boundary))
    done = tuple(lines)
    for discount in terms.amounts(standing.history, boundary):
        done = amount_off(done, discount.money(standing.currency, terms.plan.ties), discount.words, discount.on)
    return done


def asks_of_periods(standing: Standing) -> bool:
    """Whether any of the subscription's plans has bounds for a period."""
    return any(terms.plan.bounds != NO_BOUNDS for terms in standing.history)


def true_ups(standing: Standing, period: Period, spent: Money) -> tuple[Line, ...]:
    """Lines that bring what was `spent` in `period` to the plan's bounds and commitment, by the days of each terms."""
    stretches = windows(standing.history, period)
    if all(window.terms.plan.bounds == NO_BOUNDS for window in stretches):
        return ()
    limits = _together(stretches, standing.period_at(period.start))
    return _brought_to(limits, spent, period, stretches[-1].terms, PLAN)


def invoice_true_ups(standing: Standing, lines: Sequence[Line], period: Period) -> tuple[Line, ...]:
    """Lines that bring an invoice to the bounds of the plan in force on its period's last day."""
    terms = in_force(standing.history, max(period.start, period.end - timedelta(days=1)))
    billed = total([line.net for line in lines if line.taxable], standing.currency)
    if terms.plan.invoice_bounds == NO_BOUNDS or billed.minor < 0:
        return ()
    return _brought_to(terms.plan.invoice_bounds.cut(WHOLE), billed, period, terms, INVOICE)


def _together(stretches: Sequence[Window], whole: Period) -> Limits:
    """The bounds of a period whose days had different terms: each by its days; no maximum if one of them has none."""
    cuts = [window.terms.plan.bounds.cut(window.period.share_of(whole)) for window in stretches]
    lows = [cut.minimum for cut in cuts if cut.minimum is not None]
    highs = [cut.maximum for cut in cuts if cut.maximum is not None]
    agreed = [cut.agreed for cut in cuts if cut.agreed is not None]
    return Limits(
        sum(lows, Fraction(0)) if lows else None,
        sum(highs, Fraction(0)) if len(highs) == len(cuts) else None,
        sum(agreed, Fraction(0)) if agreed else None,
        next(cut.commitment for cut in reversed(cuts) if cut.agreed is not None or not agreed),
    )


def spent(standing: Standing, part: Period, fresh: Sequence[Line]) -> Money:
    """Net of all fees and usage of a period: on these lines, on issued documents, and waiting for the next.

    What is given back of a fee after an early end lies behind the part that ran, in the same period.
    """
    found = [line.net for line in fresh if line.kind in ("recurring", "usage") and line.period.start in part]
    whole = standing.period_at(part.start)
    found += [fee.gross - fee.discount for fee in billed_fees(standing) if fee.period.start in whole]
    return total(found, standing.currency)


def late_true_ups(
    standing: Standing, period: Period, spent: Money, billed: Mapping[str, BilledUsage]
) -> tuple[Line, ...]:
    """The difference between what the plan's bounds ask of a period by now and what was `billed` for them, by item."""
    now = {line.item: line for line in true_ups(standing, period, spent)}
    lines: list[Line] = []
    for item in sorted(now.keys() | billed.keys()):
        before = billed[item].gross if item in billed else Money.zero(standing.currency)
        line = now.get(item) or _line(_Cause(item, "no longer asked for", "0"), spent, spent, period, standing.terms)
        if line.gross != before:
            lines.append(
                replace(
                    line,
                    key=f"late/{line.key}/{billed[item].lines if item in billed else 0}",
                    description=f"{line.description} (usage received after billing)",
                    gross=line.gross - before,
                    because=replace(line.because, billed_before=before.minor),
                )
            )
    return tuple(lines)


@dataclass(frozen=True, slots=True)
class _Cause:
    """Which bound of which level, in words, and by how much it moves the amount."""

    item: str
    label: str
    amount: str


def _brought_to(limits: Limits, spent: Money, period: Period, terms: Terms, level: str) -> tuple[Line, ...]:
    """A line for each step; minimum, maximum and commitment are rounded, then what was spent is subtracted."""
    lines: list[Line] = []
    so_far, amount = spent, spent.amount
    _, steps = bounded(amount, limits)
    for step in steps:
        amount += Amount(Fraction(step.amount))
        reached = amount.rounded(terms.plan.currency, terms.plan.ties)
        refuse_beyond(reached, f"{NAMES[step.kind]} of the {level} ({step.label}), {period}")
        cause = _Cause(f"{level}:{step.kind}", step.label, step.amount)
        lines.append(_line(cause, so_far, reached, period, terms))
        so_far = reached
    return tuple(line for line in lines if line.gross)


def _line(cause: _Cause, spent: Money, reached: Money, period: Period, terms: Terms) -> Line:
    level, _, kind = cause.item.partition(":")
    return Line(
        key=f"true_up/{cause.item}/{period.start}/{period.end}",
        kind="true_up",
        item=cause.item,
        description=NAMES[kind],
        period=period,
        gross=reached - spent,
        discount=Money.zero(spent.currency),
        revenue="recurring",
        because=Because(
            terms_version=terms.version,
            plan_id=terms.plan.plan_id,
            plan_version=terms.plan.version,
            price_kind=f"{kind} of the {level}",
            quantity=spent.major,
            exact=cause.amount,
            note=f"{spent} charged for the {'period' if level == PLAN else 'invoice'}; {cause.label}",
            ties=terms.plan.ties,
        ),
        product=terms.plan.product,
    )
