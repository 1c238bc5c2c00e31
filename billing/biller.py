"""The biller: what a subscription owes at a cut-off. The same function for a run, an activation and a preview."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from billing.credits import Grant
from billing.ids import derive
from billing.invoice import Heading, Invoice, assemble
from billing.late_usage import late_usage
from billing.line import Line, discounted
from billing.period import Period, instant
from billing.rating import ItemWindow, rate_fixed, rated_usage, usage_windows
from billing.spend import amounts_off, asks_of_periods, invoice_true_ups, spent, true_ups
from billing.standing import Lane, Standing
from billing.taxes import TaxRate, decide
from billing.usage import Totals, carries_over
from billing.usage_proof import Sets, Signature, signed_late, signed_windows


@dataclass(frozen=True, slots=True)
class Facts:
    """What else billing needs: folded usage, tax rates, the customer's open credits, and which events are behind the
    totals, if what is billed is to be signed."""

    totals: Totals
    rates: Sequence[TaxRate]
    grants: Sequence[Grant] = ()
    sets: Sets | None = None


@dataclass(frozen=True, slots=True)
class Occasion:
    """When and as what the invoice is issued. Everything due up to `cutoff` is billed."""

    cutoff: datetime
    issued_on: date


@dataclass(frozen=True, slots=True)
class Bill:
    """An invoice (None if nothing was due), the watermarks after it, and the pending lines it took up.

    `standing` is what was billed from, with nothing pending any more. `usage_seen` is how many events of its days there
    were, if all of them are billed; None while it goes on. `held` is what a person is to be asked about. `signed` says
    which events are behind what was billed.
    """

    standing: Standing
    invoice: Invoice | None
    lanes: tuple[Lane, ...]
    claimed: tuple[str, ...]
    usage_seen: int | None = None
    held: tuple[Line, ...] = ()
    signed: tuple[Signature, ...] = ()


def bill(standing: Standing, facts: Facts, occasion: Occasion) -> Bill:
    """Everything due and unbilled, as one document.

    However many periods were missed, each is billed once: the watermark decides, not the day. Raises Refused when a
    person must act first (an unknown tax rate).
    """
    due = _due(standing, facts.totals, occasion)
    lanes = tuple(one.moved for one in due)
    fresh = _fresh(standing, due)
    late = late_usage(standing, facts.totals)
    settled = [*late.lines, *(p.line for p in standing.pending)]
    signed = tuple(_signed(standing, due, [*fresh, *late.lines], facts.sets)) if facts.sets is not None else ()
    seen = _usage_seen(standing, lanes, facts.totals)
    if not fresh and not settled:
        return Bill(standing, None, lanes, (), seen, late.held, signed)
    lines = [*fresh, *settled]
    if fresh:
        lines += invoice_true_ups(standing, lines, _spanned(fresh))
    marks = [f"{lane.name}:{lane.billed_through}" for lane in standing.lanes]
    cause = [*marks, *sorted(p.pending_id for p in standing.pending), *sorted(line.key for line in (*fresh, *settled))]
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
        entity_version=standing.entity_version,
        customer_version=standing.customer_version,
    )
    decision = decide(standing.parties, facts.rates, occasion.issued_on)
    invoice = assemble(heading, lines, decision, facts.grants)
    claimed = tuple(p.pending_id for p in standing.pending)
    return Bill(replace(standing, pending=()), invoice, lanes, claimed, seen, late.held, signed)


def _signed(standing: Standing, due: Sequence[Due], lines: Sequence[Line], sets: Sets) -> Iterator[Signature]:
    """Of lines that a person has let go on an invoice the quantity is older than these sets."""
    for lane in due:
        yield from signed_windows(lane.windows, lines, sets)
    yield from signed_late(standing.history, lines, sets)
    yield from signed_late(standing.history, [p.line for p in standing.pending], None)


def _usage_seen(standing: Standing, lanes: Sequence[Lane], totals: Totals) -> int | None:
    """How many events there are of the subscription's days, once all of its days are billed; and of the days before, of
    meters that carry over.
    """
    through = next((lane.billed_through for lane in lanes if lane.name == "arrears"), None)
    if standing.ends_on is None or through is None or through < standing.ends_on:
        return None
    days = (
        portions
        for (meter, day), portions in totals.items()
        if day < through and (day >= standing.anchor or carries_over(totals, meter))
    )
    return sum(portion.events for portions in days for portion in portions)


@dataclass(frozen=True, slots=True)
class Due:
    """What one lane has due: its lines by the boundary at which they fall due, the parts billed, its new watermark, and
    the windows of usage that are billed with it."""

    lines: tuple[tuple[date, Line], ...]
    parts: tuple[Period, ...]
    moved: Lane
    windows: tuple[ItemWindow, ...] = ()


def _due(standing: Standing, totals: Totals, occasion: Occasion) -> list[Due]:
    return [
        _advance(standing, lane, occasion) if lane.name == "advance" else _arrears(standing, lane, totals, occasion)
        for lane in standing.lanes
    ]


def _advance(standing: Standing, lane: Lane, occasion: Occasion) -> Due:
    """Every period that has begun by the cut-off and is not billed, cut where the subscription ends."""
    lines: list[tuple[date, Line]] = []
    start = lane.billed_through
    while instant(start, standing.zone) <= occasion.cutoff and (standing.ends_on is None or start < standing.ends_on):
        whole = standing.period_at(start)
        part = Period(start, min(whole.end, standing.ends_on or whole.end))
        lines += [(whole.start, line) for line in rate_fixed(standing.history, part, whole, advance=True)]
        start = part.end
    return Due(tuple(lines), (), Lane("advance", start))


def _arrears(standing: Standing, lane: Lane, totals: Totals, occasion: Occasion) -> Due:
    """Every period that has ended by the cut-off and is not billed: usage, and fees agreed in arrears."""
    lines: list[tuple[date, Line]] = []
    parts: list[Period] = []
    measured: list[ItemWindow] = []
    start = lane.billed_through
    while standing.ends_on is None or start < standing.ends_on:
        whole = standing.period_at(start)
        part = Period(start, min(whole.end, standing.ends_on or whole.end))
        if instant(part.end, standing.zone) > occasion.cutoff:
            break
        windows = usage_windows(standing.history, part, whole)
        found = [*rate_fixed(standing.history, part, whole, advance=False), *rated_usage(windows, totals)]
        measured += windows
        lines += [(whole.end, line) for line in found]
        parts.append(part)
        start = part.end
    return Due(tuple(lines), tuple(parts), Lane("arrears", start), tuple(measured))


def _fresh(standing: Standing, due: Sequence[Due]) -> list[Line]:
    """The lines of all lanes, less percentages and amounts off, and what the plan asks of each period.

    What is taken off is worked out boundary by boundary, so that missed periods are billed as each would have been.
    """
    dated = [one for lane in due for one in lane.lines]
    reduced: dict[str, Line] = {}
    for boundary in sorted({day for day, _ in dated}):
        shared = discounted([line for day, line in dated if day == boundary])
        reduced |= {line.key: line for line in amounts_off(standing, boundary, shared)}
    lines = [reduced[line.key] for _, line in dated]
    if asks_of_periods(standing):
        for part in (part for lane in due for part in lane.parts):
            lines += true_ups(standing, part, spent(standing, part, lines))
    return lines


def whole_period(
    standing: Standing, totals: Totals, period: Period, *, ends_on: date | None = None
) -> tuple[Line, ...]:
    """Fees and usage of one whole period as the biller bills them, under the terms that stand, had nothing been billed.

    It is whole though the subscription ends in it, unless the end is given.

    For previews and comparisons. They are billed at the period's two boundaries, and share what is taken off there with
    what the period before has in arrears and with the next one's fees; usage of which `totals` knows nothing is none.
    The bounds of an invoice count for these lines as if they were one.
    """
    before = standing.period_at(period.start - timedelta(days=1)) if period.start > standing.anchor else period
    lanes = (Lane("advance", period.start), Lane("arrears", before.start))
    unbilled = replace(standing, lanes=lanes, ends_on=ends_on, fees=(), usage=(), true_ups=(), pending=())
    due = _due(unbilled, totals, Occasion(instant(period.end, standing.zone), period.end))
    lines = [line for line in _fresh(unbilled, due) if line.period.start in period]
    return (*lines, *invoice_true_ups(standing, lines, period))


def _spanned(lines: Sequence[Line]) -> Period:
    return Period(min(line.period.start for line in lines), max(line.period.end for line in lines))
