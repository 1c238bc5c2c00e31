"""Rebuilds: a meter's days counted anew beside what holds, while events come in, and swapped at once."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from time import sleep
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy import Engine

from activities.rebuilding import Rebuilds
from billing.catalog import Filter, Meter
from billing.errors import Refused
from billing.period import zone
from models import rebuild, rebuilding, usage
from models.audit import audit
from models.catalog import live_meters, put_meter
from models.correction import Correction, correct
from models.database import transaction
from models.event import Event, Named, digest_of, events_of
from models.intake import receive
from models.meter_version import counting, spans, versions
from models.rebuild import Asked, ask, decide
from models.recount import recount
from models.usage import events_folded, totals_of, windows_of
from tests.models.test_aggregations import DAYS, METERS, drawn

Sql = Callable[..., list[tuple[Any, ...]]]
NOW = datetime(2026, 4, 10, tzinfo=UTC)
BERLIN = zone("Europe/Berlin")
MIDDLE = date(2026, 3, 30)
LEVEL = Meter("level", "Level", "job", "n", aggregation="weighted_sum", time_unit="hour")
CHANGES: dict[str, tuple[Meter, dict[str, object]]] = {
    "nothing": (METERS[0], {}),
    "nothing of a level": (LEVEL, {}),
    "sum to max": (METERS[0], {"aggregation": "max"}),
    "max to sum": (next(m for m in METERS if m.aggregation == "max"), {"aggregation": "sum"}),
    "sum to latest": (METERS[0], {"aggregation": "latest"}),
    "sum to percentile": (METERS[0], {"aggregation": "percentile", "percent": Decimal(50)}),
    "sum to unique": (METERS[0], {"aggregation": "unique"}),
    "other field": (METERS[0], {"aggregation": "count", "quantity_field": ""}),
    "a filter": (METERS[0], {"filters": (Filter("region", ("eu", "3")),)}),
    "no filter": (next(m for m in METERS if m.filters), {"filters": ()}),
    "dimensions": (METERS[0], {"dimensions": ("region",)}),
    "per event": (METERS[0], {"per_event": True}),
    "resolution": (METERS[0], {"resolution": "minute"}),
}


def asked(engine: Engine, meter_id: str, since: date = DAYS.start, until: date | None = None, **more: Any) -> str:
    name = more.pop("id", "reb-1")
    with transaction(engine) as session:
        return ask(session, Asked(name, meter_id, since, until, more, "key"), NOW).id


def step(engine: Engine, meter_id: str) -> str:
    """One piece of what is to be done; what was done."""
    hands = Rebuilds(engine)
    do = {
        "open": hands.open_rebuild,
        "count": hands.count_rebuild,
        "compare": hands.compare_rebuild,
        "apply": hands.apply_rebuild,
        "drop": hands.drop_rebuild,
        "clear": hands.clear_rebuild,
    }
    to_do = hands.look_at_rebuild(meter_id).to_do
    if to_do:
        do[to_do](meter_id)
    return to_do


def carried_out(engine: Engine, meter_id: str) -> list[str]:
    """All that can be done now."""
    done: list[str] = []
    while what := step(engine, meter_id):
        done.append(what)
    return done


def decided(engine: Engine, meter_id: str, *, apply: bool, name: str = "reb-1") -> None:
    with transaction(engine) as session:
        decide(session, rebuild.rebuild(session, meter_id, name, locked=True), apply=apply, key="key", at=NOW)


def send(engine: Engine, events: Sequence[Event], at_once: int = 40) -> None:
    for start in range(0, len(events), at_once):
        with transaction(engine) as session:
            receive(session, events[start : start + at_once])


def held(engine: Engine, meter_id: str, customer: str = "berlin") -> dict[date, object]:
    with transaction(engine) as session:
        found = totals_of(session, [customer])[customer]
    return {day: sorted(map(str, some)) for (name, day), some in found.items() if name == meter_id}


def by_window(engine: Engine, one: Meter) -> list[object]:
    with transaction(engine) as session:
        return sorted(map(str, windows_of(session, "berlin", one, BERLIN, DAYS.start, DAYS.end, short=True)))


def fresh(engine: Engine, one: Meter, events: Sequence[Event]) -> tuple[dict[date, object], list[object]]:
    """What a meter that had always counted so would have: under another name, from the same events sent anew."""
    other = replace(one, meter_id="other", event_type="other")
    with transaction(engine) as session:
        put_meter(session, other)
    send(engine, [structs.replace(e, source="other", type="other") for e in events])
    return held(engine, "other"), by_window(engine, other)


def proved(engine: Engine, one: Meter, events: Sequence[Event]) -> None:
    """The tie-out of totals with events, the audit, and the events behind the total say the same."""
    with transaction(engine) as session:
        totals = totals_of(session, ["berlin"])["berlin"]
        mine = [p for (name, _), some in totals.items() if name == one.meter_id for p in some]
        [now] = [m for m in live_meters(session) if m.meter_id == one.meter_id]
        told = audit(session, "berlin", now, DAYS.start, DAYS.end)
        behind = events_of(session, "berlin", (DAYS.start, DAYS.end), one.meter_id, None, 10_000)
        folded = events_folded(session, ["berlin"]).get(f"berlin {one.meter_id}", 0)
        sets = usage.folded(session, ["berlin"])["berlin"].sets
    counted = sum(p.events for p in mine)
    assert (told.counted, len(behind), told.accepted) == (counted, counted, len(events))
    assert all(one.meter_id in e.meters and "@" not in " ".join(e.meters) for e in behind)
    names = {e.id for e in behind}
    signed = sum(its.digest for (name, _), its in sets.items() if name == one.meter_id)
    assert signed == sum(digest_of(n.key, n.content) for n in map(Named.of, events) if n.event.id in names)
    assert folded == sum((p.quantity if p.aggregation in ("sum", "count", "weighted_sum") else p.events) for p in mine)


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_meter_has_the_totals_it_would_have_had(what: str, engine: Engine, sql: Sql) -> None:
    """Before the day it has what the former version counted; and after it also counts what comes as it is now."""
    before, change = CHANGES[what]
    dice = random.Random(what)
    events = [drawn(dice, no) for no in range(400)]
    with transaction(engine) as session:
        put_meter(session, before)
    send(engine, events[:150])
    former = held(engine, before.meter_id)
    asked(engine, before.meter_id, MIDDLE, **change)
    assert step(engine, before.meter_id) == "open"
    send(engine, events[150:250])
    assert carried_out(engine, before.meter_id) == ["count", "compare"]
    send(engine, events[250:300])
    proved(engine, before, events[:300])
    decided(engine, before.meter_id, apply=True)
    assert step(engine, before.meter_id) == "apply"
    send(engine, events[300:350])
    proved(engine, before, events[:350])
    assert carried_out(engine, before.meter_id) == ["clear"]
    send(engine, events[350:])

    after = replace(before, **change)  # type: ignore[arg-type]
    proved(engine, after, events)
    found, windows = held(engine, before.meter_id), by_window(engine, before)
    with transaction(engine) as session:
        assert [m for m in live_meters(session) if m.meter_id == before.meter_id] == [after]
        assert [(row.version, row.since) for row, _ in versions(session, before.meter_id)] == [
            (1, date.min),
            *([(2, MIDDLE)] if change else []),
        ]
    expected, in_windows = fresh(engine, after, events)
    assert {day: some for day, some in found.items() if day >= MIDDLE} == {
        day: some for day, some in expected.items() if day >= MIDDLE
    }
    old, _ = fresh_as(engine, before, events)
    assert {day: some for day, some in found.items() if day < MIDDLE} == {
        day: some for day, some in old.items() if day < MIDDLE
    }
    assert former.keys() <= found.keys()
    assert windows[-1:] == in_windows[-1:]
    nothing_left(sql)


def fresh_as(engine: Engine, one: Meter, events: Sequence[Event]) -> tuple[dict[date, object], list[object]]:
    other = replace(one, meter_id="former", event_type="former")
    with transaction(engine) as session:
        put_meter(session, other)
    send(engine, [structs.replace(e, source="former", type="former") for e in events])
    return held(engine, "former"), by_window(engine, other)


def nothing_left(sql: Sql) -> None:
    """No totals that no day holds, and only plain marks."""
    for table, day in (
        ("usage_total", "t.day"),
        ("usage_window", "(t.starts_at at time zone c.time_zone)::date"),
    ):
        assert (
            sql(
                f"select t.meter_id, count(*) from {table} t join customer c on c.id = t.customer_id where not exists"
                f" (select from meter_span n where n.series = t.meter_id and {day} >= n.since and {day} < n.until)"
                " group by 1"
            )
            == []
        )
    assert sql("select count(*) from usage_event where array_to_string(meters, ' ') like '%@%'") == [(0,)]


@pytest.mark.parametrize("change", [{}, {"aggregation": "max"}, {"filters": (Filter("region", ("eu", "3")),)}])
def test_events_that_come_all_the_while_are_in_both(
    change: dict[str, object], engine: Engine, sql: Sql, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Senders go on in threads from before it is opened until after it is settled; corrections are made meanwhile."""
    monkeypatch.setattr(rebuilding, "EVENTS_AT_ONCE", 15)
    dice = random.Random(7)
    events = [drawn(dice, no) for no in range(1800)]
    wrong = dice.sample(events[:300], 40)
    before = METERS[0]
    send(
        engine, events[:300]
    )  # Of nobody: the meter is made after them, so that they are counted by the rebuild alone.
    with transaction(engine) as session:
        put_meter(session, before)
    left, allowed = list(events[300:]), threading.Semaphore(0)

    def sending() -> None:
        while left:
            allowed.acquire(timeout=60)
            some = [left.pop() for _ in range(min(len(left), 6))]
            with transaction(engine) as session:
                receive(session, some)

    def correcting() -> None:
        for no in range(0, len(wrong), 4):
            with transaction(engine) as session:
                correct(session, [Correction("s", e.id, "wrong") for e in wrong[no : no + 4]], "key")

    asked(engine, before.meter_id, **change)
    busy = [threads.submit(sending) for _ in range(4)] + [threads.submit(correcting)]
    done, waiting = [], []
    allowed.release(60)
    while (what := step(engine, before.meter_id)) or not all(one.done() for one in busy):
        done.append(what)
        waiting.append(len(left))
        allowed.release(60)  # Of 250 batches, so that some come meanwhile, however long a step takes.
        sleep(0.1 if what else 0)
        if what == "compare" or (not what and "apply" not in done and "compare" in done):
            decided(engine, before.meter_id, apply=True)
    for one in busy:
        one.result(60)
    assert carried_out(engine, before.meter_id) == []
    assert [one for one in done if one] == ["open", "count", "compare", "apply", "clear"]
    assert sorted(set(waiting[:4]), reverse=True) == waiting[:4], "nothing came between the steps"
    after = replace(before, **change)  # type: ignore[arg-type]
    still = [e for e in events if e not in wrong]
    expected, _ = fresh(engine, after, still)
    assert held(engine, before.meter_id) == expected
    nothing_left(sql)
    with transaction(engine) as session:
        recounted = recount(session, after, "berlin", BERLIN, (DAYS.start, DAYS.end), store=True)
    assert recounted == []
    assert held(engine, before.meter_id) == expected


