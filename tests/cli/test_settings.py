"""What does not fit in the environment is said by its name, without any values: some are secret."""

from __future__ import annotations

import pytest

from settings import Settings
from tests.cli.conftest import Perennial
from worker import ALL_SLOTS


def test_each_variable_that_does_not_fit_is_named(perennial: Perennial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_PROCESSES", "sk_many")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    monkeypatch.setenv("STRIPE_API_KEY", "sk_secret")
    code, said = perennial("migrate")
    assert code == 2
    assert "API_PROCESSES: " in said and "LOG_LEVEL: " in said and "STRIPE_API_KEY" not in said
    assert "sk_" not in said


def test_an_event_is_known_as_long_as_it_may_come(perennial: Perennial, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not known any more must be out of bounds, so that it does not count a second time."""
    monkeypatch.setenv("EVENTS_REMEMBERED_DAYS", "365")
    code, said = perennial("migrate")
    assert code == 2
    assert "EVENTS_REMEMBERED_DAYS: must be at least EVENTS_OLDEST_DAYS, 400" in said
    monkeypatch.setenv("EVENTS_OLDEST_DAYS", "365")
    assert "at least EVENTS_OLDEST_DAYS" not in perennial("next")[1]


def test_a_worker_has_a_connection_for_each_of_its_slots(perennial: Perennial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_POOL", "19")
    code, said = perennial("worker")
    assert code == 2
    assert "DATABASE_POOL is 19, and a worker does 20 things at a time" in said and "Set it to 20 or more" in said
    assert Settings.model_fields["database_pool"].default >= ALL_SLOTS
