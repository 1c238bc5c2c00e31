"""Random lives of meters that are rebuilt, several at once, while everything else that touches totals goes on."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy import Engine

from billing.catalog import Filter, Meter
from billing.errors import Refused
from billing.folding import Clocks, Folding, portion_of
from billing.period import zone
from models import rebuilding
from models.audit import audit
from models.catalog import put_meter
from models.correction import Correction, correct
from models.customer import CustomerAlias
from models.database import transaction
from models.event import Event, events_of
from models.intake import receive, replay
from models.meter_version import meter as newest
from models.meter_version import spans, versions
from models.rebuild import open_of
from models.recount import recount
from models.usage import events_folded, folded, totals_folded, totals_of
from tests.models.test_aggregations import DAYS, drawn
from tests.models.test_rebuild import asked, decided, nothing_left, step
from tests.models.test_slots import taken

Sql = Callable[..., list[tuple[Any, ...]]]
METERS = (
    Meter("sum", "Sum", "job", "n"),
    Meter("biggest", "Biggest", "job", "n", aggregation="max"),
    Meter("seats", "Seats", "job", "n", carries_over=True, resolution="minute"),
)
CHANGES: tuple[Mapping[str, object], ...] = (
    {},
    {},
    {"filters": (Filter("region", ("eu", "3")),)},
    {"filters": (Filter("ok", ("false",), without=True),)},
    {"filters": ()},
    {"dimensions": ("region",)},
    {"dimensions": ()},
    {"aggregation": "latest"},
    {"aggregation": "sum"},
    {"resolution": "minute"},
)
ZONES = {"berlin": "Europe/Berlin", "york": "America/New_York", "kunde": "Europe/Berlin"}
OF = {"berlin": "berlin", "york": "york", "kunde": "berlin"}


class Life:
    """What was done, in memory."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine, self.dice = engine, random.Random(seed)
        self.sent: dict[str, Event] = {}
        self.void: set[str] = set()
        self.no = self.asked = 0
        self.known = False

    def send(self) -> None:
        some = []
        for _ in range(self.dice.randint(1, 12)):
            self.no += 1
            some.append(structs.replace(drawn(self.dice, self.no), subject=self.dice.choice([*ZONES])))
        with transaction(self.engine) as session:
            receive(session, some)
        self.sent |= {e.id: e for e in some}

    def correct(self) -> None:
        mine = [e for e in self.sent.values() if e.id not in self.void and (self.known or e.subject != "kunde")]
        wrong = self.dice.sample(mine, min(3, len(mine)))
        with transaction(self.engine) as session:
            correct(session, [Correction("s", e.id, "wrong") for e in wrong], "key")
        self.void |= {e.id for e in wrong}

    def become_known(self) -> None:
        with transaction(self.engine) as session:
            if not self.known:
                session.add(CustomerAlias(alias="kunde", customer_id="berlin"))
                session.flush()
            replay(session, None, 500)
        self.known = True

    def go_on(self) -> None:
        step(self.engine, self.dice.choice(METERS).meter_id)

    def ask(self) -> None:
        meter = self.dice.choice(METERS).meter_id
        change = self.dice.choice(CHANGES)
        since = DAYS.start + timedelta(days=self.dice.randint(-1, 4))
        until = None if change or self.dice.random() < 0.3 else since + timedelta(days=self.dice.randint(1, 3))
        with transaction(self.engine) as session:
            if change and newest(session, meter).carries:
                since = date(1970, 1, 1)
        self.asked += 1
        try:
            asked(self.engine, meter, since, until, id=f"reb-{self.asked}", **change)
        except Refused as refusal:
            assert refusal.code in ("conflict", "invalid_rebuild")

    def decide(self) -> None:
        meter = self.dice.choice(METERS).meter_id
        with transaction(self.engine) as session:
            row = open_of(session, meter)
            name = row.id if row else ""
        if name:
            try:
                decided(self.engine, meter, apply=self.dice.random() < 0.8, name=name)
            except Refused as refusal:
                assert refusal.code in ("conflict", "not_compared")

    def recount(self) -> None:
        name, customer = self.dice.choice(METERS).meter_id, self.dice.choice(["berlin", "york"])
        try:
            with transaction(self.engine) as session:
                found = recount(
                    session, newest(session, name), customer, zone(ZONES[customer]), (DAYS.start, DAYS.end), store=True
                )
            assert found == []
        except Refused as refusal:
            assert refusal.code == "conflict"

    def counts(self) -> None:
        """Totals and windows of now are what all versions make of their days, and every proof says the same."""
        for customer in ("berlin", "york"):
            mine = [
                e
                for e in self.sent.values()
                if OF[e.subject] == customer and e.id not in self.void and (self.known or e.subject != "kunde")
            ]
            where = zone(ZONES[customer])
            for one in METERS:
                with transaction(self.engine) as session:
                    by_version = {row.version: how for row, how in versions(session, one.meter_id)}
                    held = spans(session, one.meter_id)
                    now = newest(session, one.meter_id)
                    found = totals_of(session, [customer])[customer]
                    behind = {
                        e.id
                        for e in events_of(session, customer, (date(2026, 3, 20), DAYS.end), one.meter_id, None, 9999)
                    }
                    sets = folded(session, [customer])[customer].sets
                    told = audit(session, customer, now, date(2026, 3, 1), date(2026, 5, 1))
                expected: dict[date, list[str]] = {}
                counted: set[str] = set()
                for span in held:
                    how = by_version[span.version]
                    folding = Folding([how], Clocks(), {how.meter_id: [(span.since, span.until)]})
                    for e in mine:
                        if folding.add(customer, where, e.type, e.occurred_at, e.data)[1]:
                            counted.add(e.id)
                    for (_, _, day, kept, each), total in folding.days().items():
                        apart = each if how.per_event else None
                        portion = portion_of(how, where.key, kept, apart, total)
                        expected.setdefault(day, []).append(str(portion))
                assert {d: sorted(map(str, some)) for (n, d), some in found.items() if n == one.meter_id and some} == {
                    d: sorted(some) for d, some in expected.items()
                }
                assert behind == counted
                assert told.counted == len(counted) == sum(s.events for (n, _), s in sets.items() if n == one.meter_id)
                assert told.uncounted == len(mine) - len(counted)
        with transaction(self.engine) as session:
            assert totals_folded(session, ["berlin", "york"]) == events_folded(session, ["berlin", "york"])


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_each_day_is_counted_by_its_version(
    seed: int, engine: Engine, database_url: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "EVENTS_AT_ONCE", 12)
    with transaction(engine) as session:
        for one in METERS:
            put_meter(session, one)
    life, busy = Life(engine, seed), random.Random(seed)
    todo = [life.send] * 6 + [life.go_on] * 12 + [life.ask] * 3 + [life.decide] * 4
    todo += [life.correct, life.recount]
    for no in range(110):
        if no == 60:
            life.become_known()
        with taken(database_url, busy.sample(range(3), busy.randint(0, 3))):
            life.dice.choice(todo)()
        if no % 10 == 9:
            life.counts()
    for one in METERS:
        while step(engine, one.meter_id):
            pass
        with transaction(engine) as session:
            row = open_of(session, one.meter_id)
        if row:
            decided(engine, one.meter_id, apply=True, name=row.id)
            while step(engine, one.meter_id):
                pass
    life.counts()
    assert sql("select count(*) from meter_rebuild where applied_at is not null")[0][0] > 2
    nothing_left(sql)
