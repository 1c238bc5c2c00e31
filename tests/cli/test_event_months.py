"""A month of events as a file: what lies in its table, also when it was taken away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyarrow import parquet
from sqlalchemy import Engine

from models import event_month
from models.correction import Correction, correct
from models.database import cursor, open_engine, transaction
from models.event import Event, make_months
from models.intake import receive
from tests.cli.conftest import Perennial

EVENTS = 12


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A customer with events in a January that has a table; one of them is void."""
    engine = open_engine(database_url, pool=1)
    with transaction(engine) as session:
        cursor(session).execute("insert into account_root (id) values ('anna')")
        cursor(session).execute(
            "insert into customer (id, version, root_id, name, email, country, time_zone, address, created_at)"
            " values ('anna', 1, 'anna', 'Anna', '', 'DE', 'Europe/Berlin', '', now())"
        )
        make_months(session, datetime(2026, 1, 1, tzinfo=UTC).date(), 1)
        receive(session, [event(no) for no in range(EVENTS)])
        correct(session, [Correction("s", "3", "a test", None)], "me")
    yield engine
    engine.dispose()


def event(no: int) -> Event:
    return Event("s", str(no), "anna", "llm", datetime(2026, 1, 1 + no, 23, 30, tzinfo=UTC), {"n": no, "of": "x"})


@pytest.mark.parametrize("taken_away", [False, True])
def test_all_events_of_a_month_are_in_the_file(
    taken_away: bool, engine: Engine, perennial: Perennial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_month, "ROWS_AT_ONCE", 5)
    if taken_away:
        with transaction(engine) as session:
            cursor(session).execute("select take_usage_month('2026-01-01')")
    file = tmp_path / "january.parquet"
    assert perennial("events", "export-month", "2026-01", file) == (0, f"12 events of 2026-01 are in {file}.\n")
    rows = sorted(parquet.read_table(file).to_pylist(), key=lambda row: int(row["id"]))
    assert [(row["id"], row["occurred_at"], json.loads(row["data"])) for row in rows] == [
        (one.id, one.occurred_at, one.data) for one in map(event, range(EVENTS))
    ]
    assert [row["day"].day for row in rows] == [no + 2 for no in range(EVENTS)]
    assert [row["id"] for row in rows if row["void"]] == ["3"]
    assert {(row["customer_id"], row["type"], row["source"]) for row in rows} == {("anna", "llm", "s")}
    assert [path.name for path in tmp_path.iterdir()] == ["january.parquet"]
    code, said = perennial("events", "export-month", "2026-01", file)
    assert code == 2 and "is there already" in said


@pytest.mark.parametrize("month", ["2026-02", "2026-13", "january"])
def test_a_month_that_is_none_makes_no_file(month: str, engine: Engine, perennial: Perennial, tmp_path: Path) -> None:
    code, said = perennial("events", "export-month", month, tmp_path / "a.parquet")
    assert code == 2 and "month" in said
    assert not list(tmp_path.iterdir())
