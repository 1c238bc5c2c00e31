"""Who takes in events of a customer shares a lock with others who do, and keeps off who counts them afresh."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from models.database import transaction
from models.event import Event
from models.intake import receive, stripe_of

Sql = Callable[..., list[tuple[Any, ...]]]


@pytest.mark.parametrize("subjects", [["berlin"], ["berlin", "york"], ["crm-7", "york"], ["crm-7", "nobody"]])
def test_the_stripes_of_all_customers_are_held_until_the_commit(engine: Engine, sql: Sql, subjects: list[str]) -> None:
    """Whether they are called by their ids or by an alias, and whether there are strangers among them."""
    sql("insert into customer_alias values ('crm-7', 'berlin')")
    customers = {"berlin": "berlin", "crm-7": "berlin", "york": "york"}
    events = [Event("s", subject, subject, "job", datetime.now(UTC), {}) for subject in subjects]
    with transaction(engine) as session:
        receive(session, events)
        held = sql(
            "select objid::int, mode from pg_locks where locktype = 'advisory' and granted"
            " and classid = (hashtext('usage')::bigint & 4294967295)::oid"
        )
    stripes = {stripe_of(customers[subject]) for subject in subjects if subject in customers}
    assert sorted(held) == [(stripe, "ShareLock") for stripe in sorted(stripes)]
