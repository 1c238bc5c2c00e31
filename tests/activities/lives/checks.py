"""What must hold of a random life: usage is counted as a fold of its events says, and at the end billed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal

from sqlmodel import Session

from billing.catalog import Meter
from billing.folding import Clocks, Folding, portion_of
from billing.late_usage import late_usage
from billing.line import share_off
from billing.period import Period, zone
from billing.portion import Portion
from billing.rating import ItemWindow, rate_usage, usage_windows
from billing.standing import FEES_REACH, Standing
from billing.usage import Totals
from models import usage_check
from models.audit import audit
from models.database import cursor, transaction
from models.event import Event, events_of
from models.meter_version import meter as newest
from models.meter_version import spans, versions
from models.standing import standings
from models.usage import Folded, events_folded, folded, totals_folded, totals_of
from tests.activities.lives.life import Life
from tests.activities.lives.sold import AMOUNT_OFF, METERS, MINIMUM, ZONES

FIRST, LAST = date(2025, 1, 1), date(2028, 1, 1)
Made = dict[date, list[Portion]]


def all_is_counted(life: Life) -> None:
    """Totals, windows' events, audits and proofs say what a fold of all that was sent does."""
    with transaction(life.engine) as session:
        found = folded(session, [*ZONES])
        for customer in ZONES:
            for one in METERS:
                _is_counted(session, life, customer, one.meter_id, found[customer])
        assert _not_zero(totals_folded(session, [*ZONES])) == _not_zero(events_folded(session, [*ZONES]))
        _proofs_hold(session, life)


def _is_counted(session: Session, life: Life, customer: str, meter: str, found: Folded) -> None:
    mine = [event for event in life.of(customer, life.accepted) if event.id not in life.void]
    made, counted = _made_of(session, customer, meter, mine)
    assert {day: sorted(some, key=_order) for (name, day), some in found.totals.items() if name == meter and some} == {
        day: sorted(some, key=_order) for day, some in made.items()
    }
    assert sum(behind.events for (name, _), behind in found.sets.items() if name == meter) == len(counted)
    behind = events_of(session, customer, (FIRST, LAST), meter, None, 99_999)
    assert {event.id for event in behind} == counted - life.gone
    _audit_adds_up(session, life, customer, newest(session, meter), len(counted))


def _made_of(session: Session, customer: str, meter: str, events: Sequence[Event]) -> tuple[Made, set[str]]:
    """What the meter makes of events, each counted by the version of its day; and those that count."""
    ways, where = {row.version: how for row, how in versions(session, meter)}, zone(ZONES[customer])
    made: Made = {}
    counted: set[str] = set()
    for span in spans(session, meter):
        how = ways[span.version]
        folding = Folding([how], Clocks(), {meter: [(span.since, span.until)]})
        counted |= {e.id for e in events if folding.add(customer, where, e.type, e.occurred_at, e.data)[1]}
        is_apart = how.per_event or how.aggregation == "unique"
        for (_, _, day, kept, each), total in folding.days().items():
            made.setdefault(day, []).append(portion_of(how, where.key, kept, each if is_apart else None, total))
    return made, counted


def _order(portion: Portion) -> tuple[object, ...]:
    return portion.properties, portion.each or 0, portion.quantity


def _audit_adds_up(session: Session, life: Life, customer: str, meter: Meter, counted: int) -> None:
    """To the events that were sent, each of them in one place."""
    accepted, waiting, discarded = (life.of(customer, some) for some in (life.accepted, life.waiting, life.discarded))
    void = Counter(life.void[event.id] for event in accepted if event.id in life.void)
    told = audit(session, customer, meter, FIRST, LAST)
    assert told.received == told.accepted + told.duplicate + told.conflict + told.quarantined + told.discarded
    assert told.accepted == told.counted + told.uncounted + told.amended + told.voided == len(accepted)
    assert told.stored == sum(event.id not in life.gone for event in accepted)
    assert (told.quarantined, told.discarded, told.conflict) == (len(waiting), len(discarded), 0)
    assert told.duplicate == sum(life.again[event.id] for event in (*accepted, *waiting, *discarded))
    assert (told.counted, told.amended, told.voided) == (counted, void[True], void[False])


def _not_zero(quantities: dict[str, Decimal]) -> dict[str, Decimal]:
    return {name: quantity for name, quantity in quantities.items() if quantity}


