"""The demo on an operator's own servers leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from sandbox.postgres import Postgres
from sandbox.process import StartFailed
from sandbox.stack import Stack
from sandbox.temporal import Temporal


def databases(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {name for (name,) in connection.execute("select datname from pg_database")}


def test_a_demo_has_a_database_and_a_namespace_of_its_own(
    tmp_path: Path, postgres: Postgres, temporal: Temporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.url()
    before = databases(url)
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal.address)
    with Stack(tmp_path / "stack", keep=False) as stack:
        [mine] = databases(url) - before
        assert stack.environment["DATABASE_URL"].endswith(f"/{mine}")
        assert stack.environment["TEMPORAL_NAMESPACE"].startswith("perennial-demo-")
        with psycopg.connect(stack.environment["DATABASE_URL"]) as connection:
            assert connection.execute("select count(*) > 30 from tax_rate").fetchone() == (True,)
    assert databases(url) == before


def test_a_server_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:wrong@127.0.0.1:1/nothing")
    with pytest.raises(StartFailed, match="a database of its own on your server"):
        Stack(tmp_path / "stack", keep=False).start()
