"""Meters of every aggregation: the totals are what the stored events make, in whatever order and batches they come."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from billing.aggregation import bucket
from billing.catalog import Filter, Meter
from billing.folding import fold
from billing.period import Period, instant, local_day, zone
from billing.plan import Plan, PlanItem
from billing.portion import AGGREGATIONS, SECONDS
from billing.pricing import PerUnit
from billing.quantity import decimal_of, in_steps
from billing.usage import measure
from models.catalog import put_meter
from models.correction import Correction, correct
from models.database import transaction
from models.event import Event
from models.intake import receive
from models.recount import recount
from models.usage import events_folded, totals_folded, totals_of
from tests.billing.bookkeeping import Agreement, Books, midnight, signed

Sql = Callable[..., list[tuple[Any, ...]]]
START = datetime(2026, 3, 27, 23, tzinfo=UTC)  # Midnight in Berlin; clocks change on the 29th.
BERLIN = zone("Europe/Berlin")
DAYS = Period(date(2026, 3, 28), date(2026, 4, 2))


def meter(aggregation: str, **other: Any) -> Meter:
    field = "" if aggregation == "count" else "n"
    name = f"{aggregation}-{len(other)}"
    if aggregation == "percentile":
        other["percent"] = (Decimal("12.5"), Decimal(50), Decimal(99))[len(other)]
    if aggregation == "peak_rate":
        other["rate_window"] = "minute" if "resolution" in other else "hour"
        field = "" if "resolution" in other else "n"  # Then it is events that are counted.
    if aggregation == "weighted_sum":
        other["time_unit"] = ("hour", "day", "second")[len(other)]
    return Meter(name, aggregation, "job", field, aggregation=aggregation, **other)  # type: ignore[arg-type]


METERS = (
    *(meter(aggregation) for aggregation in AGGREGATIONS),
    *(meter(aggregation, dimensions=("region",)) for aggregation in AGGREGATIONS),
    *(
        meter(aggregation, resolution="minute", filters=(Filter("region", ("eu", "3")), Filter("ok", ("false",), True)))
        for aggregation in AGGREGATIONS
    ),
)


def drawn(dice: random.Random, no: int) -> Event:
    """Some without quantity, some without region; several at the same moment."""
    data: dict[str, object] = {"n": dice.choice([dice.randint(-5, 5), Decimal(dice.randint(-500, 500)).scaleb(-2)])}
    if dice.random() < 0.1:
        data = {}
    if dice.random() < 0.8:
        data["region"] = dice.choice(["eu", "us", 3])
    if dice.random() < 0.5:
        data["ok"] = dice.choice([True, False])
    return Event("s", str(no), "berlin", "job", START + timedelta(minutes=5 * dice.randint(0, 1400)), data)


def expected(one: Meter, taken: Sequence[tuple[datetime, Decimal]]) -> Decimal:
    """Of the quantities in order of time."""
    values = [value for _, value in taken]
    match one.aggregation:
        case "sum":
            return sum(values, Decimal(0))
        case "count":
            return Decimal(len(values))
        case "average":
            mean = Fraction(sum(values, Decimal(0))) / len(values)
            return decimal_of(in_steps(mean, Decimal("1E-9"), "nearest"))
        case "max":
            return max(values)
        case "min":
            return min(values)
        case "latest":
            return values[-1]
        case "percentile":
            assert one.percent is not None
            share = Fraction(len(values)) * Fraction(one.percent) / 100
            return bucket(next(v for n, v in enumerate(sorted(values), 1) if n >= share))
        case "peak_rate":
            sums: dict[datetime, Decimal] = {}
            for moment, value in taken:
                start = moment.replace(
                    microsecond=0, second=0, minute=moment.minute if one.rate_window == "minute" else 0
                )
                sums[start] = sums.get(start, Decimal(0)) + (value if one.quantity_field else 1)
            return max(sums.values())
        case "weighted_sum":
            assert one.time_unit is not None
            unit = SECONDS[one.time_unit]
            return level_in_time(taken, instant(DAYS.start, BERLIN), instant(DAYS.end, BERLIN), unit)
        case _:
            return Decimal(len({str(value) for value in values}))


def level_in_time(taken: Sequence[tuple[datetime, Decimal]], since: datetime, until: datetime, unit: int) -> Decimal:
    """The level times its time, event by event; each local day rounded to nine decimals."""
    found, start = Decimal(0), since
    while start < until:
        end = instant(local_day(start, BERLIN) + timedelta(days=1), BERLIN)
        exact = Fraction(0)
        for moment, value in taken:
            if moment < end:
                stood = (end - max(start, moment)) / timedelta(microseconds=1)
                exact += Fraction(value) * Fraction(round(stood), 1_000_000) / unit
        found, start = found + decimal_of(in_steps(exact, Decimal("1E-9"), "nearest")), end
    return found


def passing(which: Meter, e: Event) -> bool:
    region, ok = e.data.get("region"), e.data.get("ok")
    return not which.filters or (region in ("eu", 3) and ok is not False)


@pytest.fixture
def met(engine: Engine, sql: Sql) -> Engine:
    with transaction(engine) as session:
        for one in METERS:
            put_meter(session, one)
    return engine


@pytest.mark.parametrize("seed", range(4))
def test_totals_are_what_the_events_make(met: Engine, seed: int) -> None:
    dice = random.Random(seed)
    events = [drawn(dice, no) for no in range(400)]
    assert len({e.occurred_at for e in events}) < 370, "some are at one moment"
    sent = events + dice.sample(events, 100)
    dice.shuffle(sent)
    while sent:
        size = dice.randint(1, 60)
        with transaction(met) as session:
            receive(session, sent[:size])
        sent = sent[size:]
    with transaction(met) as session:
        compare(session, events)


def compare(session: Session, events: Sequence[Event]) -> None:
    """In whatever order they are given; of two at one moment the larger is the latest."""
    events = sorted(events, key=lambda e: (e.occurred_at, e.data.get("n", 0)))
    totals = totals_of(session, ["berlin"])["berlin"]
    proofs, folded = events_folded(session, ["berlin"]), totals_folded(session, ["berlin"])
    tried = fold(METERS, ((e.type, e.data) for e in events))
    for one in METERS:
        groups: dict[tuple[tuple[str, str], ...], list[tuple[datetime, Decimal]]] = {}
        for e in events:
            if not passing(one, e) or (one.quantity_field and "n" not in e.data):
                continue
            named = (("region", str(e.data["region"])),) if one.dimensions and "region" in e.data else ()
            groups.setdefault(named, []).append((e.occurred_at, Decimal(e.data.get("n", 0))))  # type: ignore[arg-type]
        found = measure(totals, one.meter_id, DAYS, by=one.dimensions)
        assert {p.properties: (p.quantity, p.events) for p in found.portions} == {
            named: (expected(one, taken), len(taken)) for named, taken in groups.items()
        }, one
        counted = sum(len(taken) for taken in groups.values())
        total = sum((value for taken in groups.values() for _, value in taken), Decimal(0))
        by_sum = one.aggregation in ("sum", "weighted_sum")
        assert proofs[f"berlin {one.meter_id}"] == folded[f"berlin {one.meter_id}"] == (total if by_sum else counted)
        if one.aggregation not in ("peak_rate", "weighted_sum"):  # Events that are only tried have no time.
            assert (
                measure({(one.meter_id, DAYS.start): tried[one.meter_id]}, one.meter_id, DAYS, by=one.dimensions)
                == found
            )


def test_hours_are_those_of_the_customers_clock_and_add_up_to_days(met: Engine, sql: Sql) -> None:
    dice = random.Random(1)
    with transaction(met) as session:
        receive(session, [drawn(dice, no) for no in range(500)])
    hours = sql(
        "select meter_id, (starts_at at time zone 'Europe/Berlin')::date, sum(quantity), sum(events)::int"
        " from usage_window where meter_id in ('sum-0', 'sum-2', 'count-1') group by 1, 2 order by 1, 2"
    )
    days = sql(
        "select meter_id, day, sum(quantity), sum(events)::int from usage_total"
        " where meter_id in ('sum-0', 'sum-2', 'count-1') group by 1, 2 order by 1, 2"
    )
    assert hours == days != []
    assert sql(
        "select count(*) from usage_window where meter_id = 'sum-0' and date_trunc('hour', starts_at) <> starts_at"
    ) == [(0,)]


def test_the_latest_event_counts_whichever_comes_last(met: Engine, sql: Sql) -> None:
    early = Event("s", "early", "berlin", "job", START, {"n": 1})
    late = Event("s", "late", "berlin", "job", START + timedelta(seconds=1), {"n": 2})
    for one in (late, early):
        with transaction(met) as session:
            receive(session, [one])
    assert sql("select quantity, events from usage_total where meter_id = 'latest-0'") == [(2, 2)]


def test_of_two_at_one_moment_the_larger_is_the_latest(met: Engine, sql: Sql) -> None:
    """In one batch or in several, in either order; and so when they are counted anew."""
    pairs = [
        Event("s", f"{day}{n}", "berlin", "job", START + timedelta(days=day), {"n": n})
        for day in (0, 1)
        for n in (7, 9)
    ]
    small, large, other_small, other_large = pairs
    for some in ([small], [large], [other_large, other_small]):
        with transaction(met) as session:
            receive(session, some)
    latest = "select quantity, events from usage_total where meter_id = 'latest-0' order by day"
    by_hour = "select quantity, events from usage_window where meter_id = 'latest-0' order by starts_at"
    kept = sql(latest), sql(by_hour)
    assert kept == ([(9, 2), (9, 2)], [(9, 2), (9, 2)])
    berlin = zone("Europe/Berlin")
    for one in METERS:
        with transaction(met) as session:
            assert not recount(session, one, "berlin", berlin, (DAYS.start, DAYS.end), store=True)
    assert kept == (sql(latest), sql(by_hour))
    with transaction(met) as session:
        correct(session, [Correction("s", other_large.id, "wrong")], "key")
    assert sql(latest) == [(9, 2), (7, 1)]


def test_of_two_operations_at_one_moment_the_adding_counts(met: Engine, sql: Sql) -> None:
    """In one batch or in several, in either order; and so when they are counted anew."""
    seats = Meter("seats", "Seats", "seat", "who", aggregation="unique", operation_field="what")
    said = [("anna", "add"), ("anna", "remove"), ("bert", "remove"), ("bert", "add"), ("carla", "remove")]
    events = [Event("s", who + what, "berlin", "seat", START, {"who": who, "what": what}) for who, what in said]
    with transaction(met) as session:
        put_meter(session, seats)
    for some in (events[:2], events[2:3], events[3:]):
        with transaction(met) as session:
            receive(session, some)
    with transaction(met) as session:
        assert not recount(session, seats, "berlin", zone("Europe/Berlin"), (DAYS.start, DAYS.end), store=True)
        totals = totals_of(session, ["berlin"])["berlin"]
    assert measure(totals, "seats", Period(DAYS.start, date(2026, 3, 29))).quantity == 2


def test_a_bucket_is_within_one_percent_and_buckets_keep_the_order() -> None:
    dice = random.Random(2)
    drawn_ones = [Decimal(dice.randint(1, 10**6)).scaleb(dice.randint(-30, 24)) for _ in range(5000)]
    every_one = [Decimal(n) for n in range(1, 2001)] + [Decimal("0.0999999"), Decimal("199.999"), Decimal("999.99")]
    for quantity in drawn_ones + every_one:
        assert abs(Fraction(bucket(quantity)) - Fraction(quantity)) <= Fraction(quantity) / 100, quantity
        assert bucket(-quantity) == -bucket(quantity)
    in_order = [bucket(quantity) for quantity in sorted(drawn_ones + every_one)]
    assert in_order == sorted(in_order)
    assert len({bucket(Decimal(n)) for n in range(1000, 10_000)}) == 175
    assert bucket(Decimal("0.00")) == bucket(Decimal("-0")) == 0


def test_a_peak_is_told_in_an_hour_that_comes_twice(met: Engine, sql: Sql) -> None:
    """In the night of October 25th the clock in Berlin shows the hour from two to three twice: two hours, not one."""
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    sent = [
        (first, 3),
        (first + timedelta(minutes=20), 4),
        (first + timedelta(hours=1), 5),
        (first - timedelta(days=1), 6),
    ]
    with transaction(met) as session:
        receive(session, [Event("s", str(no), "berlin", "job", at, {"n": n}) for no, (at, n) in enumerate(sent)])
        totals = totals_of(session, ["berlin"])["berlin"]
    night = Period(date(2026, 10, 25), date(2026, 10, 26))
    assert measure(totals, "peak_rate-0", night).quantity == 7
    assert measure(totals, "peak_rate-0", Period(date(2026, 10, 24), date(2026, 10, 25))).quantity == 6


def test_what_is_measured_is_billed(met: Engine) -> None:
    """The calls of the busiest hour, 12, of which ten are included, at 2.50; and the eighth of the latencies, 6.05."""
    with transaction(met) as session:
        hours = (START, START + timedelta(hours=1), START + timedelta(hours=1, minutes=59))
        receive(session, [Event("s", str(no), "berlin", "job", at, {"n": 6}) for no, at in enumerate(hours)])
        totals = totals_of(session, ["berlin"])["berlin"]
    items = (
        PlanItem("calls", "Calls", PerUnit(Decimal("2.50")), "meter", "peak_rate-0", free=Decimal(10)),
        PlanItem("latency", "Latency", PerUnit(Decimal(2)), "meter", "percentile-0"),
    )
    plan = Plan("pro", 1, "Pro", "EUR", items)
    books = Books({"sub_1": signed(Agreement(date(2026, 3, 1), plan, buyer="US", seller="US"))})
    books.totals = dict(totals)
    invoice = books.bill(midnight(books.standing, date(2026, 4, 1)))
    assert invoice is not None
    assert {line.item: str(line.net) for line in invoice.lines} == {"calls": "5.00 EUR", "latency": "12.10 EUR"}
