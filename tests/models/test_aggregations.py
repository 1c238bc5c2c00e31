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

from billing.aggregation import AGGREGATIONS
from billing.catalog import Filter, Meter
from billing.folding import fold
from billing.period import Period
from billing.quantity import decimal_of, in_steps
from billing.usage import measure
from models.catalog import put_meter
from models.database import transaction
from models.event import Event
from models.intake import receive
from models.usage import events_folded, totals_of

Sql = Callable[..., list[tuple[Any, ...]]]
START = datetime(2026, 3, 27, 23, tzinfo=UTC)  # Midnight in Berlin; clocks change on the 29th.
DAYS = Period(date(2026, 3, 28), date(2026, 4, 2))


def meter(aggregation: str, **other: Any) -> Meter:
    field = "" if aggregation == "count" else "n"
    name = f"{aggregation}-{len(other)}"
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


def expected(aggregation: str, values: Sequence[Decimal]) -> Decimal:
    """Of the quantities in order of time."""
    match aggregation:
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
        case _:
            return Decimal(len({str(value) for value in values}))


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
    at = START
    for e in sorted(
        events, key=lambda e: e.occurred_at
    ):  # The latest of two at one moment would depend on who came last.
        at = max(at + timedelta(seconds=1), e.occurred_at)
        object.__setattr__(e, "occurred_at", at)
    sent = events + dice.sample(events, 100)
    dice.shuffle(sent)
    while sent:
        size = dice.randint(1, 60)
        with transaction(met) as session:
            receive(session, sent[:size])
        sent = sent[size:]
    with transaction(met) as session:
        compare(session, sorted(events, key=lambda e: e.occurred_at))


def compare(session: Session, events: Sequence[Event]) -> None:
    totals = totals_of(session, ["berlin"])["berlin"]
    proofs = events_folded(session, ["berlin"])
    tried = fold(METERS, ((e.type, e.data) for e in events))
    for one in METERS:
        groups: dict[tuple[tuple[str, str], ...], list[Decimal]] = {}
        for e in events:
            if not passing(one, e) or (one.quantity_field and "n" not in e.data):
                continue
            named = (("region", str(e.data["region"])),) if one.dimensions and "region" in e.data else ()
            groups.setdefault(named, []).append(Decimal(e.data.get("n", 0)))  # type: ignore[arg-type]
        found = measure(totals, one.meter_id, DAYS)
        assert {p.properties: (p.quantity, p.events) for p in found.portions} == {
            named: (expected(one.aggregation, values), len(values)) for named, values in groups.items()
        }, one
        counted = sum(len(values) for values in groups.values())
        proof = sum((sum(v, Decimal(0)) for v in groups.values()), Decimal(0)) if one.aggregation == "sum" else counted
        assert proofs[f"berlin {one.meter_id}"] == proof
        assert measure({(one.meter_id, DAYS.start): tried[one.meter_id]}, one.meter_id, DAYS) == found


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