def _proofs_hold(session: Session, life: Life) -> None:
    """Of all invoices, or some of their events were taken away."""
    fine = {"holds", "unsigned", *(["taken_away"] if life.taken else [])}
    for (key,) in cursor(session).execute("select id from invoice").fetchall():
        assert not [one for one in usage_check.check(session, key) if one.verdict not in fine], key


# Once nothing is asked, or late, any more.


def all_is_billed(life: Life) -> None:
    """What is billed for each window, and what was waived of it, is its price by the totals of now."""
    with transaction(life.engine) as session:
        totals = totals_of(session, [*ZONES])
        for one in standings(session, [*ZONES]):
            mine = totals[one.customer_id]
            late = late_usage(one, mine)
            assert not late.lines and not late.held and not late.released
            _windows_are_billed(session, one, mine)
            _minimums_come_out(session, one)
    assert not life.questions()
    assert not [subject for subject, _ in life.company.open_tasks() if subject.startswith("billing")]


def _windows_are_billed(session: Session, one: Standing, totals: Totals) -> None:
    came = _billed(session, one)
    for line in one.set_aside:
        gross, net = came.get((line.item, line.period), (0, 0))
        came[line.item, line.period] = gross + line.gross.minor, net + line.net.minor
    for window in _windows(one):
        line = rate_usage(window, window.measured(totals))
        gross, net = came.pop((window.item.key, window.period), (0, 0))
        assert gross == line.gross.minor, (one.subscription_id, window.item.key, window.period)
        fresh = line.gross - share_off(line.gross, line.because.discount_percent, line.because.ties)
        assert -1 - _most_off(one) <= net - fresh.minor <= 1, (one.subscription_id, window.item.key, window.period)
    assert not came


def _billed(session: Session, one: Standing) -> dict[tuple[str, Period], tuple[int, int]]:
    """Gross and net of what was billed for usage, by item and window."""
    rows = cursor(session).execute(
        "select item, period_start, period_end, sum(gross_minor)::bigint, sum(net_minor)::bigint from invoice_line"
        " where subscription_id = %s and kind in ('usage', 'late_usage') group by 1, 2, 3",
        (one.subscription_id,),
    )
    return {(item, Period(start, end)): (gross, net) for item, start, end, gross, net in rows}


def _most_off(one: Standing) -> int:
    """By how much amounts off may reduce a window, in minor units: those of the periods of two plans may meet there."""
    gives = any(discount.kind == "amount" for terms in one.history for discount in terms.plan.discounts)
    return 2 * AMOUNT_OFF if gives else 0


def _periods(one: Standing) -> Iterator[Period]:
    """Whole ones, of which everything is billed."""
    day = one.anchor
    while day < one.billed_through("arrears"):
        yield one.period_at(day)
        day = one.period_at(day).end


def _windows(one: Standing) -> Iterator[ItemWindow]:
    for whole in _periods(one):
        yield from usage_windows(one.history, one.part_at(whole.start), whole)


def _minimums_come_out(session: Session, one: Standing) -> None:
    """Of whole periods in which nothing but the plan with the minimum was sold, and of which fees are known still."""
    for whole in _periods(one):
        sold = {terms.plan.plan_id for terms in one.history if terms.effective_on < whole.end}
        is_known = whole.start >= one.billed_through("arrears") - FEES_REACH + timedelta(days=10)
        if sold == {"three"} and one.part_at(whole.start) == whole and is_known:
            others, true_up = _spent(session, one, whole)
            assert true_up == max(0, MINIMUM - others), (one.subscription_id, whole)


def _spent(session: Session, one: Standing, period: Period) -> tuple[int, int]:
    """What was billed for a period, credit that was bought aside, and what was added for its minimum."""
    row = (
        cursor(session)
        .execute(
            "select coalesce(sum(net_minor) filter (where kind <> 'true_up'), 0)::bigint,"
            " coalesce(sum(net_minor) filter (where kind = 'true_up'), 0)::bigint from invoice_line"
            " where subscription_id = %s and period_start >= %s and period_end <= %s and kind <> 'credit_purchase'",
            (one.subscription_id, period.start, period.end),
        )
        .fetchone()
    )
    assert row is not None
    return row[0], row[1]


def months_close(life: Life, *months: str) -> None:
    """With every tie-out, one after the other."""
    for month in months:
        life.company.prove(month)
        assert life.company.differences(month) == {}
        life.company.lock(month)
