"""Corrections: events made void or replaced count no more, whatever the meter; and nothing else changes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Engine

from billing.errors import Refused
from billing.period import zone
from models import afresh, correction
from models.audit import audit
from models.catalog import live_meters, put_meter
from models.correction import Correction, correct
from models.database import transaction
from models.event import Event
from models.intake import receive
from models.recount import recount
from tests.models.test_aggregations import DAYS, METERS, START, compare, drawn
from tests.models.test_usage import send, total

Sql = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def met(engine: Engine, sql: Sql) -> Engine:
    with transaction(engine) as session:
        for one in METERS:
            put_meter(session, one)
    return engine


def void(engine: Engine, *wrong: Event, instead: Sequence[Event] = ()) -> int:
    both = [*instead, *[None] * (len(wrong) - len(instead))]
    corrections = [Correction(w.source, w.id, "wrong", i) for w, i in zip(wrong, both, strict=True)]
    with transaction(engine) as session:
        return correct(session, corrections, "key")


@pytest.mark.parametrize("seed", range(3))
def test_totals_are_what_the_events_make_that_still_count(
    met: Engine, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read and counted few at a time."""
    monkeypatch.setattr(afresh, "EVENTS_AT_ONCE", 7)
    dice = random.Random(seed)
    events = [drawn(dice, no) for no in range(300)]
    wrong = dice.sample(events, 60)
    instead = [replace(drawn(dice, no), id=f"instead-{no}") for no in range(30)]
    with transaction(met) as session:
        receive(session, events)
    assert void(met, *wrong, instead=instead) == 60
    assert void(met, *wrong, instead=instead) == 0
    counting = [*(e for e in events if e not in wrong), *instead]
    with transaction(met) as session:
        compare(session, counting)
        [meter] = [m for m in live_meters(session) if m.meter_id == "count-1"]
        told = audit(session, "berlin", meter, DAYS.start, DAYS.end)
    assert (told.accepted, told.stored, told.amended, told.voided) == (330, 330, 30, 30)
    assert (told.counted, told.uncounted) == (270, 0)


def test_a_day_of_too_many_events_is_refused_and_stays(
    engine: Engine, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correction, "MOST_EVENTS", 2)
    events = [Event("s", str(no), "berlin", "llm", START, {"n": no}) for no in (1, 2, 4)]
    send(engine, *events)
    with pytest.raises(Refused, match="more than 2 events") as refusal:
        void(engine, events[1])
    assert "Credit the difference" in refusal.value.remedy
    assert total(engine) == 7
    assert sql("select count(*) from usage_void") == [(0,)]
    monkeypatch.setattr(correction, "MOST_EVENTS", 3)
    assert void(engine, events[1]) == 1
    assert total(engine) == 5


def test_what_is_void_stays_kept_and_its_name_taken(engine: Engine, sql: Sql) -> None:
    events = [Event("s", str(no), "berlin", "llm", START, {"n": no}) for no in (1, 2, 4)]
    send(engine, *events)
    assert void(engine, events[1]) == 1
    assert total(engine) == 5
    assert send(engine, events[1])["duplicate"] == 1
    assert total(engine) == 5
    assert sql("select count(*) from usage_event") == [(3,)]
    assert sql("select id, reason, by_key from usage_void") == [("2", "wrong", "key")]
    with pytest.raises(Exception, match="append-only"):
        sql("delete from usage_void")


