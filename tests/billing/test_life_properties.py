"""Whole lives of a subscription, drawn at random: use, changes, bills and the end in any order.

`Books` proves the ledger after every step. Here the sum of all lines is held against a model that knows no invoices:
each day at the terms in force on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from billing.amending import Change, billed_fees, preview
from billing.money import Amount, Money, total
from billing.period import Interval, Period, instant, zone
from billing.plan import Plan, PlanItem
from billing.pricing import Flat, Graduated, PerUnit, Tier
from billing.proration import BilledFee
from billing.taxes import TaxRate
from billing.terms import Terms, windows
from billing.usage import units
from tests.billing.bookkeeping import Agreement, Books, plan_of, signed

steady = settings(derandomize=True, deadline=None, max_examples=150)
RATES = [TaxRate("DE", Decimal(19), date(1990, 1, 1))]
BERLIN = zone("Europe/Berlin")
MONTH, FORTNIGHT = Interval("month"), Interval("week", 2)
CALLS = PlanItem("calls", "Calls", PerUnit(Decimal("0.37")), "meter", "calls")
TIERED = Graduated((Tier(Decimal(10), Decimal("0.5"), Decimal(1)), Tier(None, Decimal("0.01"), Decimal(2))))


def plans(interval: Interval) -> list[Plan]:
    fee = PlanItem("fee", "Fee", Flat(Decimal("9.99")))
    seat = PlanItem("seat", "Seat", PerUnit(Decimal("7.03")), "seats")
    support = PlanItem("support", "Support", Flat(Decimal("12.34")), in_advance=False)
    return [
        plan_of("EUR", fee, seat, CALLS, interval=interval),
        plan_of("EUR", replace(fee, price=Flat(Decimal("0.01"))), support, interval=interval).named("tiny", 1),
        plan_of("EUR", seat, replace(CALLS, price=TIERED), support, interval=interval).named("tiered", 1),
        plan_of("EUR", fee, replace(seat, price=TIERED), CALLS, interval=interval).named("steps", 1),
    ]


@dataclass(frozen=True, slots=True)
class Step:
    """Some days later somebody bills, changes the terms or reports usage (some of it old)."""

    days: int
    verb: str
    plan: int
    seats: int
    percent: Decimal
    quantity: int


STEPS = st.lists(
    st.builds(
        Step,
        days=st.sampled_from([0, 0, 1, 3, 10, 17, 45]),
        verb=st.sampled_from(["bill", "bill", "amend", "amend", "use", "use", "recognise"]),
        plan=st.integers(0, 3),
        seats=st.integers(0, 5),
        percent=st.sampled_from(["0", "10", "33.3", "100"]).map(Decimal),
        quantity=st.integers(-20, 60),
    ),
    min_size=2,
    max_size=14,
)
ANCHORS = st.sampled_from([date(2026, 1, 1), date(2026, 1, 15), date(2026, 1, 31), date(2028, 2, 29)])
INTERVALS = st.sampled_from([MONTH, FORTNIGHT])


def live(anchor: date, interval: Interval, steps: list[Step]) -> tuple[Books, date]:
    offer = plans(interval)
    books = Books({"sub_1": signed(Agreement(anchor, offer[0], seats=Decimal(2)))}, rates=RATES)
    day = anchor
    for n, step in enumerate(steps):
        day += timedelta(days=step.days)
        now = instant(day, BERLIN)
        match step.verb:
            case "bill":
                books.bill(now)
            case "amend":
                on = day + timedelta(days=step.quantity % 3)
                change = Change(f"am_{n}", on, offer[step.plan], Decimal(step.seats), step.percent)
                books.amend(now, change)
            case "use":
                books.use("calls", max(anchor, day - timedelta(days=step.quantity % 40)), Decimal(step.quantity))
            case "recognise":
                books.move_to(now)
                books.recognise(day)
        for item in {fee.item for fee in billed_fees(books.standing)}:
            mine = [fee for fee in billed_fees(books.standing) if fee.item == item]
            assert total([fee.gross for fee in mine], "EUR").minor >= 0, "more given back than was billed"
    return books, day


def ideal(books: Books) -> Amount:
    """What all fees of a finished life come to, unrounded: each stretch of terms by its days."""
    standing = books.standing
    assert standing.ends_on is not None
    found, day = Amount(Fraction(0)), standing.anchor
    while day < standing.ends_on:
        whole = standing.period_at(day)
        for window in windows(standing.history, Period(day, min(whole.end, standing.ends_on))):
            terms = window.terms
            for item in terms.plan.items:
                if item.basis != "meter":
                    full = item.price.charge(units(item.quantity(terms.seats))).amount
                    part = full.times(window.period.share_of(whole))
                    found += part.times(1 - Fraction(terms.discount_percent) / 100)
        day = whole.end
    return found


@steady
@given(ANCHORS, INTERVALS, STEPS)
def test_a_life_adds_up(anchor: date, interval: Interval, steps: list[Step]) -> None:
    books, day = live(anchor, interval, steps)
    end = day + timedelta(days=9)
    books.cancel(instant(end, BERLIN), end)
    books.bill(instant(end, BERLIN))
    assert books.bill(instant(end + timedelta(days=400), BERLIN)) is None
    books.recognise(end + timedelta(days=400))
    assert books.balance("1200") == Money.zero("EUR"), "all that was billed is earned in the end"
    fees = [x for d in books.documents for x in d.lines if x.kind in ("recurring", "proration")]
    billed = total([x.net for x in fees], "EUR")
    assert abs(billed.amount.value - ideal(books).value) * 100 <= len(fees) + 1


@steady
@given(
    st.integers(1, 10**7), st.integers(0, 27), st.integers(0, 100), st.lists(st.integers(0, 5), min_size=1, max_size=4)
)
def test_there_and_back_costs_nothing(minor: int, offset: int, percent: int, days: list[int]) -> None:
    """To another price and back on the same day, several times over: within a unit for each line."""
    offer = [
        plan_of("EUR", PlanItem("fee", "Fee", Flat(Money(amount, "EUR").major))).named(name, 1)
        for name, amount in (("here", minor), ("there", 3 * minor + 1))
    ]
    start = date(2026, 1, 1)
    agreement = Agreement(start, offer[0], discount_percent=Decimal(percent))
    books = Books({"sub_1": signed(agreement)}, rates=RATES)
    books.bill(instant(start, BERLIN))
    on, lines = start + timedelta(days=offset), 0
    for n, later in enumerate(days):
        on = min(on + timedelta(days=later), date(2026, 1, 31))
        for there_or_back in (1, 0):
            change = Change(f"am_{n}_{there_or_back}", on, offer[there_or_back], Decimal(1), Decimal(percent))
            lines += len(books.amend(instant(on, BERLIN), change).lines)
    pending = total([p.line.net for p in books.standing.pending], "EUR")
    assert abs(pending.minor) <= lines


@steady
@given(STEPS, st.integers(0, 5), st.sampled_from(["0", "10", "33.3"]).map(Decimal))
def test_a_preview_says_what_is_done(steps: list[Step], seats: int, percent: Decimal) -> None:
    books, day = live(date(2026, 1, 15), MONTH, steps)
    now = instant(day, BERLIN)
    books.move_to(now)
    change = Change("am_last", day, plans(MONTH)[3], Decimal(seats), percent)
    seen = preview(books.standing, change, now)
    assert preview(books.standing, change, now) == seen
    before = books.standing.pending
    assert books.amend(now, change) == seen
    added = [p.line for p in books.standing.pending if p not in before]
    assert tuple(added) == seen.lines
    assert total([line.net for line in added], "EUR") == seen.net


def test_a_mirror_never_gives_back_more_than_is_left() -> None:
    """A cent for two days, given back by halves, each rounded up."""
    books = Books({"sub_1": signed(Agreement(date(2026, 1, 1), plans(FORTNIGHT)[1]))}, rates=RATES)
    books.bill(instant(date(2026, 1, 1), BERLIN))
    no_fee = replace(plans(FORTNIGHT)[1], items=(CALLS,))
    for n, plan in enumerate((no_fee, plans(FORTNIGHT)[1], no_fee)):
        on = date(2026, 1, 8) + timedelta(days=n)
        books.amend(instant(on, BERLIN), Change(f"am_{n}", on, plan, Decimal(1), Decimal(0)))
    fees: list[BilledFee] = [fee for fee in billed_fees(books.standing) if fee.item == "fee"]
    assert total([fee.gross for fee in fees], "EUR").minor >= 0


@steady
@given(STEPS)
def test_the_document_follows_from_the_watermark(steps: list[Step]) -> None:
    """Two runs from the same facts make the same document; no two documents share an id."""
    one, _ = live(date(2026, 1, 31), MONTH, steps)
    other, _ = live(date(2026, 1, 31), MONTH, steps)
    assert one.documents == other.documents
    ids = [d.heading.invoice_id for d in one.documents]
    assert len(set(ids)) == len(ids)
    assert {e.entry_id for e in one.journal.values()} == {e.entry_id for e in other.journal.values()}


def test_terms_may_start_before_the_contract() -> None:
    standing = signed(Agreement(date(2026, 3, 1), plans(MONTH)[1]))
    early = Terms(2, date(2025, 1, 1), plans(MONTH)[0], Decimal(1))
    books = Books({"sub_1": replace(standing, history=(*standing.history, early))}, rates=RATES)
    document = books.bill(instant(date(2026, 3, 1), BERLIN))
    assert document is not None
    assert [(x.item, str(x.period), x.net.minor) for x in document.lines] == [
        ("fee", "2026-03-01 to 2026-03-31", 999),
        ("seat", "2026-03-01 to 2026-03-31", 703),
    ]
