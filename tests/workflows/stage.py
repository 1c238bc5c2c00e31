"""What the tests of the clock do to a house: sign, look, wait, terminate, compare tables."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import anyio
from sqlalchemy import Engine
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import WorkflowExecutionStatus

from activities.clock import wake
from models.database import cursor, transaction

NEW_YEARS_EVE = "2025-12-30T09:00:00Z"
JANUARY = date(2026, 1, 1)


def at(day: int, month: int = 1, hour: int = 9, year: int = 2026) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


def rows(engine: Engine, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with transaction(engine) as session:
        found = cursor(session).execute(sql, values)
        return found.fetchall() if found.description else []


def one(engine: Engine, sql: str, *values: object) -> Any:
    return rows(engine, sql, *values)[0][0]


def tables(engine: Engine) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    names = rows(engine, "select tablename from pg_tables where schemaname = 'public' order by 1")
    return {name: [text for (text,) in rows(engine, f"select t::text from {name} t order by 1")] for (name,) in names}


def changed(before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, list[str]]:
    """What was added (+) or taken away (-), by table; empty if nothing was."""
    found = {
        name: [f"+ {row}" for row in after[name] if row not in before[name]]
        + [f"- {row}" for row in before[name] if row not in after[name]]
        for name in after
    }
    return {name: difference for name, difference in found.items() if difference}


@dataclass(frozen=True)
class Stage:
    """A house with a cast, and ways to look behind the scenes."""

    house: Any

    async def january(self) -> None:
        """The cast of the month test, on its clock, two days before the year begins."""
        await self.house.cast(NEW_YEARS_EVE, JANUARY)

    async def company(self) -> None:
        """An entity on the wall clock whose books begin this month, and a customer with a card."""
        entity = {"id": "acme", "name": "Acme GmbH", "country": "DE", "functional_currency": "EUR"}
        await self.house.post("/v1/entities", entity)
        await self.house.put("/v1/plans/team", {"name": "Team", "currency": "EUR", "items": [flat("base", "100")]})
        customer = {"id": "cus", "name": "Kunde AG", "email": "k@k.example", "country": "DE", "time_zone": "UTC"}
        await self.house.post("/v1/customers", customer)
        await self.house.put("/v1/customers/cus/payment-method", {"gateway": "pretend", "token": "pm_card_visa"})

    async def sign(self, name: str = "sub", customer: str = "cus", **changes: object) -> None:
        agreement = {"id": name, "customer": customer, "entity": "acme", "plan": "team", "starts_on": "2026-01-01"}
        await self.house.post("/v1/subscriptions", agreement | changes)

    async def invoices(self) -> list[Any]:
        return list(await self.house.get("/v1/invoices"))

    async def tasks(self) -> list[Any]:
        return list(await self.house.get("/v1/tasks"))

    async def answer(self, task: Any, text: str = "done") -> None:
        await self.house.post(f"/v1/tasks/{task['id']}/answer", {"by": "Carla", "answer": text})

    async def details(self, workflow_id: str) -> str:
        """What the Temporal UI shows of a workflow now."""
        handle = self.house.client.get_workflow_handle(workflow_id)
        metadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        return str(metadata.current_details)

    async def status(self, workflow_id: str) -> WorkflowExecutionStatus:
        found = await self.house.client.get_workflow_handle(workflow_id).describe()
        assert found.status is not None
        return found.status

    async def events(self, workflow_id: str) -> int:
        """The length of the present run's history."""
        return int((await self.house.client.get_workflow_handle(workflow_id).describe()).history_length)

    async def until(self, look: Callable[[], Awaitable[Any]], what: str, seconds: float = 30) -> Any:
        """Wait until `look` finds something; fail saying what was waited for."""
        with anyio.move_on_after(seconds):
            while not (found := await look()):
                await anyio.sleep(0.05)
            return found
        raise AssertionError(f"waited {seconds} s in vain for {what}")

    async def tick(self, subject: str) -> None:
        await wake(self.house.client, subject)


def flat(key: str, amount: str) -> dict[str, object]:
    return {"key": key, "name": key.title(), "price": {"kind": "flat", "amount": amount}}
