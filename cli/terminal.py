"""What all verbs share: where to print, and a transaction in the database that the settings name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from sqlmodel import Session

from models.database import open_engine, transaction
from settings import Settings

console = Console(highlight=False, emoji=False)
complaints = Console(stderr=True, highlight=False, emoji=False)


def database_url() -> str:
    return Settings().database_url.get_secret_value()


@contextmanager
def one_transaction() -> Iterator[Session]:
    """A transaction on a connection of its own, closed afterwards."""
    engine = open_engine(database_url(), pool=1)
    try:
        with transaction(engine) as session:
            yield session
    finally:
        engine.dispose()
