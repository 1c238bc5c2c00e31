"""Rebuilds: a meter's days counted anew beside what holds, while events come in, and swapped at once."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine

from activities.rebuilding import Rebuilds
from billing.catalog import Filter, Meter
from billing.errors import Refused
from billing.period import zone
from models import rebuild, rebuilding
from models.audit import audit
from models.catalog import live_meters, put_meter
from models.correction import Correction, correct
from models.database import transaction
from models.event import Event, events_of
from models.intake import receive
from models.meter_version import spans, versions
from models.rebuild import Asked, MeterRebuild, ask, decide
from models.recount import recount
from models.usage import events_folded, totals_of, windows_of
from tests.models.test_aggregations import DAYS, METERS, drawn
from tests.models.test_corrections import apart

Sql = Callable[..., list[tuple[Any, ...]]]
NOW = datetime(2026, 4, 10, tzinfo=UTC)
BERLIN = zone("Europe/Berlin")
MIDDLE = date(2026, 3, 30)
CHANGES: dict[str, tuple[Meter, dict[str, object]]] = {
    "nothing": (METERS[0], {}),
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
    send(engine, [replace(e, source="other", type="other") for e in events])
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
    counted = sum(p.events for p in mine)
    assert (told.counted, len(behind), told.accepted) == (counted, counted, len(events))
    assert all(one.meter_id in e.meters and "@" not in " ".join(e.meters) for e in behind)
    assert folded == sum((p.quantity if p.aggregation in ("sum", "count") else p.events) for p in mine)


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_meter_has_the_totals_it_would_have_had(what: str, engine: Engine, sql: Sql) -> None:
    """Before the day it has what the former version counted; and after it also counts what comes as it is now."""
    before, change = CHANGES[what]
    dice = random.Random(what)
    events = apart([drawn(dice, no) for no in range(400)])
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
    send(engine, [replace(e, source="former", type="former") for e in events])
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
