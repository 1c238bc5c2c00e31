"""What must hold for levels: the integral is the one worked out event by event, however events and days are grouped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.catalog import Meter
from billing.folding import Clocks, Folding, Totals, portion_of
from billing.level import brought_forward
from billing.period import Period, instant, local_day, zone
from billing.portion import SECONDS, Portion
from billing.quantity import added_up, decimal_of, in_steps
from billing.usage import BEFORE, measure
from billing.windows import WindowSize, by_window, level_by_window
from tests.billing.price_strategies import decimals, signed

steady = settings(derandomize=True, deadline=None, max_examples=100)
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]
# Clocks change in it in all of these zones, on different days.
DAYS = Period(date(2026, 3, 1), date(2026, 4, 12))
Change = tuple[datetime, dict[str, Any]]


def storage(**other: Any) -> Meter:
    return Meter("gb", "Storage", "disk", "n", aggregation="weighted_sum", **{"time_unit": "hour", **other})


def seats(**other: Any) -> Meter:
    return Meter("seats", "Seats", "seat", "who", aggregation="unique", operation_field="what", **other)


@st.composite
def moments(draw: st.DrawFn) -> datetime:
    first = datetime(2026, 2, 27, tzinfo=UTC)
    return first + timedelta(days=draw(st.integers(0, 46)), microseconds=draw(st.integers(0, 86_400_000_000 - 1)))


def changes(quantity: st.SearchStrategy[Decimal]) -> st.SearchStrategy[list[Change]]:
    data = st.fixed_dictionaries({"n": quantity}, optional={"region": st.sampled_from(["eu", "us"])})
    return st.lists(st.tuples(moments(), data), max_size=12)


OPERATIONS = st.lists(
    st.tuples(
        moments(),
        st.fixed_dictionaries({"who": st.sampled_from("abc"), "what": st.sampled_from(["add", "remove"])}),
    ),
    max_size=15,
    unique_by=lambda change: change[0],
)


def folded(meter: Meter, where: str, events: Sequence[Change], sizes: Sequence[int] = ()) -> dict[Any, Any]:
    """As days are kept, of events that come in batches of these sizes; then as the engine reads them."""
    kept: Totals = {}
    rest, clocks = list(events), Clocks()
    for size in (*sizes, len(rest)):
        folding = Folding([meter], clocks)
        for moment, data in sorted(rest[:size], key=lambda change: change[0]):
            folding.add("c", zone(where), meter.event_type, moment, data)
        rest = rest[size:]
        for place, total in folding.days().items():
            before = kept.get(place)
            if before is not None and total.at is not None and before.at is not None:
                later = max(before, total, key=lambda t: t.at or moment)
                total = later._replace(events=before.events + total.events)
            elif before is not None:
                total = total._replace(
                    quantity=added_up((before.quantity, total.quantity)),
                    events=before.events + total.events,
                    weighted=added_up((before.weighted, total.weighted)),
                )
            kept[place] = total
    found: dict[Any, Any] = {(meter.meter_id, BEFORE): ()} if meter.carries and kept else {}
    for (_, name, day, named, each), total in kept.items():
        found[name, day] = (*found.get((name, day), ()), portion_of(meter, where, named, each, total))
    return found


def worked_out(events: Sequence[Change], where: ZoneInfo, period: Period, unit: int) -> Decimal:
    """Event by event, each local day rounded to nine decimals."""
    found = Decimal(0)
    for region in {data.get("region") for _, data in events}:
        for number in range(period.days):
            day = period.start + timedelta(days=number)
            start, end = instant(day, where), instant(day + timedelta(days=1), where)
            exact = Fraction(0)
            for moment, data in events:
                if data.get("region") == region and moment < end:
                    stood = (end - max(moment, start)) // timedelta(microseconds=1)
                    exact += Fraction(data["n"]) * Fraction(stood, 1_000_000 * unit)
            found += decimal_of(in_steps(exact, Decimal("1E-9"), "nearest"))
    return found


@steady
@given(
    changes(signed(decimals(4, 3))),
    st.sampled_from(ZONES),
    st.sampled_from(sorted(SECONDS)),
    st.lists(st.integers(1, 5), max_size=4),
    st.randoms(use_true_random=False),
)
def test_a_weighted_sum_is_the_level_times_its_time(
    events: list[Change], where: str, unit: Any, sizes: list[int], dice: Any
) -> None:
    meter = storage(time_unit=unit, dimensions=("region",))
    found = measure(folded(meter, where, events), "gb", DAYS)
    assert found.quantity == worked_out(events, zone(where), DAYS, SECONDS[unit])
    dice.shuffle(events)
    assert measure(folded(meter, where, events, sizes), "gb", DAYS) == found


@steady
@given(
    changes(signed(decimals(4, 3))),
    st.sampled_from(ZONES),
    st.sampled_from(sorted(SECONDS)),
    st.lists(st.integers(0, DAYS.days), max_size=4),
)
def test_parts_of_a_period_add_up_exactly(events: list[Change], where: str, unit: Any, cuts: list[int]) -> None:
    totals = folded(storage(time_unit=unit), where, events)
    days = sorted({0, DAYS.days, *cuts})
    parts = [
        measure(totals, "gb", Period(DAYS.start + timedelta(days=a), DAYS.start + timedelta(days=b)))
        for a, b in pairwise(days)
    ]
    whole = measure(totals, "gb", DAYS)
    assert added_up(part.quantity for part in parts) == whole.quantity
    assert sum(part.events for part in parts) == whole.events


@steady
@given(OPERATIONS, st.sampled_from(ZONES), st.lists(st.integers(1, 5), max_size=4), st.booleans())
def test_values_are_in_as_a_replay_says(events: list[Change], where: str, sizes: list[int], carries: bool) -> None:
    meter = seats(carries_over=carries)
    totals = folded(meter, where, events, sizes)
    inside: set[str] = set()
    for moment, data in sorted(events, key=lambda change: change[0]):
        day = local_day(moment, zone(where))
        if day in DAYS or (carries and day < DAYS.start):
            (inside.add if data["what"] == "add" else inside.discard)(data["who"])
    assert measure(totals, "seats", DAYS).quantity == len(inside)


METERS = [
    storage(),
    storage(time_unit="day", dimensions=("region",)),
    Meter("sum", "Sum", "disk", "n", carries_over=True, dimensions=("region",)),
    Meter("latest", "Latest", "disk", "n", aggregation="latest", carries_over=True),
    Meter("formula", "Formula", "disk", expression="2 * n - 1", carries_over=True),
]


@steady
@given(
    changes(signed(decimals(3, 2))),
    OPERATIONS,
    st.sampled_from([*METERS, seats(carries_over=True)]),
    st.sampled_from(ZONES),
    st.integers(0, DAYS.days - 1),
)
def test_what_earlier_days_leave_is_all_that_later_ones_need(
    events: list[Change], operations: list[Change], meter: Meter, where: str, cut: int
) -> None:
    totals = folded(meter, where, operations if meter.operation_field else events)
    first = DAYS.start + timedelta(days=cut)
    period, name = Period(first, DAYS.end), meter.meter_id
    earlier = [p for (_, day), some in sorted(totals.items()) if day < first for p in some]
    later = {(name, day): some for (_, day), some in totals.items() if day >= first}
    read = {(name, BEFORE): brought_forward(earlier), **later} if totals else {}
    assert measure(read, name, period) == measure(totals, name, period)


@steady
@given(
    changes(signed(decimals(3, 2))),
    OPERATIONS,
    st.sampled_from([*METERS, seats(carries_over=True)]),
    st.sampled_from(ZONES),
    st.sampled_from(["hour", "day", "week", "month"]),
)
def test_windows_show_what_bills_say(
    events: list[Change], operations: list[Change], meter: Meter, where: str, size: WindowSize
) -> None:
    """The last window has the level at the end; of a level by time windows add up, nearly so where they are short."""
    here = zone(where)
    totals = folded(meter, where, operations if meter.operation_field else events)
    before = [p for (_, day), some in sorted(totals.items()) if day < DAYS.start for p in some]
    if size == "hour":
        folding = Folding([meter], Clocks())
        for moment, data in sorted(operations if meter.operation_field else events, key=lambda change: change[0]):
            if local_day(moment, here) in DAYS:
                folding.add("c", here, meter.event_type, moment, data)
        counted = [
            (start, portion_of(meter, where, named, each, total))
            for (_, _, start, named, each), total in folding.windows().items()
            if isinstance(start, datetime)
        ]
    else:
        inside = [(day, p) for (_, day), some in totals.items() if day in DAYS for p in some]
        counted = [(instant(day, here), portion) for day, portion in inside]
    shown = level_by_window(before, sorted(counted, key=lambda one: one[0]), size, here, DAYS)
    whole = measure(totals, meter.meter_id, DAYS)
    assert sum(one.events for one in shown) == whole.events
    if meter.aggregation == "weighted_sum":
        off = added_up(one.quantity for one in shown) - whole.quantity
        assert abs(off) <= (Decimal("1E-6") if size == "hour" else 0)
    else:
        at_end = [one.quantity for one in shown if one.ends_at >= instant(DAYS.end, here)]
        assert (at_end or [Decimal(0)]) == [whole.quantity]


def test_hours_of_a_level_are_counted_one_by_one() -> None:
    """10 GB for three hours are 30 GB-hours; and on the day on which clocks go forward it stands for 23 hours."""
    where, day = zone("Europe/Berlin"), date(2026, 3, 28)
    start = instant(day, where)
    events: list[Change] = [
        (start, {"n": 10}),
        (start + timedelta(hours=3), {"n": -10}),
        (start + timedelta(days=1), {"n": 1}),
    ]
    totals = folded(storage(), "Europe/Berlin", events)
    assert measure(totals, "gb", Period(day, date(2026, 3, 29))).quantity == 30
    found = measure(totals, "gb", Period(date(2026, 3, 29), date(2026, 3, 31)))
    assert found.quantity == 23 + 24
    assert found.note == ("level 0 at the start, changed by 1 in 1 event, 1 at the end; times the hours that it stood")


HALF_HOURS = [
    ("Australia/Lord_Howe", date(2026, 4, 5)),
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("Asia/Pyongyang", date(2018, 5, 4)),
    ("Asia/Pyongyang", date(2015, 8, 14)),
    ("America/Caracas", date(2016, 5, 1)),
    ("Pacific/Apia", date(2011, 12, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
]


@pytest.mark.parametrize(("where", "day"), HALF_HOURS)
@pytest.mark.parametrize("carries", [True, False])
def test_hours_follow_on_each_other_where_clocks_are_set_by_half_an_hour(
    where: str, day: date, *, carries: bool
) -> None:
    """An event in each quarter of an hour: each is in the hour that is shown, of which none is longer than it says."""
    days, here = Period(day, day + timedelta(days=2)), zone(where)
    start, end = instant(days.start, here), instant(days.end, here)
    meter = storage(time_unit="second") if carries else Meter("n", "N", "disk", "n")
    folding, moment, many = Folding([meter], Clocks()), start, 0
    while moment < end:
        folding.add("c", here, "disk", moment + timedelta(minutes=7), {"n": 1})
        moment, many = moment + timedelta(minutes=15), many + 1
    kept = [
        (place[2], portion_of(meter, where, (), None, total))
        for place, total in folding.windows().items()
        if isinstance(place[2], datetime)
    ]
    hours = level_by_window((), kept, "hour", here, days) if carries else by_window(kept, "hour", here)
    assert [one.starts_at for one in hours] == [start, *(one.ends_at for one in hours[:-1])]
    assert hours[-1].ends_at == end
    for one in hours:
        quarters = (one.ends_at - one.starts_at) // timedelta(minutes=15)
        before = (one.starts_at - start) // timedelta(minutes=15)
        assert one.events == quarters
        if carries:
            assert one.quantity == 900 * before * quarters + sum(900 * n + 480 for n in range(quarters))


def test_what_does_not_carry_over_has_windows_with_events_only() -> None:
    portion = Portion(Decimal(3))
    start = instant(DAYS.start, zone("UTC"))
    assert len(by_window([(start, portion)], "day", zone("UTC"))) == 1


@pytest.mark.parametrize(
    "period", [Period(date(2026, 4, 1), date(2026, 5, 1)), Period(date(2026, 4, 1), date(2026, 4, 1))]
)
def test_a_period_without_events_has_the_level_of_before(period: Period) -> None:
    events: list[Change] = [(datetime(2026, 3, 3, tzinfo=UTC), {"n": 10})]
    found = measure(folded(storage(), "UTC", events), "gb", period)
    assert (found.quantity, found.events) == (period.days * 240, 0)
    found = measure(folded(METERS[2], "UTC", events), "sum", period)
    assert (found.quantity, found.events) == (10, 0)
    assert found.note == "level 10 at the start, 10 at the end"
