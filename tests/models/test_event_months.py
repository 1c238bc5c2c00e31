"""Events of months: without a partition they are taken in all the same, and taken away they are not forgotten."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from time import sleep
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from models import correction
from models.database import transaction
from models.event import Event, make_months
from models.event_month import crowded
from models.intake import OutcomeKind, receive
from models.usage import events_folded

Sql = Callable[..., list[tuple[Any, ...]]]
JANUARY, FEBRUARY, MARCH = date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 1)
SENDERS, BATCHES, SIZE = 4, 60, 20


def event(no: int) -> Event:
    """One of January, February or March, by its number."""
    return Event("s", str(no), "berlin", "llm", datetime(2026, 1 + no % 3, 1 + no % 28, tzinfo=UTC), {"n": no})


def send(engine: Engine, *events: Event) -> Counter[OutcomeKind]:
    with transaction(engine) as session:
        return Counter(outcome.kind for outcome in receive(session, events))


def make(engine: Engine, month: date) -> list[date]:
    with transaction(engine) as session:
        return make_months(session, month, 1)


def lie(sql: Sql) -> dict[str, int]:
    """How many events lie in which table."""
    return dict(sql("select tableoid::regclass::text, count(*)::int from usage_event group by 1"))


def folded(sql: Sql) -> tuple[Any, ...]:
    (row,) = sql("select sum(quantity)::int, sum(events)::int from usage_total")
    return row


def stored(sql: Sql) -> tuple[Any, ...]:
    (row,) = sql("select sum((data ->> 'n')::numeric)::int, count(*)::int from usage_event")
    return row


def proved(engine: Engine) -> int:
    """The quantities as the close proves them, from what is stored and what was taken away."""
    with transaction(engine) as session:
        return int(events_folded(session, ["berlin"])["berlin tokens"])


def test_a_month_without_a_partition_is_no_outage(engine: Engine, sql: Sql) -> None:
    assert make(engine, JANUARY) == [JANUARY]
    assert send(engine, *map(event, range(30))) == Counter(accepted=30)
    assert lie(sql) == {"usage_event_2026_01": 10, "usage_event_other": 20}
    assert send(engine, *map(event, range(40))) == Counter(accepted=10, duplicate=30)
    with transaction(engine) as session:
        assert crowded(session, 12) == [FEBRUARY, MARCH]
        assert crowded(session, 13) == []
    assert make(engine, FEBRUARY) == [FEBRUARY]
    assert make(engine, FEBRUARY) == []
    assert lie(sql) == {"usage_event_2026_01": 14, "usage_event_2026_02": 13, "usage_event_other": 13}
    assert send(engine, *map(event, range(40))) == Counter(duplicate=40)
    assert folded(sql) == stored(sql) == (sum(range(40)), 40)
    with pytest.raises(psycopg.Error, match="append-only"):
        sql("delete from usage_event_2026_02")
    with pytest.raises(psycopg.Error, match="append-only"):
        sql("delete from usage_event_other")


def test_a_partition_is_made_while_events_come(engine: Engine, sql: Sql, threads: ThreadPoolExecutor) -> None:
    """Senders overlap, and two processes make the same months at the same time: nobody fails, nothing is lost."""
    began = threading.Event()

    def sender(mine: int) -> Counter[OutcomeKind]:
        found: Counter[OutcomeKind] = Counter()
        for batch in range(BATCHES):
            start = batch * SIZE + mine * SIZE // 2
            found += send(engine, *(event(no) for no in range(start, start + SIZE)))
            began.set()
        return found

    def maker() -> list[date]:
        assert began.wait(30)
        found: list[date] = []
        for month in (MARCH, JANUARY, FEBRUARY):
            made = False
            while not made:
                try:
                    found += make(engine, month)
                    made = True
                except Exception as error:
                    assert "already exists" in str(error) or "lock timeout" in str(error), error
        return found

    sending = [threads.submit(sender, mine) for mine in range(SENDERS)]
    making = [threads.submit(maker) for _ in range(2)]
    assert sorted(month for waiting in making for month in waiting.result(60)) == [JANUARY, FEBRUARY, MARCH]
    answers = sum((waiting.result(60) for waiting in sending), Counter())
    there = BATCHES * SIZE + (SENDERS - 1) * SIZE // 2
    assert answers == Counter(accepted=there, duplicate=SENDERS * BATCHES * SIZE - there)
    assert sorted(lie(sql)) == ["usage_event_2026_01", "usage_event_2026_02", "usage_event_2026_03"]
    assert folded(sql) == stored(sql) == (sum(range(there)), there)


def test_a_partition_is_made_while_an_event_is_corrected(
    engine: Engine, sql: Sql, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The correction has read events when the maker comes; it does not need what the maker has got meanwhile."""
    send(engine, event(0))
    making: list[Future[list[date]]] = []
    find = correction._find

    def found(*asked: Any) -> Any:
        known = find(*asked)
        making.append(threads.submit(make, engine, JANUARY))
        while not sql("select 1 from pg_locks where not granted"):
            sleep(0.01)
        return known

    monkeypatch.setattr(correction, "_find", found)
    with transaction(engine) as session:
        assert correction.correct(session, [correction.Correction("s", "0", "wrong")], "key") == 1
    assert making[0].result(10) == [JANUARY]


