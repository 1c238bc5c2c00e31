"""Counting anew: a meter made after its events has the totals it would have had, and nothing is lost meanwhile."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from billing.catalog import Meter
from billing.errors import Refused
from billing.period import zone
from models import recount
from models.catalog import put_meter
from models.correction import Correction, correct
from models.database import transaction
from models.event import Event
from models.intake import receive
from models.recount import Recounted
from models.usage import events_folded
from tests.models.test_aggregations import DAYS, METERS, compare, drawn
from tests.models.test_rebuild import asked

Sql = Callable[..., list[tuple[Any, ...]]]
BETWEEN = (DAYS.start, DAYS.end)


def anew(engine: Engine, *, store: bool = True) -> dict[str, list[Recounted]]:
    found = {}
    for one in METERS:
        with transaction(engine) as session:
            changes = recount.recount(session, one, "berlin", zone("Europe/Berlin"), BETWEEN, store=store)
            found[one.meter_id] = changes
    return found


def test_a_meter_made_late_counts_what_came_before(engine: Engine, sql: Sql) -> None:
    dice = random.Random(3)
    events = [drawn(dice, no) for no in range(300)]
    with transaction(engine) as session:
        receive(session, events[:200])
        correct(session, [Correction("s", e.id, "wrong") for e in events[:20]], "key")
        for one in METERS:
            put_meter(session, one)
    with transaction(engine) as session:
        receive(session, events[200:])
    all_ = (
        "select customer_id, meter_id, day, properties, each, quantity, events from usage_total order by 1, 2, 3, 4, 5"
    )
    before = sql(all_)
    shown = anew(engine, store=False)
    assert sql(all_) == before
    assert anew(engine) == shown
    assert any(shown.values())
    with transaction(engine) as session:
        compare(session, events[20:])
    assert not any(anew(engine).values())
    by_hour = "select sum(quantity), sum(events) from usage_window where meter_id = 'sum-0'"
    assert sql(by_hour) == sql(by_hour.replace("usage_window", "usage_total"))


def test_what_comes_meanwhile_is_counted_once(engine: Engine, sql: Sql, threads: ThreadPoolExecutor) -> None:
    dice = random.Random(4)
    events = [drawn(dice, no) for no in range(800)]
    with transaction(engine) as session:
        receive(session, events[:400])
        for one in METERS:
            put_meter(session, one)

    def sent(start: int) -> None:
        with transaction(engine) as session:
            receive(session, events[start : start + 20])

    waiting = [threads.submit(sent, start) for start in range(400, 800, 20)]
    waiting[3:3] = [threads.submit(lambda: anew(engine) and None)]
    for one in waiting:
        one.result(60)
    anew(engine)
    with transaction(engine) as session:
        compare(session, events)


def test_events_themselves_stay_as_they_came(engine: Engine, sql: Sql) -> None:
    with transaction(engine) as session:
        receive(session, [drawn(random.Random(1), 1)])
    for change in ("data = '{}'", "day = day + 1", "customer_id = 'york'", "received_at = now() - interval '1 day'"):
        with pytest.raises(Exception, match="append-only"):
            sql(f"update usage_event set {change}")
    for change in ("delete from", "truncate"):
        with pytest.raises(Exception, match="append-only"):
            sql(f"{change} usage_event")
    sql("update usage_event set meters = '{x}'")


@pytest.mark.parametrize(("until", "why"), [(DAYS.start, "holds nothing"), (date(2027, 6, 1), "at once")])
def test_too_much_is_refused_and_nothing_at_all(until: date, why: str, engine: Engine, sql: Sql) -> None:
    with transaction(engine) as session, pytest.raises(Refused, match=why):
        recount.recount(session, METERS[0], "berlin", zone("Europe/Berlin"), (DAYS.start, until), store=True)


def test_too_many_events_are_refused(engine: Engine, sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recount, "MOST_EVENTS", 5)
    with transaction(engine) as session:
        put_meter(session, METERS[0])
        receive(session, [drawn(random.Random(1), no) for no in range(6)])
    with transaction(engine) as session, pytest.raises(Refused, match="at once"):
        recount.recount(session, METERS[0], "berlin", zone("Europe/Berlin"), BETWEEN, store=True)


def test_a_month_that_is_gone_is_not_counted_anew_though_no_meter_counted_it(engine: Engine, sql: Sql) -> None:
    sql("select make_usage_month('2026-01-01')")
    january, february = (
        Event("s", str(month), "berlin", "other", datetime(2026, month, 10, tzinfo=UTC), {"n": 1}) for month in (1, 2)
    )
    with transaction(engine) as session:
        receive(session, [january, february])
    assert sql("select take_usage_month('2026-01-01')") == [(True,)]
    late = Meter("late", "Late", "other", "n")
    with transaction(engine) as session:
        put_meter(session, late)

    def counted(first: date) -> list[Recounted]:
        with transaction(engine) as session:
            between = (first, date(2026, 3, 1))
            return recount.recount(session, late, "berlin", zone("Europe/Berlin"), between, store=True)

    with pytest.raises(Refused, match="2026-01"):
        counted(date(2026, 1, 1))
    with pytest.raises(Refused) as refused:
        asked(engine, "late", date(2026, 1, 1))
    assert [fault.field for fault in refused.value.faults] == ["since"]
    assert counted(date(2026, 2, 2)) == [Recounted(date(2026, 2, 10), 0, 1)]
    with transaction(engine) as session:
        assert events_folded(session, ["berlin"]) == {"berlin late": 1}
