"""Verbs as they are typed, against a database of the test's own; and, to be imported into, the API as a process."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

import cli
import cli.events
from models.api_key import create_key
from models.database import cursor, open_engine, transaction
from sandbox.postgres import Postgres
from sandbox.process import Child, free_ports, wait_until
from sandbox.temporal import Temporal
from tests.conftest import METER

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "docs" / "catalog"
Perennial = Callable[..., tuple[int, str]]
HEADER = "id,subject,type,time,n"


@pytest.fixture
def perennial(database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Perennial:
    """Runs a verb and gives its exit code and all that it said."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    return typed(monkeypatch, capsys)


def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Perennial:
    def run(*words: str | Path) -> tuple[int, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["perennial", *map(str, words)])
        code = cli._run()
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the example that ships."""
    for path in EXAMPLE.rglob("*"):
        if path.is_file():
            copy = tmp_path / "catalog" / path.relative_to(EXAMPLE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return tmp_path / "catalog"


@dataclass
class Api:
    """The product's own process, as it serves; what it has stored is read from its database."""

    url: str
    environment: dict[str, str]
    database_url: str
    child: Child | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "cli", "serve"]
        child = Child("api", command, log=None, environment=self.environment, cwd=PROJECT)
        wait_until(child, self._answers, 60)
        self.child = child

    def kill(self) -> None:
        if self.child:
            self.child.kill()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", verify=False).is_success
        except httpx.TransportError:
            return False

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        engine = open_engine(self.database_url, pool=1)
        with transaction(engine) as session:
            found = cursor(session).execute(statement, parameters).fetchall()  # type: ignore[arg-type]
        engine.dispose()
        return found

    def stored(self, source: str) -> dict[str, Any]:
        """The data of the events of a source, by id."""
        found = self.rows("select id, data::text from usage_event where source = %s", source)
        assert len(dict(found)) == len(found)
        return {event_id: json.loads(data, parse_float=Decimal) for event_id, data in found}


@dataclass
class Sender:
    """A test's own source and customer, and the verb as it would be typed."""

    api: Api
    perennial: Perennial
    source: str
    customer: str

    def __call__(self, file: Path, *words: str) -> tuple[int, str]:
        return self.perennial("events", "import", file, "--source", self.source, *words)

    def total(self) -> Decimal:
        """The customer's live total, and so what a bill would say."""
        question = "?since=1970-01-01&until=2199-12-31"
        answer = httpx.get(f"{self.api.url}/v1/customers/{self.customer}/usage{question}", headers=self._headers)
        return sum((Decimal(one["quantity"]) for one in answer.json()), Decimal(0))

    def exported(self, form: str) -> bytes:
        """The customer's events as a file."""
        question = f"events/export?since=2026-01-01&until=2026-02-01&format={form}"
        return httpx.get(f"{self.api.url}/v1/customers/{self.customer}/{question}", headers=self._headers).content

    def has_alias(self) -> str:
        alias = f"alias-of-{self.customer}"
        address = f"{self.api.url}/v1/customers/{self.customer}/aliases"
        httpx.post(address, json={"alias": alias}, headers=self._headers).raise_for_status()
        return alias

    def voids(self, event_id: str) -> None:
        body = {"corrections": [{"source": self.source, "id": event_id, "reason": "a test"}]}
        httpx.post(f"{self.api.url}/v1/events/corrections", json=body, headers=self._headers).raise_for_status()

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api.environment['PERENNIAL_API_KEY']}"}

    def csv(self, path: Path, count: int, ids: bool = True) -> Path:
        lines = [f"e{n},{self.customer},llm,2026-01-{n % 28 + 1:02}T10:00:00Z,{n}" for n in range(count)]
        wanted = slice(0 if ids else 1, None)
        text = "\n".join(",".join(line.split(",")[wanted]) for line in (HEADER, *lines))
        path.write_text(text + "\n")
        return path


@pytest.fixture(scope="module")
def api(postgres: Postgres, template: str) -> Iterator[Api]:
    name = f"test_{secrets.token_hex(6)}"
    database_url = postgres.create_database(name, template=template)
    engine = open_engine(database_url, pool=1)
    with transaction(engine) as session:
        key = create_key(session, "tests", ["admin"])
    engine.dispose()
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with Temporal() as temporal:
        environment = {
            **os.environ,
            "DATABASE_URL": database_url,
            "TEMPORAL_ADDRESS": temporal.address,
            "API_PORT": str(port),
            "EVENTS_OLDEST_DAYS": "20000",
            "API_PROCESSES": "2",
            "PERENNIAL_URL": url,
            "PERENNIAL_API_KEY": key,
            "NO_PROXY": "127.0.0.1",
        }
        api = Api(url, environment, database_url)
        api.start()
        headers = {"Authorization": f"Bearer {key}"}
        assert httpx.post(f"{url}/v1/meters", json=METER, headers=headers).is_success
        yield api
        api.kill()
    postgres.drop_database(name)


@pytest.fixture
def send(api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sender:
    for name in ("PERENNIAL_URL", "PERENNIAL_API_KEY"):
        monkeypatch.setenv(name, api.environment[name])
    monkeypatch.setattr(cli.events, "ROWS_AT_ONCE", 50)

    customer = f"cus-{secrets.token_hex(4)}"
    body = {"id": customer, "name": "Kunde", "email": "k@k.example", "country": "DE", "time_zone": "Europe/Berlin"}
    headers = {"Authorization": f"Bearer {api.environment['PERENNIAL_API_KEY']}"}
    assert httpx.post(f"{api.url}/v1/customers", json=body, headers=headers).is_success
    return Sender(api, typed(monkeypatch, capsys), f"file-{secrets.token_hex(4)}", customer)
