"""Connections: what PostgreSQL is told of who is connected, how many there are, and which of them are still trusted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from models import database
from models.database import Part, cursor, execute_together, open_engine, transaction


def test_a_connection_says_whose_it_is(database_url: str) -> None:
    for name, url in (("perennial api", database_url), ("mine", f"{database_url}?application_name=mine")):
        engine = open_engine(url, pool=1, name="perennial api")
        with transaction(engine) as session:
            assert cursor(session).execute("show application_name").fetchall() == [(name,)]
        engine.dispose()


def test_a_pool_holds_so_many_connections_and_none_more(database_url: str) -> None:
    engine = open_engine(database_url, pool=2)
    with ThreadPoolExecutor(1) as threads, engine.connect():
        with engine.connect():
            third = threads.submit(lambda: engine.connect().close())
            with pytest.raises(TimeoutError):
                third.result(0.3)
        third.result(30)
    engine.dispose()


def cut_off(engine: Engine, database_url: str) -> None:
    """Two connections of the pool rest, and PostgreSQL ends both."""
    with engine.connect() as first, engine.connect() as second:
        pids = [one.exec_driver_sql("select pg_backend_pid()").scalar() for one in (first, second)]
    with psycopg.connect(database_url, autocommit=True) as other:
        for pid in pids:
            assert other.execute("select pg_terminate_backend(%s, 5000)", (pid,)).fetchone() == (True,)


def answers(engine: Engine) -> bool:
    try:
        with transaction(engine) as session:
            return cursor(session).execute("select 1").fetchall() == [(1,)]
    except (psycopg.OperationalError, OperationalError):
        return False


def test_a_connection_that_has_rested_is_asked_whether_it_lives(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(database_url, pool=2)
    cut_off(engine, database_url)
    assert not answers(engine), "used a moment ago, it was not asked"
    assert [answers(engine), answers(engine)].count(False) <= 1, "each fails once"
    assert answers(engine)
    monkeypatch.setattr(database, "SECONDS_TRUSTED", 0)
    cut_off(engine, database_url)
    assert [answers(engine) for _ in range(3)] == [True] * 3
    engine.dispose()


def test_statements_that_are_executed_together(engine: Engine) -> None:
    with transaction(engine) as session:
        cursor(session).execute("create temp table counted (name text primary key, many int) on commit drop")
        part = (
            "insert into counted values (%s, %s) on conflict (name) do update set many = counted.many + excluded.many"
        )
        execute_together(session, [Part(part, ["a", 1])])
        execute_together(session, [Part(part, ["a", 2]), Part(part, ["b", 3]), Part(part, ["c", 4])])
        rows = cursor(session).execute("select * from counted order by name").fetchall()
    assert rows == [("a", 3), ("b", 3), ("c", 4)]


def test_what_a_savepoint_takes_back_began_with_it(engine: Engine) -> None:
    with transaction(engine) as session:
        cursor(session).execute("create temp table kept (no int) on commit drop")
        for no in range(3):
            with session.begin_nested() as savepoint:
                cursor(session).execute("insert into kept values (%s)", (no,))
                if no == 1:
                    savepoint.rollback()
        assert cursor(session).execute("select no from kept order by no").fetchall() == [(0,), (2,)]
