"""Rebuilds against their rivals: who reads while it is swapped, months that are taken away, and the same id again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from time import monotonic, sleep
from typing import Any

import psycopg
import pytest
from psycopg.errors import QueryCanceled
from sqlalchemy import Engine

from billing.catalog import Filter, Meter
from billing.errors import Refused
from models import meter_version, rebuilding, usage
from models.catalog import put_meter
from models.correction import Correction, correct
from models.database import cursor, transaction
from models.event import Event
from models.intake import hold_all
from models.meter_version import meter
from models.rebuilding import clear_next, count_next
from models.usage import windows_of
from tests.models.test_aggregations import DAYS
from tests.models.test_rebuild import BERLIN, asked, carried_out, decided, send, step

Sql = Callable[..., list[tuple[Any, ...]]]
MARCH = (date(2026, 3, 1), date(2026, 4, 1))


def sent(engine: Engine, many: int = 3) -> None:
    at = datetime(2026, 3, 29, 12, tzinfo=UTC)
    send(engine, [Event("s", str(n), "berlin", "llm", at, {"n": n}) for n in range(1, many + 1)])


@pytest.mark.parametrize("where", [usage, meter_version])
def test_who_reads_windows_while_it_is_swapped_reads_one_of_both(
    where: Any, engine: Engine, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(engine)
    asked(engine, "tokens", *MARCH)
    carried_out(engine, "tokens")
    decided(engine, "tokens", apply=True)
    with transaction(engine) as session:
        tokens = meter(session, "tokens")
    swapped: list[str] = []

    def swap_first(session: Any) -> Any:
        if not swapped:
            swapped.append("now")
            monkeypatch.setattr(where, "cursor", cursor)
            assert carried_out(engine, "tokens") == ["apply", "clear"]
        return cursor(session)

    monkeypatch.setattr(where, "cursor", swap_first)
    with transaction(engine) as session:
        found = windows_of(session, "berlin", tokens, BERLIN, DAYS.start, DAYS.end, short=True)
    assert [portion.quantity for _, portion in found] == [6]


def test_a_month_that_is_just_being_taken_away_is_not_counted_anew(
    engine: Engine, sql: Sql, threads: ThreadPoolExecutor, database_url: str
) -> None:
    sql("select make_usage_month('2026-03-01')")
    sent(engine)
    with psycopg.connect(database_url) as rival:
        rival.execute("select take_usage_month('2026-03-01')")
        asking = threads.submit(asked, engine, "tokens", *MARCH)
        sleep(0.5)
        assert not asking.done()
        rival.commit()
        with pytest.raises(Refused) as refusal:
            asking.result(20)
    assert [fault.field for fault in refusal.value.faults] == ["since"]


def test_what_counts_instead_is_counted_whoever_commits_while_the_correction_waits_for_a_rebuild(
    engine: Engine, sql: Sql, threads: ThreadPoolExecutor, database_url: str
) -> None:
    """It has a number of its own by then, from the first of two rebuilds, and a sender has a later one."""
    with transaction(engine) as session:
        put_meter(session, Meter("calls", "Calls", "llm", aggregation="count"))
    sent(engine)
    for name, one in (("reb-1", "tokens"), ("reb-2", "calls")):
        asked(engine, one, *MARCH, id=name)
    at = datetime(2026, 3, 29, 12, tzinfo=UTC)
    instead = Event("s", "instead", "berlin", "llm", at, {"n": 10})

    def mend() -> int:
        with transaction(engine) as session:
            return correct(session, [Correction("s", "3", "wrong", instead)], "key")

    with psycopg.connect(database_url) as rival:
        rival.execute("select from meter_rebuild where id = 'reb-2' for update")
        mending = threads.submit(mend)
        sleep(0.5)
        assert not mending.done()
        send(engine, [Event("s", "more", "berlin", "llm", at, {"n": 100})])
        rival.commit()
        assert mending.result(20) == 1
    totals = "select meter_id, sum(quantity)::int, sum(events)::int from usage_total group by 1 order by 1"
    assert sql(totals) == [("calls", 4, 4), ("tokens", 113, 4)]


def test_the_same_id_with_another_change_is_told_also_when_it_is_done(engine: Engine, sql: Sql) -> None:
    """And the same request is the same, whatever became of it and of the meter since."""
    few, many = (Filter("n", ("3",)),), (Filter("n", ("4",)),)
    sent(engine)
    asked(engine, "tokens", *MARCH[:1], filters=few)
    carried_out(engine, "tokens")
    decided(engine, "tokens", apply=True)
    carried_out(engine, "tokens")
    assert asked(engine, "tokens", *MARCH[:1], filters=few) == "reb-1"
    with pytest.raises(Refused, match="taken"):
        asked(engine, "tokens", *MARCH[:1], filters=many)
    asked(engine, "tokens", *MARCH[:1], id="reb-2", unit="words")
    decided(engine, "tokens", apply=False, name="reb-2")
    carried_out(engine, "tokens")
    asked(engine, "tokens", *MARCH[:1], id="reb-3", filters=many)
    carried_out(engine, "tokens")
    decided(engine, "tokens", apply=True, name="reb-3")
    carried_out(engine, "tokens")
    assert asked(engine, "tokens", *MARCH[:1], id="reb-2", unit="words") == "reb-2"
    with pytest.raises(Refused, match="taken"):
        asked(engine, "tokens", *MARCH[:1], id="reb-2", unit="letters")


@pytest.mark.parametrize("what", ["count", "clear"])
def test_two_rebuilds_that_find_the_same_events_in_different_orders_do_not_wait_for_each_other(
    what: str, engine: Engine, sql: Sql, threads: ThreadPoolExecutor, database_url: str
) -> None:
    """A third one holds the event in the middle until both have got so far from either end."""
    meters = {"tokens": "enable_seqscan", "calls": "enable_indexscan"}
    with transaction(engine) as session:
        put_meter(session, Meter("calls", "Calls", "llm", aggregation="count"))
    noon = datetime(2026, 3, 29, 12, tzinfo=UTC)
    send(engine, [Event("s", str(n), "berlin", "llm", noon - timedelta(hours=n), {"n": n}) for n in (1, 2, 3)])
    for name in meters:
        asked(engine, name, MARCH[0], id=name, filters=(Filter("n", ("none",)),))
        step(engine, name)
        if what == "clear":
            carried_out(engine, name)
            decided(engine, name, apply=False, name=name)
            step(engine, name)

    def go_on(meter_id: str, without: str) -> bool:
        with transaction(engine) as session:
            for setting in {without, "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin"}:
                cursor(session).execute(f"set local {setting} = off")
            return {"count": count_next, "clear": clear_next}[what](session, meter_id)

    with psycopg.connect(database_url) as rival:
        rival.execute("select from usage_event where id = '2' for update")
        going = [threads.submit(go_on, *one) for one in meters.items()]
        while sql("select count(*) from pg_locks where not granted") != [(2,)]:
            sleep(0.01)
        rival.commit()
        assert [one.result(20) for one in going] == [True, True]


MARKS = "select pg_advisory_xact_lock(hashtext('usage marks'))"


def waits_for_the_marks(sql: Sql, many: int = 1) -> None:
    until = monotonic() + 20
    while sql("select count(*) from pg_locks where locktype = 'advisory' and not granted") != [(many,)]:
        assert monotonic() < until
        sleep(0.01)


@pytest.mark.parametrize("apply", [True, False])
def test_bills_go_on_while_what_does_not_hold_waits_for_another_rebuild_to_be_taken_away(
    apply: bool, engine: Engine, sql: Sql, threads: ThreadPoolExecutor, database_url: str
) -> None:
    sent(engine)
    asked(engine, "tokens", MARCH[0], filters=(Filter("n", ("none",)),))
    carried_out(engine, "tokens")
    decided(engine, "tokens", apply=apply)
    assert step(engine, "tokens") == ("apply" if apply else "drop")
    with psycopg.connect(database_url) as rival:
        rival.execute(MARKS)
        clearing = threads.submit(carried_out, engine, "tokens")
        waits_for_the_marks(sql)
        assert sql("select id from account_root order by id for no key update nowait") == [("berlin",), ("york",)]
        assert sql("select id from meter_rebuild for update nowait") == [("reb-1",)]
        assert sql("select pg_try_advisory_xact_lock(hashtext('usage months'))") == [(True,)]
        rival.commit()
        assert clearing.result(20) == ["clear"]
    assert sql("select id from meter_rebuild where settled_at is null") == []


def test_a_rebuild_is_dropped_while_it_waits_for_another_one_to_count(
    engine: Engine, sql: Sql, threads: ThreadPoolExecutor, database_url: str
) -> None:
    sent(engine)
    asked(engine, "tokens", MARCH[0], filters=(Filter("n", ("none",)),))
    step(engine, "tokens")
    with psycopg.connect(database_url) as rival:
        rival.execute(MARKS)
        counting = threads.submit(step, engine, "tokens")
        waits_for_the_marks(sql)
        dropping = threads.submit(decided, engine, "tokens", apply=False)
        dropping.result(5)
        assert step(engine, "tokens") == "drop"
        assert sql("select pg_try_advisory_xact_lock(hashtext('usage months'))") == [(True,)]
        rival.commit()
        assert counting.result(20) == "count"
    assert carried_out(engine, "tokens") == ["clear"]
    assert sql("select id from usage_event where meters <> '{tokens}'") == []
    assert sql("select meter_id from usage_total where meter_id <> 'tokens'") == []


def test_of_two_rebuilds_each_counts_and_clears_a_piece_in_its_turn(
    engine: Engine, sql: Sql, threads: ThreadPoolExecutor, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both wait for the marks after every piece, and neither is kept from its next one by the other."""
    monkeypatch.setattr(rebuilding, "EVENTS_AT_ONCE", 1)
    with transaction(engine) as session:
        put_meter(session, Meter("calls", "Calls", "llm", aggregation="count"))
    at = datetime(2026, 3, 9, 12, tzinfo=UTC)
    send(engine, [Event("s", str(n), "berlin", "llm", at + timedelta(days=n), {"n": n}) for n in range(12)])
    for name in ("tokens", "calls"):
        asked(engine, name, MARCH[0], id=name, filters=(Filter("n", ("3",)),))
        step(engine, name)
    with psycopg.connect(database_url) as rival:
        rival.execute(MARKS)
        going = [threads.submit(carried_out, engine, name) for name in ("tokens", "calls")]
        waits_for_the_marks(sql, 2)
        rival.commit()
        assert [one.result(30) for one in going] == [["count", "compare"]] * 2
    assert sql("select id, counted from meter_rebuild order by 1") == [("calls", 12), ("tokens", 12)]
    for name in ("tokens", "calls"):
        decided(engine, name, apply=True, name=name)
    assert [*threads.map(lambda name: carried_out(engine, name), ("tokens", "calls"))] == [["apply", "clear"]] * 2
    assert sql("select id from usage_event where meters @> '{tokens,calls}' and cardinality(meters) = 2") == [("3",)]


def test_senders_are_not_held_up_by_one_who_waits_for_some_of_them(engine: Engine, threads: ThreadPoolExecutor) -> None:
    """Each of two senders keeps its stripe for less than the bound, one after the other; together it is too long."""
    bound = 2.0

    def hold_for(stripe: int, seconds: float) -> None:
        with transaction(engine) as session:
            cursor(session).execute("select pg_advisory_xact_lock_shared(hashtext('usage'), %s)", (stripe,))
            held.append(stripe)
            sleep(seconds)

    held: list[int] = []
    slow = [threads.submit(hold_for, 3, 0.75 * bound), threads.submit(hold_for, 60, 1.5 * bound)]
    while len(held) < 2:
        sleep(0.01)
    with pytest.raises(QueryCanceled), transaction(engine) as session:
        hold_all(session)
    for sender in slow:
        sender.result(30)
    with transaction(engine) as session:
        hold_all(session)
        cursor(session).execute("select pg_sleep(%s)", (bound + 0.2,))  # What comes after has the time that it needs.
