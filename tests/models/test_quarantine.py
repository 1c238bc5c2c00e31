"""Quarantine: events of times that cannot be right wait and say why, and what comes under their names is told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Engine

from billing.time_bounds import TimeBounds
from models.audit import Audit, audit
from models.catalog import live_meters
from models.database import transaction
from models.event import Event
from models.intake import Outcome, receive, replay
from models.quarantine import quarantined
from tests.models.test_usage import event, total

Sql = Callable[..., list[tuple[Any, ...]]]
BOUNDS = TimeBounds(timedelta(days=400), timedelta(hours=24))
BACK, AHEAD = "lies more than 400 days back", "lies more than 24 hours ahead"
ON_CLOCKS = """
insert into test_clock values ('slow', now() - interval '1000 days', now() - interval '1000 days'),
  ('fast', now() + interval '100 days', now() + interval '100 days');
insert into contract select id, id, 'acme', 'EUR', now(), 14 from customer;
insert into subscription
  select 'sub-' || id, id, id, id, 'acme', case id when 'berlin' then 'slow' else 'fast' end, 'EUR', 'UTC',
         '2026-01-01', 'month', 1, 'active', 1 from customer
"""


def ago(**length: float) -> datetime:
    return datetime.now(UTC) - timedelta(**length)


def sent(engine: Engine, *events: Event, free: tuple[int, ...] = ()) -> list[Outcome]:
    with transaction(engine) as session:
        return receive(session, events, BOUNDS, free)


def kinds(engine: Engine, *events: Event, free: tuple[int, ...] = ()) -> list[str]:
    return [outcome.kind for outcome in sent(engine, *events, free=free)]


def again(engine: Engine, bounds: TimeBounds | None = BOUNDS, limit: int = 1000) -> Counter[str]:
    with transaction(engine) as session:
        return Counter(outcome.kind for outcome in replay(session, None, limit, bounds))


def told(engine: Engine, customer: str = "berlin") -> Audit:
    """Of all days; received is what came, whatever became of it."""
    with transaction(engine) as session:
        meter = next(one for one in live_meters(session) if one.meter_id == "tokens")
        found = audit(session, customer, meter, date(1969, 1, 1), date(2199, 1, 1))
    assert found.received == found.accepted + found.duplicate + found.conflict + found.quarantined + found.discarded
    assert found.stored == found.accepted
    return found


def numbers(engine: Engine, customer: str = "berlin") -> tuple[int, int, int, int]:
    found = told(engine, customer)
    return found.accepted, found.duplicate, found.conflict, found.quarantined


def test_times_out_of_bounds_wait_and_say_why(engine: Engine, sql: Sql) -> None:
    events = [
        event("old", 1, at=ago(days=400, seconds=10)),
        event("just", 2, at=ago(days=399, hours=23)),
        event("now", 4, at=ago()),
        event("soon", 8, at=ago(hours=-23)),
        event("far", 16, at=ago(hours=-24, seconds=-10)),
        event("ancient", 32, at=datetime(1970, 1, 1, tzinfo=UTC)),
    ]
    late = [Outcome("quarantined", BACK, "time"), Outcome("quarantined", AHEAD, "time")]
    outcomes = sent(engine, *events)
    assert [outcomes[0], outcomes[4], outcomes[5]] == [late[0], late[1], late[0]]
    assert [one.kind for one in outcomes[1:4]] == ["accepted"] * 3
    assert (total(engine), numbers(engine)) == (14, (3, 0, 0, 3))
    with transaction(engine) as session:
        found = {one.id: one for one in quarantined(session, 10)}
        assert [one.id for one in quarantined(session, 10, by="subject")] == []
        assert len(quarantined(session, 10, "berlin", "time")) == 3
    assert {name: one.reason for name, one in found.items()} == {"old": BACK, "far": AHEAD, "ancient": BACK}
    assert {(one.field, one.customer_id, one.type) for one in found.values()} == {("time", "berlin", "llm")}
    assert found["old"].time == events[0].occurred_at


def test_out_of_bounds_it_stays_unless_the_time_is_meant(engine: Engine, sql: Sql) -> None:
    old = event(1, 5, at=ago(days=3 * 365))
    assert kinds(engine, old, event(2, 7)) == ["quarantined", "accepted"]
    for _ in range(2):
        assert again(engine) == {"quarantined": 1}
        assert (total(engine), numbers(engine)) == (7, (1, 0, 0, 1))
    assert again(engine, None) == {"accepted": 1}
    assert again(engine, None) == {}
    assert (total(engine), numbers(engine)) == (12, (2, 0, 0, 0))
    assert kinds(engine, old) == ["duplicate"]  # It is known, so its time holds nothing up.
    assert kinds(engine, replace(old, data={"n": 6})) == ["conflict"]
    assert numbers(engine) == (2, 1, 1, 0)


def test_whoever_sends_may_say_that_the_times_are_meant(engine: Engine, sql: Sql) -> None:
    """Only of some of what is stored together."""
    old, other = (event(no, 5, at=ago(days=3 * 365)) for no in (1, 2))
    assert kinds(engine, old, event(3, 7), other, free=(2,)) == ["quarantined", "accepted", "accepted"]
    assert kinds(engine, old, free=(0,)) == ["accepted"]
    assert (total(engine), numbers(engine)) == (17, (3, 0, 0, 1))
    assert again(engine) == {"duplicate": 1}  # It has come meanwhile, so it does not wait any more.
    assert numbers(engine) == (3, 1, 0, 0)


def test_what_comes_again_while_it_waits_is_a_duplicate_or_a_conflict(engine: Engine, sql: Sql) -> None:
    old = event(1, 5, at=ago(days=500))
    other = replace(old, data={"n": 6})
    assert kinds(engine, old, other, old) == ["quarantined", "conflict", "duplicate"]
    assert kinds(engine, other, replace(old, occurred_at=ago(days=600)), old) == ["conflict", "conflict", "duplicate"]
    assert numbers(engine) == (0, 2, 3, 1)
    conflicts = "select customer_id, event -> 'data' ->> 'n' from usage_conflict order by 2"
    assert sql(conflicts) == [("berlin", "5"), ("berlin", "6")]
    assert again(engine, None) == {"accepted": 1}
    assert (total(engine), numbers(engine)) == (5, (1, 2, 3, 0))


def test_of_strangers_it_is_told_apart_and_counted_once_they_are_known(engine: Engine, sql: Sql) -> None:
    new, other = event(1, 5, "crm-7"), event(1, 6, "crm-7")
    old = event(2, 7, "crm-7", ago(days=500))
    assert kinds(engine, new, other, old) == ["quarantined", "conflict", "quarantined"]
    assert kinds(engine, new, other, old, old) == ["duplicate", "conflict", "duplicate", "duplicate"]
    assert sql("select customer_id, event -> 'data' ->> 'n' from usage_conflict") == [(None, "6")]
    assert numbers(engine) == (0, 0, 0, 0)
    sql("insert into customer_alias values ('crm-7', 'berlin')")
    for _ in range(2):
        answer = again(engine)
        assert (total(engine), numbers(engine)) == (5, (1, 3, 2, 1))
    assert answer == {"quarantined": 1}
    assert sql("select customer_id, field, reason from usage_quarantine where id = '2'") == [("berlin", "time", BACK)]
    assert sql("select customer_id from usage_conflict") == [("berlin",)]
    assert again(engine, None) == {"accepted": 1}
    assert (total(engine), numbers(engine)) == (12, (2, 3, 2, 0))


def test_what_was_mended_meanwhile_makes_the_one_that_waits_a_conflict(engine: Engine, sql: Sql) -> None:
    assert kinds(engine, event(1, 5, at=ago(days=500))) == ["quarantined"]
    assert kinds(engine, event(1, 5, at=ago(days=1))) == ["accepted"]
    assert again(engine) == {"conflict": 1}
    assert (total(engine), numbers(engine)) == (5, (1, 0, 1, 0))


def test_a_known_name_under_a_stranger_does_not_wait(engine: Engine, sql: Sql) -> None:
    """It is another event's: the content that counts has another subject, and is told by it."""
    assert kinds(engine, event(1, 5)) == ["accepted"]
    assert kinds(engine, event(1, 5, "typo"), event(2, 5, "typo")) == ["conflict", "quarantined"]
    assert sql("select customer_id, event ->> 'subject' from usage_conflict") == [(None, "typo")]
    assert sql("select id from usage_quarantine") == [("2",)]
    assert kinds(engine, event(3, 5, "crm-8")) == ["quarantined"]
    sql("insert into customer_alias values ('crm-8', 'berlin')")
    assert again(engine) == {"accepted": 1, "quarantined": 1}
    sql("delete from customer_alias")
    assert kinds(engine, event(3, 5, "crm-8")) == ["duplicate"]


