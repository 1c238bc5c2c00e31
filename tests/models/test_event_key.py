"""Names of events: many are first taken for new, and whether they were, each is entered once and none is lost."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier
from typing import Any

import psycopg
import pytest
from psycopg.errors import LockNotAvailable
from sqlalchemy import Engine

from models import event_key
from models.database import FEW, transaction
from models.event import Event, Named
from models.event_key import take_keys

Sql = Callable[..., list[tuple[Any, ...]]]
MOMENT = datetime(2026, 11, 1, tzinfo=UTC)


def names(ids: Sequence[int], n: int = 1) -> list[Named]:
    return Named.all_of([Event("s", str(id), "berlin", "llm", MOMENT, {"n": n}) for id in ids])


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether all were new, each time that they were taken for it."""
    found: list[bool] = []
    enter = event_key._entered_as_new

    def watched(*given: Any) -> bool:
        found.append(enter(*given))
        return found[-1]

    monkeypatch.setattr(event_key, "_trust", event_key._Trust())
    monkeypatch.setattr(event_key, "_entered_as_new", watched)
    return found


def test_one_known_name_among_many_is_told_and_the_others_are_entered(
    engine: Engine, sql: Sql, tried: list[bool]
) -> None:
    (known,) = names([FEW // 2], n=7)
    with transaction(engine) as session:
        assert take_keys(session, [known]) == {}
    with transaction(engine) as session:
        session.connection().exec_driver_sql("insert into account_root (id) values ('before')")
        assert take_keys(session, names(range(FEW))) == {known.key: known.content}
    assert tried == [False]
    assert sql("select count(*), count(*) filter (where content = %s) from usage_key", [known.content]) == [(FEW, 1)]
    assert sql("select id from account_root where id = 'before'"), "the transaction went on"


def test_names_are_taken_for_new_again_after_a_while(engine: Engine, sql: Sql, tried: list[bool]) -> None:
    def enter(ids: Sequence[int]) -> int:
        with transaction(engine) as session:
            return len(take_keys(session, names(ids)))

    assert enter(range(FEW)) == 0
    assert enter(range(1, FEW + 1)) == FEW - 1
    assert tried == [True, False]
    for round_ in range(1, event_key._Trust.TRANSACTIONS + 1):
        assert enter(range(round_ * FEW + 1, (round_ + 1) * FEW + 1)) == 0
    assert tried == [True, False], "meanwhile each is asked for"
    assert enter(range(50 * FEW, 51 * FEW)) == 0
    assert tried == [True, False, True]
    assert enter(range(10)) == 10
    assert len(tried) == 3, "few are never taken for new"
    assert enter(range(60 * FEW, 61 * FEW)) == 0
    assert tried[3:] == [True], "nor do they say anything of many"


def test_two_who_enter_the_same_names_at_once_share_them(engine: Engine, sql: Sql, tried: list[bool]) -> None:
    """In any order; each name is new to exactly one of them."""
    both, mine = range(FEW), [range(FEW, 2 * FEW), range(2 * FEW, 3 * FEW)]
    together = Barrier(2)

    def enter(own: Sequence[int], seed: int) -> int:
        ids = [*both, *own]
        random.Random(seed).shuffle(ids)
        with transaction(engine) as session:
            session.connection().exec_driver_sql("select 1")
            together.wait()
            return len(ids) - len(take_keys(session, names(ids)))

    with ThreadPoolExecutor(2) as pool:
        new = list(pool.map(enter, mine, (1, 2)))
    assert sorted(new) == [FEW, 2 * FEW]
    assert sorted(tried) == [False, True]
    assert sql("select count(*) from usage_key") == [(3 * FEW,)]


@pytest.mark.parametrize("first", ["", "select 1"])
def test_names_of_a_transaction_that_fails_are_not_known(
    engine: Engine, sql: Sql, tried: list[bool], first: str
) -> None:
    """Be they the first that it does or not."""
    with pytest.raises(ZeroDivisionError), transaction(engine) as session:
        if first:
            session.connection().exec_driver_sql(first)
        assert take_keys(session, names(range(FEW))) == {}
        1 / 0  # noqa: B018
    assert (tried, sql("select count(*) from usage_key")) == ([True], [(0,)])


def test_an_error_that_is_not_about_known_names_is_the_callers(
    engine: Engine, sql: Sql, database_url: str, tried: list[bool]
) -> None:
    with psycopg.connect(database_url) as other:
        other.execute("lock table usage_key in exclusive mode")
        with pytest.raises(LockNotAvailable), transaction(engine) as session:
            session.connection().exec_driver_sql("set local lock_timeout = '50ms'")
            take_keys(session, names(range(FEW)))
    assert (tried, sql("select count(*) from usage_key")) == ([], [(0,)])
