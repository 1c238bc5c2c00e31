"""What does not fit in the environment is said by its name, without any values: some are secret."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Perennial


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