def test_a_correction_in_the_middle_of_counting_is_in_what_is_prepared(engine: Engine, sql: Sql) -> None:
    """Of a day that is counted, of one that is not yet, and of an event that came after it was opened."""
    days = [datetime(2026, 3, day, 12, tzinfo=UTC) for day in (28, 29, 30)]
    events = [Event("s", f"{at.day}-{n}", "berlin", "llm", at, {"n": n}) for at in days for n in (1, 2, 4)]
    send(engine, events)
    asked(engine, "tokens", aggregation="max")
    assert step(engine, "tokens") == "open"
    late = [Event("s", f"late-{at.day}", "berlin", "llm", at, {"n": 8}) for at in days]
    send(engine, late)
    with transaction(engine) as session:
        session.connection()
        rebuilding.EVENTS_AT_ONCE, most = 3, rebuilding.EVENTS_AT_ONCE
        try:
            assert rebuilding.count_next(session, "tokens")
        finally:
            rebuilding.EVENTS_AT_ONCE = most
    wrong = [*late, *(e for e in events if e.data["n"] == 4)]
    instead = Event("s", "instead", "berlin", "llm", days[1], {"n": 3})
    with transaction(engine) as session:
        correct(session, [Correction("s", e.id, "wrong", instead if e is wrong[0] else None) for e in wrong], "key")
    assert carried_out(engine, "tokens") == ["count", "compare"]
    assert sql("select day::text, before::int, after::int from meter_difference order by 1") == [
        ("2026-03-28", 3, 2),
        ("2026-03-29", 6, 3),
        ("2026-03-30", 3, 2),
    ]
    decided(engine, "tokens", apply=True)
    assert carried_out(engine, "tokens") == ["apply", "clear"]
    nothing_left(sql)
    assert sql("select sum(quantity)::int, sum(events)::int from usage_total") == [(7, 7)]


