"""Any plan that is not refused can be billed, changed and ended: random plans, lived through with random usage.

`Books` proves the ledger after every step and replays every line. Here every line must be exact, and what was used and
then taken back in full must have cost nothing where the plan asks for nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from billing.amending import Change
from billing.modifiers import NO_BOUNDS
from billing.period import Interval, instant, zone
from billing.plan import Plan
from billing.plan_check import check
from billing.portion import Portion
from billing.preview import Trial, quote
from billing.quantity import product
from billing.replay import replay
from tests.billing.bookkeeping import Agreement, Books, signed
from tests.billing.price_strategies import decimals
from tests.billing.price_strategies import signed as with_sign
from tests.billing.story import RATES
from tests.billing.strategies import KNOWN, METERS, plans, without_too_much_money

ANCHOR = date(2026, 1, 31)
BERLIN = zone("Europe/Berlin")


@st.composite
def portions(draw: st.DrawFn) -> tuple[str, Portion]:
    """Some usage of one of the meters, in the shape that it keeps."""
    meter = draw(st.sampled_from(METERS))
    events, size = draw(st.integers(1, 3)), draw(with_sign(decimals(6, 3)))
    names = [name for name in sorted(meter.dimensions) if draw(st.booleans())]
    properties = tuple((name, draw(st.sampled_from(["eu", "us"]))) for name in names)
    if meter.per_event:
        return meter.meter_id, Portion(product(size, Decimal(events)), events, properties, each=size)
    return meter.meter_id, Portion(size, events, properties)


@st.composite
def two_plans(draw: st.DrawFn) -> tuple[Plan, Plan]:
    """A plan and another one that its customers may change to."""
    one, other = replace(draw(plans()), kind="plan"), draw(plans())
    return one, replace(
        other, kind="plan", plan_id="other", interval=one.interval, currency=one.currency, in_currencies=()
    )


PERCENTS = st.sampled_from([Decimal(0), Decimal("33.3")])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["bill", "bill", "amend", "recognise"]),
        st.sampled_from([1, 10, 40, 0]),
        st.lists(portions(), max_size=3),
        st.integers(0, 4),
    ),
    min_size=2,
    max_size=7,
)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(two_plans(), STEPS, PERCENTS)
@without_too_much_money()
def test_any_plan_is_billed_changed_ended_and_replayed(
    both: tuple[Plan, Plan], steps: list[tuple[str, int, list[tuple[str, Portion]], int]], percent: Decimal
) -> None:
    for plan in both:
        check(plan, KNOWN)
    books = Books({"sub_1": signed(Agreement(ANCHOR, both[0], Decimal(2), percent))}, rates=RATES)
    day = ANCHOR
    for n, (verb, days, used, seats) in enumerate(steps):
        for meter, portion in used:
            books.put(meter, max(ANCHOR, day - timedelta(days=seats * 5)), portion)
        now = instant(day, BERLIN)
        match verb:
            case "bill":
                books.bill(now)
            case "amend":
                books.amend(now, Change(f"am_{n}", day, both[seats % 2], Decimal(seats), Decimal(0)))
            case "recognise":
                books.move_to(now)
                books.recognise(day)
        day = day + timedelta(days=days) if days else both[0].interval.start(day, 1)
    books.cancel(instant(day, BERLIN), day)
    books.bill(instant(day + timedelta(days=1), BERLIN))
    books.recognise(day + timedelta(days=20000))
    for document in books.documents:
        for line in document.lines:
            assert replay(line, books.standing) is None, line


@settings(derandomize=True, deadline=None, max_examples=60)
@given(plans(), st.lists(st.tuples(portions(), st.integers(0, 300)), max_size=6), PERCENTS)
@without_too_much_money()
def test_missed_periods_are_billed_as_they_would_have_been(
    drawn_plan: Plan, used: list[tuple[tuple[str, Portion], int]], percent: Decimal
) -> None:
    """All at once or one by one, each line is the same; but for what an invoice as a whole is brought to, which these
    plans do without.
    """
    plan = replace(drawn_plan, kind="plan", invoice_bounds=NO_BOUNDS, interval=Interval("month", 2))
    days = [plan.interval.start(ANCHOR, n) for n in range(6)]
    found = []
    for moments in (days, [days[0], days[-1]], [days[0], days[2], days[-1]]):
        books = Books({"sub_1": signed(Agreement(ANCHOR, plan, Decimal(3), percent))}, rates=RATES)
        for (meter, portion), day in used:
            books.put(meter, ANCHOR + timedelta(days=day), portion)
        for day in moments:
            books.bill(instant(day, BERLIN))
        lines = [line for document in books.documents for line in document.lines]
        found.append(sorted((x.kind, x.item, x.period, x.gross.minor, x.discount.minor) for x in lines))
    assert found[0] == found[1] == found[2]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(plans(), st.lists(portions(), max_size=4), st.integers(0, 3), PERCENTS)
@without_too_much_money()
def test_a_quote_is_what_is_billed_of_that_period(
    drawn_plan: Plan, used: list[tuple[str, Portion]], number: int, percent: Decimal
) -> None:
    """Whatever the plan takes off, and whenever; but for what an invoice as a whole is brought to."""
    plan = replace(drawn_plan, kind="plan", invoice_bounds=NO_BOUNDS)
    anchor = date(2026, 1, 1)
    period = plan.interval.period_at(anchor, plan.interval.start(anchor, number))
    books = Books({"sub_1": signed(Agreement(anchor, plan, Decimal(3), percent))}, rates=RATES)
    usage: dict[str, tuple[Portion, ...]] = {}
    for meter, portion in used:
        books.put(meter, period.start, portion)
        usage[meter] = (*usage.get(meter, ()), portion)
    books.bill(instant(period.end, BERLIN))
    billed = [x for document in books.documents for x in document.lines if x.period.start in period]
    quoted = [tried.line for tried in quote(Trial(plan, usage, Decimal(3), percent, number=number), period.start).lines]
    assert [(x.key, x.gross, x.discount) for x in quoted] == [(x.key, x.gross, x.discount) for x in billed]
