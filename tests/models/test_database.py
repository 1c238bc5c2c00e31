"""What PostgreSQL is told of who is connected."""

from __future__ import annotations

from models.database import cursor, open_engine, transaction


def test_a_connection_says_whose_it_is(database_url: str) -> None:
    for name, url in (("perennial api", database_url), ("mine", f"{database_url}?application_name=mine")):
        engine = open_engine(url, pool=1, name="perennial api")
        with transaction(engine) as session:
            assert cursor(session).execute("show application_name").fetchall() == [(name,)]
        engine.dispose()
