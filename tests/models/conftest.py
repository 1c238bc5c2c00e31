"""Two legal entities, two customers and a way to write plain SQL, for tests of the memory alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

Sql = Callable[..., list[tuple[Any, ...]]]

SETTING = """
insert into legal_entity (id, version, name, country, functional_currency, time_zone, address, email) values
  ('acme', 1, 'Acme GmbH', 'DE', 'EUR', 'Europe/Berlin', '', ''), ('other', 1, 'Other', 'US', 'USD', 'UTC', '', '');
insert into invoice_series (entity_id, kind, prefix)
  values ('acme', 'invoice', 'A-'), ('acme', 'credit_note', 'A-CN-'), ('other', 'invoice', 'O-');
insert into meter (id, name, event_type, quantity_field, unit) values ('tokens', 'Tokens', 'llm', 'n', 'tokens');
insert into account_root (id) values ('berlin'), ('york');
insert into customer (id, version, root_id, name, email, country, time_zone, address, created_at) values
  ('berlin', 1, 'berlin', 'Kunde AG', '', 'DE', 'Europe/Berlin', '', now()),
  ('york', 1, 'york', 'Customer Inc', '', 'US', 'America/New_York', '', now());
"""


@pytest.fixture
def sql(engine: Engine, database_url: str) -> Iterator[Sql]:
    """Runs a statement at once, on a connection of its own, and gives its rows."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(SETTING)

        def run(statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement, parameters or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(12) as pool:
        yield pool
