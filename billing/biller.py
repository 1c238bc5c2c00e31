"""The biller: what a subscription owes at a cut-off. The same function for a run, an activation and a preview."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from billing.credits import Grant
from billing.ids import derive
from billing.invoice import Heading, Invoice, assemble
from billing.line import Line
from billing.period import Period, instant
from billing.rating import Totals, measure, rate_fixed, rate_late_usage, rate_usage, usage_windows
from billing.standing import Lane, Standing
from billing.taxes import TaxRate, decide


@dataclass(frozen=True, slots=True)
class Facts:
    """What else billing needs: folded usage, tax rates and the customer's open credits."""

    totals: Totals
    rates: Sequence[TaxRate]
    grants: Sequence[Grant] = ()


@dataclass(frozen=True, slots=True)
class Occasion:
    """When and as what the invoice is issued. Everything due up to `cutoff` is billed."""

    cutoff: datetime
    issued_on: date


@dataclass(frozen=True, slots=True)
class Bill:
    """An invoice (None if nothing was due), the watermarks after it, and the pending lines it took up.

    `standing` is what was billed from, with nothing pending any more.
    """

    standing: Standing
    invoice: Invoice | None
    lanes: tuple[Lane, ...]
    claimed: tuple[str, ...]


def bill(standing: Standing, facts: Facts, occasion: Occasion) -> Bill:
    """Everything due and unbilled, as one document.

    However many periods were missed, each is billed once: the watermark decides, not the day. Raises Refused when a
    person must act first (an unknown tax rate).
    """
    fresh: list[Line] = []
    lanes: list[Lane] = []
    for lane in standing.lanes:
        lines, moved = (
            _advance(standing, lane, occasion)
            if lane.name == "advance"
            else _arrears(standing, lane, facts.totals, occasion)
        )
        fresh += lines
        lanes.append(moved)
    settled = [*late_usage(standing, facts.totals), *(p.line for p in standing.pending)]
    if not fresh and not settled:
        return Bill(standing, None, tuple(lanes), ())
    marks = [f"{lane.name}:{lane.billed_through}" for lane in standing.lanes]
    keys = [line.key for line in (*fresh, *settled)]
    cause = [*marks, *sorted(p.pending_id for p in standing.pending), *sorted(keys)]
    heading = Heading(
        invoice_id=derive("inv", standing.subscription_id, *cause),
        entity_id=standing.entity_id,
        customer_id=standing.customer_id,
        contract_id=standing.contract_id,
        subscription_id=standing.subscription_id,
        currency=standing.currency,
        issued_on=occasion.issued_on,
        issued_at=occasion.cutoff,
        payment_terms_days=standing.payment_terms_days,
    )
    decision = decide(standing.parties, facts.rates, occasion.issued_on)
    invoice = assemble(heading, fresh, settled, decision, facts.grants)
    claimed = tuple(p.pending_id for p in standing.pending)
    return Bill(replace(standing, pending=()), invoice, tuple(lanes), claimed)


def _advance(standing: Standing, lane: Lane, occasion: Occasion) -> tuple[list[Line], Lane]:
    """Every period that has begun by the cut-off and is not billed, cut where the subscription ends."""
    lines: list[Line] = []
    start = lane.billed_through
    while instant(start, standing.zone) <= occasion.cutoff and (standing.ends_on is None or start < standing.ends_on):
        whole = standing.period_at(start)
        part = Period(start, min(whole.end, standing.ends_on or whole.end))
        lines += rate_fixed(standing.history, part, whole, advance=True)
        start = part.end
    return lines, Lane("advance", start)


def _arrears(standing: Standing, lane: Lane, totals: Totals, occasion: Occasion) -> tuple[list[Line], Lane]:
    """Every period that has ended by the cut-off and is not billed: usage, and fees agreed in arrears."""
    lines: list[Line] = []
    start = lane.billed_through
    while standing.ends_on is None or start < standing.ends_on:
        whole = standing.period_at(start)
        part = Period(start, min(whole.end, standing.ends_on or whole.end))
        if instant(part.end, standing.zone) > occasion.cutoff:
            break
        lines += rate_fixed(standing.history, part, whole, advance=False)
        for window in usage_windows(standing.history, part):
            lines.append(rate_usage(window, measure(totals, window.item.meter or "", window.period)))
        start = part.end
    return lines, Lane("arrears", start)


def late_usage(standing: Standing, totals: Totals) -> list[Line]:
    """Folded total now minus what was invoiced, for every window already billed; a line where it differs."""
    lines: list[Line] = []
    for billed in standing.usage:
        for window in usage_windows(standing.history, billed.period):
            if window.item.key != billed.item or window.period != billed.period:
                continue
            quantity = measure(totals, window.item.meter or "", window.period)
            if quantity != billed.quantity:
                line = rate_late_usage(window, quantity, billed.quantity, billed.gross, billed.net)
                lines.append(replace(line, key=f"{line.key}/{billed.lines}"))
    return lines
