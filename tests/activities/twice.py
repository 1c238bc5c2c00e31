"""Calling an activity as its worker would, twice: the second time answers the same and changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from temporalio.testing import ActivityEnvironment

from tests.activities.company import Company

Tables = dict[str, list[str]]


def tables(company: Company) -> Tables:
    """Every row of every table, as text."""
    names = company.sql("select tablename from pg_tables where schemaname = 'public' order by 1")
    return {name: [text for (text,) in company.sql(f"select t::text from {name} t order by 1")] for (name,) in names}


def twice(company: Company, act: Callable[..., Any], *command: object) -> Any:
    first = ActivityEnvironment().run(act, *command)
    before = tables(company)
    again = ActivityEnvironment().run(act, *command)
    assert again == first
    changed = {name: rows for name, rows in tables(company).items() if rows != before[name]}
    assert not changed, changed
    return first


class Slow:
    """A neighbour's verb that does not answer before the activity's heart has beaten."""

    def __init__(self, really: Callable[..., Any]) -> None:
        self.really = really
        self.beaten = threading.Event()

    def __call__(self, *args: Any) -> Any:
        assert self.beaten.wait(20), "no heartbeat while the neighbour was slow: Temporal would give the activity up"
        return self.really(*args)

    def run(self, act: Callable[..., Any], *command: object) -> Any:
        environment = ActivityEnvironment()
        environment.on_heartbeat = lambda *details: self.beaten.set()
        return environment.run(act, *command)
