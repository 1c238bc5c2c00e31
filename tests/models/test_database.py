"""What PostgreSQL is told of who is connected, and how many there are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from models.database import cursor, open_engine, transaction


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
