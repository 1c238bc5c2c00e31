"""Meters that tell properties and single events apart: totals are kept by them, each event once and to the digit."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Engine

from billing.meter_check import LONGEST_VALUE, MOST_BYTES, MOST_DIMENSIONS
from billing.period import Period
from billing.portion import Portion
from billing.usage import measure
from models.database import transaction
from models.event import Event
from models.usage import totals_of
from tests.models.test_usage import NOON, Received, Sql, again, send, total

DAY = NOON.date()


def meter(sql: Sql, name: str, dimensions: list[str], *, per_event: bool = False, kind: str = "api") -> None:
    """One that adds up `n` of the events of a type."""
    sql("insert into meter values (%s, %s, %s, 'n', '', %s, %s)", [name, name, kind, dimensions, per_event])


def api(no: object, n: object, at: datetime = NOON, subject: str = "berlin", **properties: object) -> Event:
    return Event("s", str(no), subject, "api", at, {"n": n, **properties})


def portions(engine: Engine, name: str, day: date = DAY, customer: str = "berlin") -> list[Portion]:
    """Of one day, in order of properties and then of each; their sum is that of the stored events."""
    total(engine, name, customer)
    with transaction(engine) as session:
        found = totals_of(session, [customer])[customer].get((name, day), ())
    return sorted(found, key=lambda p: (p.properties, p.each or 0))


def of(quantity: str, events: int, each: str | None = None, **properties: str) -> Portion:
    named = tuple(sorted(properties.items()))
    return Portion(Decimal(quantity), events, named, None if each is None else Decimal(each))


def test_a_plain_meter_has_one_portion_a_day(engine: Engine, sql: Sql) -> None:
    meter(sql, "plain", [])
    send(engine, api(1, 2, region="eu"), api(2, 3, region="us"))
    assert portions(engine, "plain") == [Portion(Decimal(5), 2)]
    assert sql("select properties, each, quantity, events from usage_total") == [({}, 0, 5, 2)]


def test_totals_are_kept_by_the_values_that_events_have(engine: Engine, sql: Sql) -> None:
    meter(sql, "calls", ["size", "region"])
    send(
        engine,
        api(1, 1, region="eu", size="big"),
        api(2, 2, size="big", region="eu", other="x"),
        api(3, 4, region="eu"),
        api(4, 8, region="eu", size=None),
        api(5, 16, region="us", size="big"),
        api(6, 32),
    )
    send(engine, api(7, 64, region="us", size="big"), api(8, 128, region="", size="Big"))
    assert portions(engine, "calls") == [
        of("32", 1),
        of("128", 1, region="", size="Big"),
        of("12", 2, region="eu"),
        of("3", 2, region="eu", size="big"),
        of("80", 2, region="us", size="big"),
    ]
    assert total(engine, "calls") == 255


def test_numbers_and_truths_are_their_text(engine: Engine, sql: Sql) -> None:
    meter(sql, "calls", ["x"])
    values = [7, "7", Decimal("7.0"), Decimal("1E+3"), True, "true", False, "null", "Ü"]
    send(engine, *(api(no, 1, x=value) for no, value in enumerate(values)))
    found = {portion.value("x"): portion.events for portion in portions(engine, "calls")}
    assert found == {"7": 2, "7.0": 1, "1000": 1, "true": 2, "false": 1, "null": 1, "Ü": 1}


def test_single_events_are_kept_by_their_quantity(engine: Engine, sql: Sql) -> None:
    meter(sql, "paid", [], per_event=True)
    send(engine, api(1, 5), api(2, Decimal("5.00")), api(3, -5), api(4, 0), api(5, 7))
    send(engine, api(6, 5), api(7, 7, NOON + timedelta(days=1)))
    assert portions(engine, "paid") == [
        of("-5", 1, "-5"),
        of("0", 1, "0"),
        of("15", 3, "5"),
        of("7", 1, "7"),
    ]
    assert portions(engine, "paid", DAY + timedelta(days=1)) == [of("7", 1, "7")]
    with transaction(engine) as session:
        totals = totals_of(session, ["berlin"])["berlin"]
    used = measure(totals, "paid", Period(DAY, DAY + timedelta(days=2)))
    assert [(p.each, p.events) for p in used.portions] == [(-5, 1), (0, 1), (5, 3), (7, 1), (7, 1)]


def test_single_events_and_properties_at_once(engine: Engine, sql: Sql) -> None:
    meter(sql, "paid", ["card"], per_event=True)
    send(engine, api(1, 5, card="visa"), api(2, 5, card="visa"), api(3, 5), api(4, 6, card="visa"))
    assert portions(engine, "paid") == [
        of("5", 1, "5"),
        of("10", 2, "5", card="visa"),
        of("6", 1, "6", card="visa"),
    ]


def test_each_keeps_every_digit(engine: Engine, sql: Sql) -> None:
    meter(sql, "paid", [], per_event=True)
    huge = Decimal("9" * 30 + "." + "9" * 30)
    tiny = Decimal("0." + "0" * 29 + "1")
    send(engine, api(1, huge), api(2, tiny), api(3, huge), api(4, Decimal("0.1")), api(5, Decimal("0.10")))
    send(engine, api(6, huge))
    assert portions(engine, "paid") == [
        Portion(tiny, 1, each=tiny),
        of("0.2", 2, "0.1"),
        Portion(Decimal("29" + "9" * 29 + "." + "9" * 29 + "7"), 3, each=huge),
    ]


def test_each_meter_of_an_event_keeps_its_own(engine: Engine, sql: Sql) -> None:
    meter(sql, "by-region", ["region"])
    meter(sql, "by-size", ["size"], per_event=True)
    meter(sql, "in-all", [])
    send(engine, api(1, 5, region="eu", size=1), api(2, 5, region="eu", size=2))
    assert portions(engine, "by-region") == [of("10", 2, region="eu")]
    assert portions(engine, "by-size") == [of("5", 1, "5", size="1"), of("5", 1, "5", size="2")]
    assert portions(engine, "in-all") == [of("10", 2)]


def test_many_senders_count_each_event_once_with_its_properties(
    engine: Engine, sql: Sql, threads: ThreadPoolExecutor
) -> None:
    """Overlapping batches in any order touch the same portions in any order: nobody waits for ever."""
    meter(sql, "calls", ["region", "size"])
    meter(sql, "paid", ["region"], per_event=True)
    regions = ("eu", "us", "ap", None)
    everything = [
        api(
            no,
            no % 7,
            NOON + timedelta(hours=no % 100),
            ("berlin", "york")[no % 2],
            region=regions[no % 4],
            size=no % 3,
        )
        for no in range(900)
    ]

    def some(seed: int) -> list[Received]:
        dice = random.Random(seed)
        mine = dice.sample(everything, len(everything))
        return [send(engine, *mine[i : i + 150], *mine[i : i + 10]) for i in range(0, len(mine), 150)]

    answers = [answer for sender in [threads.submit(some, seed) for seed in range(6)] for answer in sender.result(60)]
    assert sum(a["accepted"] for a in answers) == 900
    for customer, first in (("berlin", 0), ("york", 1)):
        assert total(engine, "calls", customer) == sum(no % 7 for no in range(first, 900, 2))
        assert total(engine, "paid", customer) == sum(no % 7 for no in range(first, 900, 2))
    by_values = sql(
        "select coalesce(properties ->> 'region', ''), properties ->> 'size', sum(events)::int, sum(quantity)::int"
        " from usage_total where meter_id = 'calls' group by 1, 2"
    )
    expected: dict[tuple[str, str], list[int]] = {}
    for no in range(900):
        expected.setdefault((regions[no % 4] or "", str(no % 3)), []).append(no % 7)
    assert {(a, b): (events, q) for a, b, events, q in by_values} == {k: (len(v), sum(v)) for k, v in expected.items()}
    assert sql("select count(*) from usage_total where meter_id = 'paid' and quantity <> each * events") == [(0,)]
    assert sql("select sum(events)::int from usage_total where meter_id = 'paid'") == [(900,)]


def test_what_is_replayed_has_its_properties(engine: Engine, sql: Sql) -> None:
    meter(sql, "calls", ["region"], per_event=True)
    amount = Decimal("1.10")
    strange = api(1, amount, subject="crm-7", region="eu")
    assert send(engine, strange, api(2, amount, subject="crm-7")) == Received(0, 0, 2)
    sql("insert into customer_alias values ('crm-7', 'berlin')")
    assert send(engine, strange) == Received(1, 0, 0)
    assert again(engine) == Received(1, 1, 0)
    assert portions(engine, "calls") == [of("1.10", 1, "1.10"), of("1.10", 1, "1.10", region="eu")]


@pytest.mark.parametrize("value", [{"a": 1}, ["eu"], "x" * (LONGEST_VALUE + 1)], ids=["object", "list", "too long"])
def test_what_was_sent_before_its_meter_was_made_stands_in_nobodys_way(value: object, engine: Engine, sql: Sql) -> None:
    """The door refuses such values where a meter keeps them; what waited in quarantine is counted without them."""
    send(engine, api(1, 5, subject="crm-7", region=value), api(2, 6, subject="crm-7", region="x" * LONGEST_VALUE))
    meter(sql, "calls", ["region"])
    sql("insert into customer_alias values ('crm-7', 'berlin')")
    assert again(engine) == Received(2, 0, 0)
    assert portions(engine, "calls") == [of("5", 1), of("6", 1, region="x" * LONGEST_VALUE)]


def test_the_longest_properties_fit_into_the_key(engine: Engine, sql: Sql) -> None:
    """Five names of the most bytes and values of a hundred characters of four bytes, which nothing makes shorter."""
    dice = random.Random(3)

    def word(length: int) -> str:
        return "".join(
            chr(dice.choice([0x1, 0x2, 0x3, 0x4, 0xE]) << 16 | dice.randrange(0xFFFE)) for _ in range(length)
        )

    names = [word(MOST_BYTES // 4 // MOST_DIMENSIONS) for _ in range(MOST_DIMENSIONS)]
    assert sum(len(name.encode()) for name in names) == MOST_BYTES
    meter(sql, "m" * 64, names, per_event=True)
    sql(
        "insert into customer (id, version, root_id, name, email, country, time_zone, address, created_at)"
        " select %s, 1, root_id, name, email, country, time_zone, address, created_at from customer"
        " where id = 'berlin'",
        ["c" * 64],
    )
    values = {name: word(LONGEST_VALUE) for name in names}
    each = Decimal("-" + "123456789" * 3 + "123." + "987654321" * 3 + "987")
    assert send(engine, api(1, each, subject="c" * 64, **values)) == Received(1, 0, 0)
    assert portions(engine, "m" * 64, customer="c" * 64) == [Portion(each, 1, tuple(sorted(values.items())), each)]
