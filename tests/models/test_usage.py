"""Usage: each event counts once, on the customer's own day, exactly; and what is in quarantine is not lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine

from billing.catalog import Meter
from billing.quantity import added_up
from billing.usage import quantity_of
from models.catalog import put_meter
from models.database import FEW, transaction
from models.event import Event
from models.intake import OutcomeKind, receive, replay
from models.quarantine import quarantined
from models.usage import events_folded, totals_of

Sql = Callable[..., list[tuple[Any, ...]]]
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def event(no: object, n: object = 1, subject: str = "berlin", at: datetime = NOON, kind: str = "llm") -> Event:
    return Event("s", str(no), subject, kind, at, {} if n is None else {"n": n})


class Received(Counter[OutcomeKind]):
    """How many events were answered how."""

    def __init__(self, accepted: int, duplicate: int, quarantined: int, conflict: int = 0) -> None:
        super().__init__(accepted=accepted, duplicate=duplicate, quarantined=quarantined, conflict=conflict)


def send(engine: Engine, *events: Event) -> Counter[OutcomeKind]:
    with transaction(engine) as session:
        return Counter(outcome.kind for outcome in receive(session, events))


def again(engine: Engine, subject: str | None = None, limit: int = 1000) -> Counter[OutcomeKind]:
    with transaction(engine) as session:
        return Counter(outcome.kind for outcome in replay(session, subject, limit))


def totals(engine: Engine, customer: str = "berlin") -> dict[tuple[str, date], Decimal]:
    with transaction(engine) as session:
        found = totals_of(session, [customer])[customer]
    return {key: quantity_of(portions) for key, portions in found.items()}


def total(engine: Engine, meter: str = "tokens", customer: str = "berlin") -> Decimal:
    """Of all days; it must be the same when the stored events are added up again."""
    folded = added_up(quantity for (name, _), quantity in totals(engine, customer).items() if name == meter)
    with transaction(engine) as session:
        assert events_folded(session, [customer]).get(f"{customer} {meter}", 0) == folded
    return folded


def test_an_event_counts_once_in_a_batch_and_over_batches(engine: Engine, sql: Sql) -> None:
    assert send(engine, event(1, 5), event(2, 7), event(1, 5)) == Received(2, 1, 0)
    assert send(engine, event(2, 7), event(3, 11)) == Received(1, 1, 0)
    assert send(engine, event(3, 11)) == Received(0, 1, 0)
    assert total(engine) == 23


def test_the_first_content_under_an_id_stands(engine: Engine, sql: Sql) -> None:
    other = event(1, 900, subject="york", at=NOON + timedelta(days=40))
    assert send(engine, event(1, 5), event(1, 6)) == Received(1, 0, 0, conflict=1)
    assert send(engine, other) == Received(0, 0, 0, conflict=1)
    assert send(engine, other, event(1, 5)) == Received(0, 1, 0, conflict=1)
    kept = sql("select event ->> 'subject', event ->> 'data' from usage_conflict order by 1, 2")
    assert kept == [("berlin", '{"n":6}'), ("york", '{"n":900}')]
    assert (total(engine), totals(engine, "york")) == (5, {})
    assert send(engine, Event("another source", "1", "berlin", "llm", NOON, {"n": 3})) == Received(1, 0, 0)
    assert total(engine) == 8


NASTY = ("\t", "\n", "\r\n", "\\", "\\N", "\\.\n", "\\t", '"', "{,}", " ", "\u2028", "\x01", "\x7f", "ü\U0001f600")


def test_texts_are_kept_as_they_came(engine: Engine, sql: Sql) -> None:
    some = [Event(f"s{text}", text, "berlin", f"k{text}", NOON, {text: text, "n": 1}) for text in NASTY]
    assert send(engine, *some) == Received(len(NASTY), 0, 0)
    kept = sql("select source, id, type, data from usage_event")
    assert sorted(kept, key=str) == sorted(((e.source, e.id, e.type, e.data) for e in some), key=str)


def test_many_senders_of_the_same_events_count_each_once(engine: Engine, sql: Sql, threads: ThreadPoolExecutor) -> None:
    """Overlapping batches in any order, over customers and days: nothing is lost or doubled, nobody waits for ever."""
    everything = [
        event(no, no, ("berlin", "york", "nobody")[no % 3], NOON + timedelta(hours=no % 200)) for no in range(1200)
    ]

    def some(seed: int) -> list[Counter[OutcomeKind]]:
        dice = random.Random(seed)
        mine = dice.sample(everything, len(everything))
        return [send(engine, *mine[i : i + 150]) for i in range(0, len(mine), 150)]

    answers = [answer for sender in [threads.submit(some, seed) for seed in range(6)] for answer in sender.result(60)]
    assert sum(a["accepted"] for a in answers) == 800
    assert sum(a["quarantined"] for a in answers) == 400
    assert sum(a.total() for a in answers) == 6 * 1200
    assert total(engine) == sum(no for no in range(1200) if no % 3 == 0)
    assert total(engine, customer="york") == sum(no for no in range(1200) if no % 3 == 1)
    assert sql("select sum(events)::int from usage_total") == [(800,)]


@pytest.mark.parametrize(
    ("customer", "moment", "day"),
    [
        # Winter, summer, and both sides of the nights in which clocks change.
        ("berlin", "2026-01-31T22:59:59Z", "2026-01-31"),
        ("berlin", "2026-01-31T23:00:00Z", "2026-02-01"),
        ("berlin", "2026-03-28T22:59:59Z", "2026-03-28"),
        ("berlin", "2026-03-28T23:00:00Z", "2026-03-29"),
        ("berlin", "2026-03-29T21:59:59Z", "2026-03-29"),
        ("berlin", "2026-03-29T22:00:00Z", "2026-03-30"),
        ("berlin", "2026-10-25T22:59:59Z", "2026-10-25"),
        ("berlin", "2026-10-25T23:00:00Z", "2026-10-26"),
        ("berlin", "2026-01-31T18:59:59.999999-05:00", "2026-02-01"),
        ("york", "2026-02-01T04:59:59Z", "2026-01-31"),
        ("york", "2026-02-01T05:00:00Z", "2026-02-01"),
        ("york", "2026-03-09T03:59:59Z", "2026-03-08"),
        ("york", "2026-03-09T04:00:00Z", "2026-03-09"),
        ("york", "2026-11-02T04:59:59Z", "2026-11-01"),
        ("york", "2026-11-02T05:00:00Z", "2026-11-02"),
    ],
)
def test_an_event_belongs_to_the_customers_own_day(
    customer: str, moment: str, day: str, engine: Engine, sql: Sql
) -> None:
    send(engine, event(1, 4, customer, datetime.fromisoformat(moment)))
    assert totals(engine, customer) == {("tokens", date.fromisoformat(day)): Decimal(4)}


@pytest.mark.parametrize(
    ("quantities", "expected"),
    [
        ([Decimal("0.1")] * 1000, "100.0"),
        ([10**18, 1, Decimal("0.000000000000000001")], "1000000000000000001.000000000000000001"),
        (
            [Decimal("12345678901234567890.123456789012345678"), Decimal("-0.5")],
            "12345678901234567889.623456789012345678",
        ),
        ([-3, 1], "-2"),
        ([5, -5], "0"),
    ],
    ids=["a tenth a thousand times", "eighteen digits on both sides", "beyond 28 digits", "below zero", "taken back"],
)
def test_quantities_add_up_exactly(quantities: list[object], expected: str, engine: Engine, sql: Sql) -> None:
    for start in range(0, len(quantities), 300):
        send(engine, *(event(start + i, n) for i, n in enumerate(quantities[start : start + 300])))
    assert total(engine) == Decimal(expected)


def test_two_meters_may_count_one_event(engine: Engine, sql: Sql) -> None:
    sql("insert into meter values ('calls', 'Calls', 'llm', 'calls', ''), ('mails', 'Mails', 'mail', 'n', '')")
    send(
        engine,
        Event("s", "1", "berlin", "llm", NOON, {"n": 10, "calls": 2}),
        Event("s", "2", "berlin", "llm", NOON, {"calls": 3}),
        event(3, 100, kind="mail"),
        event(4, 100, kind="unknown"),
    )
    assert (total(engine), total(engine, "calls"), total(engine, "mails")) == (10, 5, 100)


def test_an_event_without_a_quantity_is_kept_and_not_counted(engine: Engine, sql: Sql) -> None:
    nothing = Event("s", "null", "berlin", "llm", NOON, {"n": None})
    assert send(engine, event(1, None), nothing) == Received(2, 0, 0)
    assert totals(engine) == {}
    assert send(engine, event(2, 3)) == Received(1, 0, 0)
    assert total(engine) == 3


@pytest.mark.parametrize("n", ["twelve", "12", True, {"n": 1}, 10**30], ids=repr)
def test_something_else_in_the_place_of_a_quantity_is_invalid(n: object, engine: Engine, sql: Sql) -> None:
    with transaction(engine) as session:
        assert [(o.kind, o.field) for o in receive(session, [event(1, n), event(2, 3)])] == [
            ("invalid", "data.n"),
            ("accepted", ""),
        ]
    assert total(engine) == 3
    assert sql("select id from usage_event") == [("2",)]


def test_a_meter_counts_from_its_making_on(engine: Engine, sql: Sql) -> None:
    """What came before, whatever it holds, neither changes its sum nor the proof of it."""
    send(engine, event(1, 5, kind="mail"), event(2, "five", kind="mail"))
    sql("insert into meter values ('mails', 'Mails', 'mail', 'n', '')")
    send(engine, event(3, 2, kind="mail"))
    assert total(engine, "mails") == 2


def test_what_was_stored_before_its_meter_was_made_is_known_whatever_the_meter_says(engine: Engine, sql: Sql) -> None:
    """Its sender may not have heard the first answer."""
    was = event(1, "five", kind="mail")
    assert send(engine, was) == Received(1, 0, 0)
    with transaction(engine) as session:
        put_meter(session, Meter("mails", "Mails", "mail", "n"))
    other = event(1, "six", kind="mail")
    assert send(engine, was, other, event(2, "five", kind="mail")) == Counter(duplicate=1, conflict=1, invalid=1)
    assert total(engine, "mails") == 0


@pytest.mark.parametrize("many", [1, FEW])
def test_a_meter_may_be_named_like_nothing(engine: Engine, sql: Sql, many: int) -> None:
    """NULL among the elements of an array is no text, unless it is quoted."""
    with transaction(engine) as session:
        put_meter(session, Meter("null", "Null", "mail", "n"))
    send(engine, *(event(no, kind="mail") for no in range(many)))
    assert sql("select distinct meters from usage_event") == [(["null"],)]
    assert total(engine, "null") == many


def test_quarantine_is_replayed_once_the_customer_is_known(engine: Engine, sql: Sql) -> None:
    assert send(engine, event(1, 5, "crm-7"), event(2, 6, "crm-7"), event(3, 7, "crm-8")) == Received(0, 0, 3)
    assert send(engine, event(1, 5, "crm-7")) == Received(0, 1, 0)
    assert again(engine) == Received(0, 0, 3)
    sql("insert into customer_alias values ('crm-7', 'berlin')")
    assert again(engine) == Received(2, 0, 1)
    assert again(engine) == Received(0, 0, 1)
    assert again(engine, "crm-7") == Received(0, 0, 0)
    assert total(engine) == 11
    with transaction(engine) as session:
        assert [(one.id, one.subject) for one in quarantined(session, 10)] == [("3", "crm-8")]


def test_what_was_sent_again_meanwhile_is_not_counted_twice(engine: Engine, sql: Sql) -> None:
    send(engine, event(1, Decimal("5.50"), "crm-7"), event(2, 6, "crm-7"))
    sql("insert into customer_alias values ('crm-7', 'berlin')")
    assert send(engine, event(1, Decimal("5.50"), "crm-7")) == Received(1, 0, 0)
    assert again(engine) == Received(1, 1, 0)
    assert total(engine) == Decimal("11.50")
    assert sql("select count(*) from usage_quarantine where replayed_at is null") == [(0,)]


def test_replaying_keeps_moment_and_digits(engine: Engine, sql: Sql) -> None:
    at = datetime.fromisoformat("2026-02-01T00:30:00+01:00")
    send(engine, event(1, Decimal("0.123456789012345678901234567890"), "crm-7", at))
    sql("insert into customer_alias values ('crm-7', 'york')")
    again(engine)
    assert totals(engine, "york") == {("tokens", date(2026, 1, 31)): Decimal("0.123456789012345678901234567890")}


def test_strangers_do_not_stand_in_the_way_of_those_who_became_known(engine: Engine, sql: Sql) -> None:
    send(engine, *(event(f"a{no}", 1, "stranger") for no in range(20)), event("z", 9, "crm-7"))
    sql("insert into customer_alias values ('crm-7', 'berlin')")
    assert again(engine, limit=5) == Received(1, 0, 4)
    assert total(engine) == 9


def test_many_may_replay_at_once(engine: Engine, sql: Sql, threads: ThreadPoolExecutor) -> None:
    send(engine, *(event(no, 1, "crm-7") for no in range(200)))
    sql("insert into customer_alias values ('crm-7', 'berlin')")
    answers = [waiting.result(30) for waiting in [threads.submit(again, engine) for _ in range(6)]]
    assert sum(answer["accepted"] for answer in answers) == 200
    assert total(engine) == 200
