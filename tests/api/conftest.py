"""The house once for all tests of a module, so that hundreds of requests need one start; and a few words for asking."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import date
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from models.api_key import create_key
from models.database import cursor, open_engine, transaction
from sandbox.postgres import Postgres
from sandbox.temporal import Temporal
from tests.conftest import House, opened

START = "2025-12-30T09:00:00Z"
MONTH = date(2026, 1, 1)


class Front:
    """The house as its front door sees it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.api = house.api
        self.get, self.post, self.put, self.advance = house.get, house.post, house.put, house.advance

    async def refused(self, method: str, path: str, body: Any = None, *, status: int, code: str = "") -> dict[str, Any]:
        """Ask, and be refused with a whole problem document; its faults by field under `fields`."""
        raw = {"content": body} if isinstance(body, bytes) else {} if body is None else {"json": body}
        headers = {"content-type": "application/json"} if isinstance(body, bytes) else {}
        return problem(await self.api.request(method, path, headers=headers, **raw), status, code)

    def key(self, *scopes: str) -> str:
        with transaction(self.house.engine) as session:
            return create_key(session, "tests", list(scopes))

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with transaction(self.house.engine) as session:
            return cursor(session).execute(statement, parameters or None).fetchall()  # type: ignore[arg-type]

    async def customer(self, name: str = "") -> str:
        """A new customer, on no plan yet."""
        customer_id = name or f"cus-{secrets.token_hex(4)}"
        await self.post(
            "/v1/customers",
            {"id": customer_id, "name": "Kunde", "email": "k@k.example", "country": "DE", "time_zone": "Europe/Berlin"},
        )
        return customer_id

    async def subscription(self, customer_id: str = "", **agreed: Any) -> str:
        """A new customer's subscription of the plan `team`, from 1 January 2026."""
        made = {
            "id": f"sub-{secrets.token_hex(4)}",
            "customer": customer_id or await self.customer(),
            "entity": "acme",
            "plan": "team",
            "starts_on": "2026-01-01",
            **agreed,
        }
        return str((await self.post("/v1/subscriptions", made))["id"])


LIBRARIES = re.compile(
    "Input|String|Field|Value|Object|Expected|Extra|Unexpected|Decimal|List|Tuple|Dictionary|Unable|Datetimes?|Invalid"
)
"""How pydantic and msgspec begin; our own reasons begin with a small letter, or with what was sent."""


def problem(response: httpx.Response, status: int, code: str = "") -> dict[str, Any]:
    """The problem document of a refusal, proved to be whole."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:500]}"
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert found["status"] == status
    assert found["title"] and found["detail"] and found["code"]
    assert found["remedy"], found
    assert all(set(e) == {"field", "reason"} and e["field"] and e["reason"] for e in found["errors"])
    assert not [e for e in found["errors"] if LIBRARIES.match(e["reason"])], found["errors"]
    if code:
        assert found["code"] == code, found
    return {**found, "fields": {e["field"]: e["reason"] for e in found["errors"]}}


@pytest.fixture(scope="module")
def module_engine(postgres: Postgres, template: str) -> Iterator[Engine]:
    name = f"test_{secrets.token_hex(6)}"
    engine = open_engine(postgres.create_database(name, template=template), pool=24)
    yield engine
    engine.dispose()
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def module_temporal() -> Iterator[Temporal]:
    with Temporal() as server:
        yield server


@pytest.fixture(scope="module")
async def front(module_engine: Engine, module_temporal: Temporal, anyio_backend: str) -> AsyncIterator[Front]:
    """With the cast of `House.cast`, which stands at noon of the last day but one of 2025."""
    async with opened(module_engine, module_temporal) as house:
        await house.cast(START, MONTH)
        yield Front(house)