def test_a_month_that_is_taken_away_is_not_forgotten(engine: Engine, sql: Sql) -> None:
    for month in (JANUARY, FEBRUARY, MARCH):
        make(engine, month)
    send(engine, *map(event, range(30)))
    before = folded(sql)
    assert sql("select take_usage_month('2026-01-31')") == [(True,)]
    assert sql("select take_usage_month('2026-01-31')") == [(False,)]
    assert sql("select month, customer_id, meter_id, quantity::int, events from usage_taken order by 3") == [
        (JANUARY, "berlin", "", 0, 0),
        (JANUARY, "berlin", "tokens", sum(range(0, 30, 3)), 10),
    ]
    assert lie(sql) == {"usage_event_2026_02": 10, "usage_event_2026_03": 10}
    assert send(engine, *map(event, range(30))) == Counter(duplicate=30)
    moved = Event("s", "0", "berlin", "llm", event(0).occurred_at + timedelta(days=90), {"n": 0})
    assert send(engine, moved) == Counter(conflict=1)
    assert folded(sql) == before == (proved(engine), 30)
    with pytest.raises(psycopg.Error, match="append-only"):
        sql("delete from usage_event_2026_01")


def test_what_comes_for_a_month_that_was_taken_away(engine: Engine, sql: Sql) -> None:
    """It counts; and lies elsewhere until the month is gone for good, and then in a month of its own again."""
    make(engine, JANUARY)
    send(engine, event(0), event(3))
    sql("select take_usage_month('2026-01-01')")
    assert send(engine, event(6)) == Counter(accepted=1)
    assert folded(sql) == (proved(engine), 3) == (9, 3)
    with transaction(engine) as session:
        assert crowded(session, 0) == []
    assert make(engine, JANUARY) == []
    sql("alter table usage_event_2026_01 rename to taken_away")
    assert make(engine, JANUARY) == [JANUARY]
    assert lie(sql) == {"usage_event_2026_01": 1}
    sql("drop table taken_away")
    assert sql("select take_usage_month('2026-01-01')") == [(True,)]
    assert folded(sql) == (proved(engine), 3)
    assert send(engine, event(0), event(3), event(6)) == Counter(duplicate=3)
    assert folded(sql) == (9, 3)


def test_a_month_is_taken_away_while_its_events_come(engine: Engine, sql: Sql, threads: ThreadPoolExecutor) -> None:
    make(engine, JANUARY)
    began = threading.Event()

    def sender(mine: int) -> Counter[OutcomeKind]:
        found: Counter[OutcomeKind] = Counter()
        for batch in range(BATCHES):
            start = (mine * BATCHES + batch) * SIZE
            found += send(engine, *(event(no) for no in range(start, start + SIZE)))
            began.set()
        return found

    sending = [threads.submit(sender, mine) for mine in range(SENDERS)]
    assert began.wait(30)
    assert sql("select take_usage_month('2026-01-01')") == [(True,)]
    there = SENDERS * BATCHES * SIZE
    assert sum((waiting.result(60) for waiting in sending), Counter()) == Counter(accepted=there)
    assert folded(sql) == (proved(engine), there) == (sum(range(there)), there)
    assert sql("select events from usage_taken where meter_id <> ''") == sql("select count(*) from usage_event_2026_01")