def test_corrections_are_made_all_or_none(engine: Engine, sql: Sql) -> None:
    events = [Event("s", str(no), "berlin", "llm", START, {"n": no}) for no in (1, 2, 4)]
    send(engine, *events)
    stranger = replace(events[0], id="9")
    other = replace(events[0], id="8", data={"n": 16})
    wrong: list[tuple[Sequence[Correction], dict[str, str]]] = [
        ([Correction("s", "1", "r"), Correction("s", "9", "r")], {"corrections.1.id": "no such event"}),
        ([Correction("s", "1", "r"), Correction("s", "1", "r")], {"corrections.1.id": "more than once"}),
        ([Correction("s", "1", "r", events[0])], {"corrections.0.instead.id": "another one"}),
        ([Correction("s", "1", "r", events[1])], {"corrections.0.instead": "duplicate"}),
        (
            [Correction("s", "1", "r", replace(stranger, subject="x"))],
            {"corrections.0.instead.subject": "unknown customer"},
        ),
        (
            [Correction("s", "1", "r", replace(stranger, data={"n": "x"}))],
            {"corrections.0.instead.data.n": "number (meter tokens)"},
        ),
    ]
    for corrections, faults in wrong:
        with pytest.raises(Refused) as caught, transaction(engine) as session:
            correct(session, corrections, "key")
        assert [f.field for f in caught.value.faults] == list(faults)
        assert all(why in caught.value.faults[0].reason for why in faults.values())
    assert total(engine) == 7
    assert sql("select count(*) from usage_void") == [(0,)]
    assert sql("select count(*) from usage_quarantine") == [(0,)]
    assert void(engine, events[0], instead=[other]) == 1
    assert total(engine) == 22
    with pytest.raises(Refused, match="cannot be made") as caught:
        void(engine, events[0])
    assert "otherwise" in caught.value.faults[0].reason


def test_the_same_again_changes_nothing_and_another_content_instead_is_refused(engine: Engine, sql: Sql) -> None:
    sql("insert into customer_alias values ('crm-7', 'berlin')")
    events = [Event("s", str(no), "berlin", "llm", START, {"n": no}) for no in (1, 2)]
    other = replace(events[0], id="8", data={"n": 16})
    send(engine, *events)
    assert void(engine, events[0], instead=[other]) == 1
    assert void(engine, events[0], instead=[replace(other, data={"n": 16})]) == 0
    assert void(engine, events[0], instead=[replace(other, subject="crm-7")]) == 0
    for changed in (
        replace(other, data={"n": 17}),
        replace(other, type="mail"),
        replace(other, subject="york"),
        replace(other, subject="nobody"),
        replace(other, occurred_at=START + timedelta(seconds=1)),
    ):
        with pytest.raises(Refused) as caught:
            void(engine, events[1], events[0], instead=[replace(other, id="9"), changed])
        [fault] = caught.value.faults
        assert fault.field == "corrections.1.instead"
        assert "another content" in fault.reason
    assert (total(engine), sql("select count(*) from usage_void")) == (18, [(1,)])


def test_what_comes_while_events_are_corrected_is_not_lost(met: Engine, threads: ThreadPoolExecutor) -> None:
    """Senders of the same days beside those who count them afresh: totals are the sum of what counts."""
    dice = random.Random(5)
    events = [drawn(dice, no) for no in range(800)]
    with transaction(met) as session:
        receive(session, events[:400])
    batches = [events[start : start + 20] for start in range(400, 800, 20)]
    wrong = [events[start : start + 10] for start in range(0, 200, 10)]

    def sent(some: Sequence[Event]) -> None:
        with transaction(met) as session:
            assert {o.kind for o in receive(session, some)} == {"accepted"}

    waiting = []
    for some, bad in zip(batches, wrong, strict=True):
        waiting += [threads.submit(sent, some), threads.submit(void, met, *bad)]
    for one in waiting:
        one.result(60)
    with transaction(met) as session:
        compare(session, events[200:])


def test_days_of_a_month_that_was_taken_away_are_not_counted_anew(engine: Engine, sql: Sql) -> None:
    """They would be counted from what came late alone."""
    sql("select make_usage_month('2026-03-01'), make_usage_month('2026-04-01')")
    events = [Event("s", str(no), "berlin", "llm", START + timedelta(days=no), {"n": 1}) for no in range(4)]
    send(engine, *events)
    assert sql("select take_usage_month('2026-03-01')") == [(True,)]
    late = Event("s", "late", "berlin", "llm", START, {"n": 5})
    send(engine, late)
    for one in (late, replace(events[3], id="edge", occurred_at=START + timedelta(days=4, hours=1))):
        send(engine, one)
        with pytest.raises(Refused, match="taken away"):
            void(engine, one)
    with transaction(engine) as session, pytest.raises(Refused, match="taken away"):
        [tokens] = [m for m in live_meters(session) if m.meter_id == "tokens"]
        recount(session, tokens, "berlin", zone("Europe/Berlin"), (DAYS.start, DAYS.end), store=True)
    assert total(engine) == 10
