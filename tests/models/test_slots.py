"""Totals in slots: who adds to the same totals at once does not wait, and what lies in several slots reads as one."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from billing.catalog import Meter
from billing.portion import Portion
from models import recount, slot
from models.audit import audit
from models.catalog import put_meter
from models.database import transaction
from models.event import Event
from models.intake import receive
from models.unbilled import by_no_meter
from models.usage import level_before, totals_of, windows_of
from tests.models.test_aggregations import BERLIN, DAYS, METERS, START, compare, drawn

Sql = Callable[..., list[tuple[Any, ...]]]
LEVELS = (
    Meter("seats", "Seats", "job", "n", aggregation="unique", operation_field="what", carries_over=True),
    Meter("stock", "Stock", "job", "n", carries_over=True, dimensions=("region",)),
    Meter("size", "Size", "job", "n", aggregation="latest", carries_over=True, resolution="minute"),
)


@contextmanager
def taken(database_url: str, slots: Collection[int]) -> Iterator[None]:
    """Somebody else has these slots."""
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute(
            "select pg_advisory_lock(hashtext('usage slot'), slot) from unnest(%s::int[]) slot", [list(slots)]
        )
        yield


def send(engine: Engine, *events: Event) -> None:
    with transaction(engine) as session:
        assert {outcome.kind for outcome in receive(session, events)} == {"accepted"}


def one(no: int) -> Event:
    return Event("s", str(no), "berlin", "job", START, {"n": no})


def test_two_that_add_to_the_same_totals_do_not_wait(engine: Engine, sql: Sql, threads: ThreadPoolExecutor) -> None:
    with transaction(engine) as session:
        put_meter(session, METERS[0])
    with transaction(engine) as session:
        receive(session, [one(1)])
        threads.submit(send, engine, one(2)).result(20)  # It is through while the first has not committed.
        assert sql("select slot, quantity from usage_total") == [(1, 2)]
    send(engine, one(4))
    assert sql("select slot, quantity from usage_total order by 1") == [(0, 5), (1, 2)]
    with transaction(engine) as session:
        [portion] = totals_of(session, ["berlin"])["berlin"][METERS[0].meter_id, DAYS.start]
    assert (portion.quantity, portion.events) == (7, 3)


def test_one_more_than_there_are_slots_waits_for_a_commit(
    engine: Engine, sql: Sql, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot, "SLOTS", 2)
    with transaction(engine) as session:
        put_meter(session, METERS[0])
    with transaction(engine) as first, transaction(engine) as second:
        receive(first, [one(1)])
        receive(second, [one(2)])
        third = threads.submit(send, engine, one(4))
        while not sql("select 1 from pg_stat_activity where wait_event = 'advisory'"):
            assert not third.done()
    third.result(20)
    assert sql("select sum(quantity), count(*)::int from usage_total") == [(7, 2)]


@pytest.mark.parametrize("seed", range(3))
def test_what_lies_in_several_slots_reads_as_one(engine: Engine, database_url: str, sql: Sql, seed: int) -> None:
    """Meters of every kind: the same figures as when all is counted anew, and so lies in one slot."""
    dice = random.Random(seed)
    with transaction(engine) as session:
        for meter in (*METERS, *LEVELS):
            put_meter(session, meter)
    events = [operated(dice, drawn(dice, no)) for no in range(300)]
    strangers = [uncounted(e) for e in events[:20]]
    for start in range(0, len(events), 20):
        with taken(database_url, dice.sample(range(4), dice.randint(0, 4))):
            send(engine, *events[start : start + 20])
            send(engine, strangers[start // 20])
    assert sql("select count(distinct slot) > 3 from usage_total") == [(True,)]
    with transaction(engine) as session:
        compare(session, events)
    with transaction(engine) as session:
        answered = audit(session, "berlin", METERS[0], DAYS.start, DAYS.end)
        assert (answered.received, answered.accepted, answered.stored) == (300, 300, 300)
        [other] = by_no_meter(session, DAYS.start, DAYS.end, ("", ""), 10)
        assert other.events == 15
    before = read(engine)
    for meter in (*METERS, *LEVELS):
        with transaction(engine) as session:
            found = recount.recount(session, meter, "berlin", BERLIN, (DAYS.start, DAYS.end), store=True)
            assert found == []
    assert sql("select distinct slot from usage_total union select slot from usage_window") == [(0,)]
    assert read(engine) == before


def operated(dice: random.Random, e: Event) -> Event:
    data = {**e.data, "what": dice.choice(["add", "remove"])} if dice.random() < 0.9 else e.data
    return Event(e.source, e.id, e.subject, e.type, e.occurred_at.astimezone(UTC), data)


def uncounted(e: Event) -> Event:
    return Event(e.source, f"other {e.id}", e.subject, "no meter", e.occurred_at, {})


def read(engine: Engine) -> list[object]:
    """All that anybody reads of totals, in order."""
    found: list[object] = []
    with transaction(engine) as session:
        totals = totals_of(session, ["berlin"], DAYS.start + timedelta(days=2), DAYS.end)["berlin"]
        found.append({key: in_order(some) for key, some in totals.items()})
        for meter in (*METERS, *LEVELS):
            found.append(in_order(level_before(session, "berlin", meter, DAYS.start + timedelta(days=3))))
            found.append(audit(session, "berlin", meter, DAYS.start, DAYS.end))
            for short in (False, True):
                windows = windows_of(session, "berlin", meter, BERLIN, DAYS.start, DAYS.end, short=short)
                found.append(sorted(map(str, windows)))
    return found


def in_order(portions: tuple[Portion, ...]) -> list[str]:
    """Whatever the number of decimals that zeros are kept with."""
    return sorted(str(replace(p, quantity=p.quantity.normalize(), weighted=p.weighted.normalize())) for p in portions)