def test_a_customer_on_a_test_clock_lives_on_both_clocks(engine: Engine, sql: Sql) -> None:
    far = [ago(days=1300), ago(days=500), ago(days=1), ago(days=-99), ago(days=-102)]

    def which(customer: str) -> list[str]:
        return [kinds(engine, event(f"{customer}{no}{ago()}", 1, customer, at))[0][0] for no, at in enumerate(far)]

    assert which("berlin") == which("york") == list("qqaqq")
    for statement in ON_CLOCKS.split(";\n"):
        sql(statement)
    assert which("berlin") == list("aaaqq")
    assert which("york") == list("qqaaq")
    assert again(engine) == {"accepted": 3, "quarantined": 10}


def test_those_that_stay_do_not_stand_in_the_way(engine: Engine, sql: Sql) -> None:
    assert kinds(engine, *(event(f"a{no}", 1, at=ago(days=500)) for no in range(20))) == ["quarantined"] * 20
    assert kinds(engine, event("z", 9, "crm-7")) == ["quarantined"]
    sql("insert into customer_alias values ('crm-7', 'berlin')")
    assert again(engine, limit=5) == {"accepted": 1, "quarantined": 4}
    assert total(engine) == 9


@pytest.mark.parametrize("subject", ["berlin", "crm-7"])
def test_many_who_send_and_replay_at_once_agree(
    engine: Engine, sql: Sql, threads: ThreadPoolExecutor, subject: str
) -> None:
    events = [event(no, 1, subject, ago(days=500)) for no in range(60)]
    events += [replace(one, data={"n": 2}) for one in events[:10]]
    waiting = [threads.submit(kinds, engine, *events[:60]) for _ in range(5)]
    waiting += [threads.submit(kinds, engine, *reversed(events)) for _ in range(5)]
    answers = Counter(kind for one in waiting for kind in one.result(30))
    assert answers["quarantined"] == 60
    assert answers.total() == 5 * 60 + 5 * 70
    if subject == "crm-7":
        sql("insert into customer_alias values ('crm-7', 'berlin')")
    replays = [threads.submit(again, engine, None) for _ in range(4)]
    replays += [threads.submit(kinds, engine, *events) for _ in range(4)]  # type: ignore[arg-type]
    for one in replays:
        one.result(30)
    again(engine, None)
    found = told(engine)
    assert (found.accepted, found.quarantined, found.received) == (60, 0, 5 * 60 + 5 * 70 + 4 * 70)
