"""What must hold for every calendar: periods, stretches of terms, days and moments."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from billing.money import Money, total
from billing.period import Interval, Period, instant, local_day, zone
from billing.plan import PlanItem
from billing.pricing import Flat
from billing.revenue import Obligation, earned
from billing.terms import Terms, in_force, windows
from tests.billing.bookkeeping import plan_of

steady = settings(derandomize=True, deadline=None, max_examples=100)
DAYS = st.dates(date(1950, 1, 1), date(2150, 1, 1))
INTERVALS = st.builds(Interval, st.sampled_from(["day", "week", "month", "quarter", "year"]), st.integers(1, 13))
PLAN = plan_of("EUR", PlanItem("fee", "Fee", Flat(Decimal(1))))


@steady
@given(DAYS, INTERVALS, st.integers(-50, 50))
def test_periods_follow_on_each_other(anchor: date, interval: Interval, n: int) -> None:
    start, end = interval.start(anchor, n), interval.start(anchor, n + 1)
    assert start < end
    for day in (start, end - timedelta(days=1), start + (end - start) // 2):
        assert interval.period_at(anchor, day) == Period(start, end)
    assert interval.period_at(anchor, end).start == end


@steady
@given(DAYS, INTERVALS, DAYS)
def test_every_day_is_in_the_period_found_for_it(anchor: date, interval: Interval, day: date) -> None:
    period = interval.period_at(anchor, day)
    assert day in period
    assert interval.period_at(anchor, period.start) == interval.period_at(anchor, period.end - timedelta(days=1))


@steady
@given(DAYS, st.integers(1, 60))
def test_the_anchor_day_comes_back(anchor: date, n: int) -> None:
    start = Interval("month").start(anchor, n)
    following = start + timedelta(days=1)
    assert start.day == anchor.day or (start.day < anchor.day and following.month != start.month)


@st.composite
def histories(draw: st.DrawFn) -> list[Terms]:
    offsets = draw(st.lists(st.integers(-40, 80), min_size=1, max_size=6))
    return [
        Terms(n, date(2026, 1, 1) + timedelta(days=offset), PLAN, Decimal(n)) for n, offset in enumerate(offsets, 1)
    ]


@steady
@given(histories(), st.integers(-40, 40), st.integers(0, 70))
def test_stretches_of_terms_cover_a_period_once(history: list[Terms], offset: int, days: int) -> None:
    start = date(2026, 1, 1) + timedelta(days=offset)
    period = Period(start, start + timedelta(days=days))
    found = windows(history, period)
    agreed = [day for d in range(days) if (day := start + timedelta(days=d)) >= min(t.effective_on for t in history)]
    assert [w.period.start + timedelta(days=d) for w in found for d in range(w.period.days)] == agreed
    for window in found:
        for d in range(window.period.days):
            assert in_force(history, window.period.start + timedelta(days=d)) == window.terms


ZONES = "Europe/Berlin America/New_York Pacific/Auckland Asia/Kathmandu America/Havana Asia/Beirut America/Sao_Paulo"


@steady
@given(st.dates(date(1975, 1, 1), date(2037, 1, 1)), st.sampled_from(ZONES.split()))
def test_a_day_begins_on_that_day_and_not_a_second_before(day: date, name: str) -> None:
    where = zone(name)
    begin = instant(day, where)
    assert local_day(begin, where) == day
    assert local_day(begin - timedelta(seconds=1), where) == day - timedelta(days=1)


def test_days_of_summer_time_have_23_and_25_hours() -> None:
    berlin = zone("Europe/Berlin")
    hours = [
        (instant(day + timedelta(days=1), berlin) - instant(day, berlin)) / timedelta(hours=1)
        for day in (date(2026, 3, 29), date(2026, 10, 25), date(2026, 7, 1))
    ]
    assert hours == [23, 25, 24]


@steady
@given(st.integers(-(10**9), 10**9), st.integers(1, 800), st.lists(st.integers(1, 40), max_size=60))
def test_recognition_adds_up_to_its_total(minor: int, days: int, steps: list[int]) -> None:
    start = date(2026, 1, 15)
    promise = Obligation(
        "obl", "ratable", "recurring", Money(minor, "EUR"), Period(start, start + timedelta(days=days))
    )
    through, posted, parts = start - timedelta(days=1), Money.zero("EUR"), []
    for step in [*steps, 800]:
        through += timedelta(days=step)
        parts.append(earned(promise, through) - posted)
        posted = earned(promise, through)
        elapsed = min(Fraction(1), Fraction((through - start).days + 1, days))
        assert abs(posted.minor - minor * elapsed) <= Fraction(1, 2)
        assert parts[-1].minor * minor >= 0
    assert total(parts, "EUR") == promise.total
    assert earned(promise, start - timedelta(days=1)) == Money.zero("EUR")