def test_days_between_others_are_counted_anew_and_then_others_again(engine: Engine, sql: Sql) -> None:
    """Backfills of ranges that overlap, and a change from the middle of one: each day has one series that holds it."""
    events = [drawn(random.Random(5), no) for no in range(200)]
    with transaction(engine) as session:
        put_meter(session, METERS[0])
    send(engine, events)
    expected = held(engine, "sum-0")
    for no, (since, until) in enumerate([(29, 31), (30, 31), (28, 30)]):
        asked(engine, "sum-0", date(2026, 3, since), date(2026, 3, until), id=f"reb-{no}")
        assert carried_out(engine, "sum-0") == ["open", "count", "compare"]
        assert sql("select count(*) from meter_difference") == [(0,)]
        decided(engine, "sum-0", apply=True, name=f"reb-{no}")
        assert carried_out(engine, "sum-0") == ["apply", "clear"]
        assert held(engine, "sum-0") == expected
        proved(engine, METERS[0], events)
    with transaction(engine) as session:
        assert [(s.since.day, s.series) for s in spans(session, "sum-0")] == [
            (1, "sum-0"),
            (28, "sum-0@3"),
            (30, "sum-0@2"),
            (31, "sum-0"),
        ]
    asked(engine, "sum-0", date(2026, 3, 29), id="reb-4", aggregation="max")
    carried_out(engine, "sum-0")
    decided(engine, "sum-0", apply=True, name="reb-4")
    carried_out(engine, "sum-0")
    nothing_left(sql)
    with pytest.raises(Refused) as refusal:
        asked(engine, "sum-0", date(2026, 3, 28), date(2026, 3, 31), id="reb-5")
    assert [fault.field for fault in refusal.value.faults] == ["until"]
    more = [structs.replace(e, id=f"more-{e.id}") for e in events]
    send(engine, more)
    changed = replace(METERS[0], aggregation="max")
    both = [*events, *more]
    expected, _ = fresh(engine, changed, both)
    former, _ = fresh_as(engine, METERS[0], both)
    found = held(engine, "sum-0")
    assert found == {day: (expected if day >= date(2026, 3, 29) else former)[day] for day in former}


def test_days_of_a_coarser_version_are_kept_by_its_windows(engine: Engine, sql: Sql) -> None:
    asked(engine, "tokens", MIDDLE, resolution="minute")
    carried_out(engine, "tokens")
    decided(engine, "tokens", apply=True)
    carried_out(engine, "tokens")
    with transaction(engine) as session:
        mine = counting(session).holding("tokens")
    assert mine.kept_by(MIDDLE, DAYS.end) == "minute"
    assert mine.kept_by(DAYS.start, DAYS.end) == "hour"
    assert mine.kept_by(DAYS.start, MIDDLE) == "hour"
