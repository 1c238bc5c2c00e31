"""Rebuilds: who decides on them and when, what is refused, and that nothing is left of one that is dropped."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine

from activities.rebuilding import Rebuilds
from billing.catalog import Filter, Meter, Override
from billing.errors import Refused
from billing.plan import Plan, PlanItem
from billing.pricing import Cell, Matrix, PerUnit
from models.catalog import live_meters, publish, put_meter, put_override
from models.database import transaction
from models.event import Event
from models.rebuild import MeterRebuild
from models.recount import recount
from models.usage import events_folded, totals_of
from tests.models.test_aggregations import DAYS
from tests.models.test_rebuild import BERLIN, NOW, asked, carried_out, decided, send, step

Sql = Callable[..., list[tuple[Any, ...]]]


def by_model() -> Plan:
    cells = (Cell(("large",), Decimal(2)), Cell(("small",), Decimal(1)))
    price = Matrix(("model",), cells, Decimal(3))
    return Plan("models", 1, "Models", "EUR", (PlanItem("calls", "Calls", price, basis="meter", meter="calls"),))


def test_decisions_are_made_once_and_in_order(engine: Engine, sql: Sql) -> None:
    asked(engine, "tokens")
    assert asked(engine, "tokens") == "reb-1"
    with pytest.raises(Refused, match="taken"):
        asked(engine, "tokens", date(2026, 1, 1))
    with pytest.raises(Refused, match="counted anew by 'reb-1'"):
        asked(engine, "tokens", id="reb-2")
    with pytest.raises(Refused, match="not compared"):
        decided(engine, "tokens", apply=True)
    with transaction(engine) as session, pytest.raises(Refused, match="counted anew for all customers"):
        [tokens] = [m for m in live_meters(session) if m.meter_id == "tokens"]
        recount(session, tokens, "berlin", BERLIN, (DAYS.start, DAYS.end), store=True)
    carried_out(engine, "tokens")
    for _ in range(2):
        decided(engine, "tokens", apply=True)
    hands = Rebuilds(engine)
    for _ in range(2):
        hands.apply_rebuild("tokens")
    with pytest.raises(Refused, match="applied already"):
        decided(engine, "tokens", apply=False)
    assert sql("select version from meter where id = 'tokens'") == [(1,)]
    for _ in range(2):
        hands.clear_rebuild("tokens")
    with transaction(engine) as session:
        row = session.get_one(MeterRebuild, "reb-1")
        assert row.settled_at and not row.to_do


def test_a_dropped_one_leaves_nothing_at_whatever_stage(engine: Engine, sql: Sql) -> None:
    send(engine, [Event("s", str(n), "berlin", "llm", datetime(2026, 3, 29, tzinfo=UTC), {"n": n}) for n in range(9)])
    kept = "select t::text from {} t order by 1"
    before = [sql(kept.format(table)) for table in ("usage_total", "usage_window", "usage_event", "meter_span")]
    for no in range(4):
        asked(engine, "tokens", id=f"reb-{no}", filters=(Filter("n", ("3",)),))
        for _ in range(no):
            step(engine, "tokens")
        decided(engine, "tokens", apply=False, name=f"reb-{no}")
        assert carried_out(engine, "tokens") == ["drop", "clear"]
        assert before == [
            sql(kept.format(table)) for table in ("usage_total", "usage_window", "usage_event", "meter_span")
        ]
    assert sql("select count(*) from meter_difference") == [(0,)]


def test_what_is_sold_goes_on_fitting(engine: Engine, sql: Sql) -> None:
    with transaction(engine) as session:
        put_meter(session, Meter("calls", "Calls", "llm", "n", dimensions=("model",)))
        publish(session, by_model(), NOW)
    with pytest.raises(Refused) as refusal:
        asked(engine, "calls", dimensions=())
    assert [fault.field for fault in refusal.value.faults] == ["change"]
    assert "version 1 of 'models' would not fit" in refusal.value.faults[0].reason
    asked(engine, "calls", dimensions=("model", "region"))


def test_what_was_agreed_goes_on_fitting_though_it_is_sold_otherwise_by_now(engine: Engine, sql: Sql) -> None:
    """Terms that stand keep their version of an override."""
    item = PlanItem("calls", "Calls", PerUnit(Decimal(1)), basis="meter", meter="calls")
    [by_model_] = by_model().items
    with transaction(engine) as session:
        put_meter(session, Meter("calls", "Calls", "llm", "n", dimensions=("model",)))
        publish(session, Plan("calls", 1, "Calls", "EUR", (item,)), NOW)
        for priced in (by_model_, item):
            put_override(session, Override("own", "berlin", "calls", "EUR", DAYS.start, (priced,)), NOW)
    with pytest.raises(Refused) as refusal:
        asked(engine, "calls", dimensions=())
    [fault] = refusal.value.faults
    assert fault.reason.startswith("version 1 of 'own' would not fit")


@pytest.mark.parametrize(
    "before, change",
    [
        (Meter("level", "Level", "llm", "n", aggregation="weighted_sum", time_unit="hour"), {"time_unit": "day"}),
        (Meter("level", "Level", "llm", "n"), {"carries_over": True}),
    ],
)
def test_what_goes_on_from_day_to_day_is_counted_in_one_way(
    before: Meter, change: dict[str, Any], engine: Engine, sql: Sql
) -> None:
    with transaction(engine) as session:
        put_meter(session, before)
    with pytest.raises(Refused) as refusal:
        asked(engine, "level", **change)
    assert [fault.field for fault in refusal.value.faults] == ["since"]
    send(engine, [Event("s", "1", "berlin", "llm", datetime(2026, 3, 29, tzinfo=UTC), {"n": 3})])
    asked(engine, "level", date(1970, 1, 1), **change)
    carried_out(engine, "level")
    decided(engine, "level", apply=True)
    assert carried_out(engine, "level") == ["apply", "clear"]
    with transaction(engine) as session:
        after = totals_of(session, ["berlin"], date(2026, 4, 1))["berlin"]["level", date.min]
    assert [(p.quantity, p.events) for p in after] == [(3, 1)]


def test_a_month_is_not_taken_away_while_its_days_are_counted_anew(engine: Engine, sql: Sql) -> None:
    sql("select make_usage_month('2026-03-01')")
    send(engine, [Event("s", "1", "berlin", "llm", datetime(2026, 3, 29, tzinfo=UTC), {"n": 3})])
    asked(engine, "tokens", date(2026, 3, 1), date(2026, 4, 1))
    with pytest.raises(Exception, match="counted anew"):
        sql("select take_usage_month('2026-03-01')")
    carried_out(engine, "tokens")
    decided(engine, "tokens", apply=True)
    carried_out(engine, "tokens")
    assert sql("select take_usage_month('2026-03-01')") == [(True,)]
    assert sql("select meter_id, quantity::int, events::int from usage_taken where meter_id <> ''") == [
        ("tokens", 3, 1)
    ]
    with transaction(engine) as session:
        assert events_folded(session, ["berlin"]) == {"berlin tokens": 3}
    with pytest.raises(Refused) as refusal:
        asked(engine, "tokens", date(2026, 3, 1), id="reb-2")
    assert [fault.field for fault in refusal.value.faults] == ["since"]
