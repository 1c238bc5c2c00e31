"""`perennial next`: what is planned, also in a narrow terminal; and that nothing is."""

from __future__ import annotations

import pytest
from rich.console import Console
from sqlalchemy import Engine

from cli import clocks
from models.database import cursor, transaction
from tests.cli.conftest import Perennial

LONG = "subscription/sub_0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a6978"
PLANNED = """
insert into legal_entity (id, version, name, country, functional_currency, time_zone, address, email)
  values ('acme', 1, 'Acme GmbH', 'DE', 'EUR', 'Europe/Berlin', '', '')
"""


def test_that_nothing_is_planned_is_said(perennial: Perennial) -> None:
    assert perennial("next") == (0, "Nothing is planned.\n")


def test_a_narrow_terminal_shows_ids_whole(
    perennial: Perennial, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction(engine) as session:
        cursor(session).execute(PLANNED)
        cursor(session).execute(
            "insert into agenda (subject, cause, due_at, rank, kind, entity_id)"
            " values (%s, 'signed', '2026-03-01T00:00:00Z', 10, 'activate', 'acme')",
            [LONG],
        )
    monkeypatch.setattr(clocks, "console", Console(width=60))
    code, said = perennial("next")
    rows = [line.removeprefix(" ").split("  ") for line in said.splitlines()]
    assert code == 0 and "\N{HORIZONTAL ELLIPSIS}" not in said
    assert LONG in "".join(word.strip() for row in rows for word in row if "/" in word or word.strip() in LONG)
