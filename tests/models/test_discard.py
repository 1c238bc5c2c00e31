"""What is discarded never counts, whoever sends or replays meanwhile; it is kept, and the audit adds up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace
from sqlalchemy import Engine

from billing.errors import Refused
from models.backlog import backlog
from models.database import FEW, transaction
from models.discard import discard_named, discard_subject
from models.event import Event
from models.intake import receive, replay
from models.quarantine import count_waiting, quarantined
from models.unbilled import of_nobody
from tests.models.test_quarantine import BOUNDS, again, ago, kinds, told
from tests.models.test_usage import event, total

Sql = Callable[..., list[tuple[Any, ...]]]


def named(engine: Engine, *events: Event, reason: str = "test traffic") -> int:
    with transaction(engine) as session:
        return discard_named(session, [(e.source, e.id) for e in events], reason, "key-1")


def of_subject(engine: Engine, subject: str, field: Any = None) -> int:
    with transaction(engine) as session:
        return discard_subject(session, subject, field, "junk", "key-1")


def numbers(engine: Engine) -> tuple[int, int, int, int, int]:
    found = told(engine)
    return found.accepted, found.duplicate, found.conflict, found.quarantined, found.discarded


def test_what_is_discarded_waits_no_more_and_is_kept_with_who_when_and_why(engine: Engine, sql: Sql) -> None:
    old, other = event(1, 5, at=ago(days=500)), event(2, 6, at=ago(days=500))
    kinds(engine, old, other)
    assert named(engine, old) == 1
    with transaction(engine) as session:
        assert [one.id for one in quarantined(session, 10)] == ["2"]
        [gone] = quarantined(session, 10, discarded=True)
        assert (count_waiting(session, None), backlog(session)["quarantine"]) == (1, 1)
        assert [one.events for one in of_nobody(session, "", 10)] == [1]
    assert (gone.id, gone.discarded_by, gone.discarded_because) == ("1", "key-1", "test traffic")
    assert gone.discarded_at is not None
    assert sql("select event -> 'data' ->> 'n' from usage_quarantine where id = '1'") == [("5",)]
    assert again(engine, None) == {"accepted": 1}
    assert (total(engine), numbers(engine)) == (6, (1, 0, 0, 0, 1))


def test_twice_changes_nothing_and_the_first_reason_stands(engine: Engine, sql: Sql) -> None:
    old = event(1, 5, at=ago(days=500))
    kinds(engine, old)
    assert named(engine, old, old) == 1
    before = sql("select * from usage_quarantine")
    assert named(engine, old, reason="another one") == 0
    assert of_subject(engine, "berlin") == 0
    assert sql("select * from usage_quarantine") == before


def test_names_under_which_nothing_waits_are_refused_all_together(engine: Engine, sql: Sql) -> None:
    waits, counts, replayed, both = (event(no, 1, at=ago(days=500)) for no in range(4))
    kinds(engine, counts, free=(0,))
    kinds(engine, replayed)
    again(engine, None)
    kinds(engine, waits, both)
    kinds(engine, both, free=(0,))
    with pytest.raises(Refused, match="cannot be discarded") as caught:
        named(engine, waits, counts, replayed, both, event("nothing", 1))
    assert {fault.field: fault.reason.partition(";")[0] for fault in caught.value.faults} == {
        "events.1.id": "does not wait: it was taken in",
        "events.2.id": "does not wait: it was taken in",
        "events.3.id": "the same came again meanwhile and was taken in",
        "events.4.id": "no event waits under this source and id",
    }
    assert sql("select count(*) from usage_quarantine where discarded_at is not null") == [(0,)]
    assert again(engine, None) == {"accepted": 1, "duplicate": 1}
    for subject in ("berlin", "nobody"):
        with pytest.raises(Refused, match="Nothing waits") as caught:
            of_subject(engine, subject)
        assert caught.value.code == "not_waiting"


def test_of_a_subject_only_what_waits_for_the_field(engine: Engine, sql: Sql) -> None:
    kinds(engine, event(1, 1, "crm-7"), event(2, 2, "crm-7", ago(days=500)), event(3, 4, "crm-8"))
    sql("insert into customer_alias values ('crm-7', 'berlin')")
    assert kinds(engine, event(4, 8, "crm-7", ago(days=500))) == ["quarantined"]
    assert of_subject(engine, "crm-7", "time") == 1
    assert of_subject(engine, "crm-7") == 2
    assert numbers(engine) == (0, 0, 0, 0, 3)
    assert again(engine, None) == {"quarantined": 1}


@pytest.mark.parametrize("whose", ["berlin", "crm-7"])
def test_what_comes_again_never_counts(engine: Engine, sql: Sql, whose: str) -> None:
    """Neither when it would have to wait, nor when its customer is known by then or its time is meant."""
    old = event(1, 5, whose, ago(days=500))
    other = replace(old, data={"n": 6})
    assert kinds(engine, old, old) == ["quarantined", "duplicate"]
    assert named(engine, old) == 1
    assert kinds(engine, old, other) == ["duplicate", "conflict"]
    if whose == "crm-7":
        sql("insert into customer_alias values ('crm-7', 'berlin')")
    assert numbers(engine) == (0, 2, 1, 0, 1)
    assert kinds(engine, old, other, free=(0, 1)) == ["duplicate", "conflict"]
    assert kinds(engine, replace(old, occurred_at=ago(days=1))) == ["conflict"]
    assert (total(engine), numbers(engine)) == (0, (0, 3, 2 + 1, 0, 1))
    assert again(engine, None) == {}


def test_a_wrong_one_that_was_mended_meanwhile_is_discarded_and_the_right_one_counts(engine: Engine, sql: Sql) -> None:
    wrong, right = event(1, 5, "typo"), event(1, 5)
    assert kinds(engine, wrong, right) == ["quarantined", "accepted"]
    assert of_subject(engine, "typo") == 1
    assert kinds(engine, right, wrong) == ["duplicate", "conflict"]
    assert (total(engine), numbers(engine)) == (5, (1, 1, 0, 0, 0))


def test_of_a_subject_those_stay_of_which_the_same_counts(engine: Engine, sql: Sql) -> None:
    old, other = (event(no, 5, at=ago(days=500)) for no in (1, 2))
    kinds(engine, old, other)
    kinds(engine, old, free=(0,))
    assert of_subject(engine, "berlin") == 1
    assert of_subject(engine, "berlin") == 0
    assert again(engine) == {"duplicate": 1}
    assert (total(engine), numbers(engine)) == (5, (1, 1, 0, 0, 1))


def test_of_many_that_are_discarded_those_stay_of_which_the_same_counts(engine: Engine, sql: Sql) -> None:
    """Many names at once are first taken for new (models/event_key.py)."""
    old = [event(no, 5, at=ago(days=500)) for no in range(FEW + 1)]
    kinds(engine, *old)
    kinds(engine, old[7], free=(0,))
    assert of_subject(engine, "berlin") == FEW
    assert sql("select count(*) from usage_key") == [(FEW + 1,)]
    assert again(engine) == {"duplicate": 1}


@pytest.mark.parametrize(
    "change", ["delete from", "discarded_because = 'x'", "event = '{}'", "discarded_at = null", "replayed_at = now()"]
)
def test_the_database_lets_nobody_change_what_was_discarded(engine: Engine, sql: Sql, change: str) -> None:
    old = event(1, 5, at=ago(days=500))
    kinds(engine, old)
    named(engine, old)
    statement = "delete from usage_quarantine" if change == "delete from" else f"update usage_quarantine set {change}"
    with pytest.raises(psycopg.Error, match="stays as it is"):
        sql(statement)


def meet(first: Callable[[], object], second: Callable[[], object], threads: ThreadPoolExecutor) -> object:
    """The second begins while the first has not committed, and waits for it."""
    waiting = threads.submit(second)
    time.sleep(0.5)
    assert not waiting.done()
    first()
    return waiting.result(30)


def test_of_a_discard_and_a_replay_at_once_the_first_has_it(
    engine: Engine, sql: Sql, threads: ThreadPoolExecutor
) -> None:
    one, two = (event(no, 5, at=ago(days=500)) for no in (1, 2))
    kinds(engine, one, two)
    with transaction(engine) as session:
        assert discard_named(session, [("s", "1")], "test", "key-1") == 1
        assert meet(session.commit, lambda: again(engine, None), threads) == {"accepted": 1}
    assert kinds(engine, event(3, 7, at=ago(days=500))) == ["quarantined"]
    with transaction(engine) as session:
        assert [outcome.kind for outcome in replay(session, None, 10)] == ["accepted"]
        with pytest.raises(Refused, match="cannot be discarded"):
            meet(session.commit, lambda: named(engine, event(3, 7)), threads)
    assert (total(engine), numbers(engine)) == (12, (2, 0, 0, 0, 1))


def test_of_a_discard_and_the_same_event_at_once_the_first_has_it(
    engine: Engine, sql: Sql, threads: ThreadPoolExecutor
) -> None:
    one, two, three = (event(no, 5, at=ago(days=500)) for no in (1, 2, 3))
    kinds(engine, one, two, three)
    with transaction(engine) as session:
        assert discard_subject(session, "berlin", None, "test", "key-1") == 3
        assert meet(session.commit, lambda: kinds(engine, one, free=(0,)), threads) == ["duplicate"]
    assert kinds(engine, four := event(4, 7, at=ago(days=500))) == ["quarantined"]
    with transaction(engine) as session:
        assert [outcome.kind for outcome in receive(session, [four], BOUNDS, (0,))] == ["accepted"]
        assert meet(session.commit, lambda: of_subject(engine, "berlin"), threads) == 0
    assert again(engine) == {"duplicate": 1}
    assert (total(engine), numbers(engine)) == (7, (1, 2, 0, 0, 3))


def test_many_who_send_replay_and_discard_at_once_agree(engine: Engine, sql: Sql, threads: ThreadPoolExecutor) -> None:
    events = [event(no, 1, at=ago(days=500)) for no in range(60)]
    assert kinds(engine, *events) == ["quarantined"] * 60
    rivals = [
        threads.submit(work, engine)
        for _ in range(3)
        for work in (
            lambda engine: of_subject(engine, "berlin"),
            lambda engine: again(engine, None, limit=20),
            lambda engine: kinds(engine, *events[::-1]),
            lambda engine: kinds(engine, *events[:7], free=tuple(range(7))),
        )
    ]
    outcomes: Counter[str] = Counter()
    for one in rivals:
        try:
            one.result(30)
        except Refused as refused:
            outcomes[refused.code] += 1
    assert set(outcomes) <= {"not_waiting"}
    again(engine, None)
    found = told(engine)
    assert (found.accepted + found.discarded, found.quarantined) == (60, 0)
    assert found.received == 60 + 3 * 60 + 3 * 7
    twice = (
        "select count(*) from usage_event e join usage_quarantine q using (source, id) where discarded_at is not null"
    )
    assert sql(twice) == [(0,)]
