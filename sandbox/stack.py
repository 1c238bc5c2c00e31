"""The whole stack on one machine: PostgreSQL, Temporal, the sandbox's neighbours, and the product's own processes.

Every one is a child process with a log of its own. The foreground command over this is in up.py, what other terminals
may ask in running.py.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import httpx

from sandbox import ports, running, salesforce
from sandbox.postgres import Postgres
from sandbox.process import AlreadyRunning, Child, FolderLock, wait_until
from sandbox.scratch import ScratchDatabase, ScratchNamespace
from sandbox.temporal import Temporal

OnStep = Callable[[str, str], None]
PROJECT = Path(__file__).resolve().parents[1]
DATABASE = "perennial"
STRIPE_KEY = "sk_test_sandbox"
SECONDS_TO_START = 60.0
SECONDS_TO_STOP = 20.0


@dataclass(slots=True)
class Addresses:
    """Where everything is; filled in while the stack starts."""

    api_port: int
    webhook_secret: str = field(default_factory=lambda: f"whsec_{secrets.token_hex(24)}")
    database_url: str = ""
    temporal_address: str = ""
    temporal_ui_url: str = ""
    temporal_namespace: str = "default"
    stripe_url: str = ""
    salesforce_url: str = ""

    @property
    def api_url(self) -> str:
        """The front door."""
        return f"http://127.0.0.1:{self.api_port}"


def environment(folder: Path, at: Addresses) -> dict[str, str]:
    """What every process of the product is told: one variable per field of `settings.Settings`."""
    return {
        "DATABASE_URL": at.database_url,
        "TEMPORAL_ADDRESS": at.temporal_address,
        "TEMPORAL_UI_URL": at.temporal_ui_url,
        "TEMPORAL_NAMESPACE": at.temporal_namespace,
        "PAYMENT_GATEWAY": "stripe",
        "STRIPE_API_KEY": STRIPE_KEY,
        "STRIPE_WEBHOOK_SECRET": at.webhook_secret,
        "STRIPE_API_BASE": at.stripe_url,
        "CRM": "salesforce",
        "SALESFORCE_DOMAIN": "login",
        "SALESFORCE_USERNAME": salesforce.USERNAME,
        "SALESFORCE_CONSUMER_KEY": salesforce.CONSUMER_KEY,
        "SALESFORCE_PRIVATE_KEY_FILE": str(folder / "salesforce" / "connected_app.pem"),
        "SALESFORCE_CA_FILE": str(folder / "salesforce" / "ca.pem"),
        "SALESFORCE_CONNECT_TO": at.salesforce_url.removeprefix("https://"),
        "ERP": "beancount-file",
        "ERP_FOLDER": str(folder / "erp"),
        "API_HOST": "127.0.0.1",
        "API_PORT": str(at.api_port),
    }


class Stack:
    """All of it, in one folder. With `keep=False` it starts empty and keeps Temporal in memory and no PostgreSQL.

    A server named by DATABASE_URL or TEMPORAL_ADDRESS is the operator's, unless it was this stack's own: it is used,
    and neither started nor stopped; with `keep=False` in a database and a namespace of its own, removed afterwards.
    `on_step(name, detail)` is told "starting" and then the address, for each. As a context manager it is started and
    stopped. StartFailed says which process did not come up and what it wrote last.
    """

    def __init__(self, folder: Path, *, keep: bool = True, on_step: OnStep = lambda name, detail: None) -> None:
        self.folder = folder.absolute()
        self.addresses = Addresses(api_port=0)
        self.environment: dict[str, str] = {}
        self.postgres: Postgres | None = None
        self.temporal: Temporal | None = None
        self._keep = keep
        self._on_step = on_step
        self._started_at = datetime.now(UTC)
        self._children: dict[str, Child] = {}
        self._scratch: list[ScratchDatabase | ScratchNamespace] = []
        self._lock = FolderLock(self.folder / running.LOCK)

    def __enter__(self) -> Stack:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything in order; return when the API is ready. Whatever fails, nothing is left running."""
        try:
            self._claim()
            at = ports.choose(self.folder, keep=self._keep)
            self._started_at = datetime.now(UTC)
            self.addresses = Addresses(api_port=at["API"])
            self._step("PostgreSQL", lambda: self._start_postgres(at["POSTGRES"]))
            self._step("Temporal", lambda: self._start_temporal(at["TEMPORAL"], at["UI"]))
            self._step("Stripe", self._start_stripe)
            self._step("Salesforce", self._start_salesforce)
            self.environment = environment(self.folder, self.addresses)
            self._step("migrations", self._migrate)
            self._step("worker", self.start_worker)
            self._step("API", self._start_api)
            self._write_down(ready=True)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop what we started, last started first."""
        for name in reversed(self._children):
            self._children[name].stop(SECONDS_TO_STOP)
        self._children.clear()
        for mine in reversed(self._scratch):
            mine.remove()
        self._scratch.clear()
        if self.temporal:
            self.temporal.stop()
            self.temporal = None
        if self.postgres:
            self.postgres.stop()
            self.postgres = None
        if self._lock.held:
            (self.folder / running.RECORD).unlink(missing_ok=True)
        self._lock.release()

    def start_worker(self) -> str:
        """Start the worker, which must not run. What it does next is Temporal's business."""
        if "worker" in self._children and self._children["worker"].alive():
            raise AlreadyRunning("worker", f"runs already, as process {self._children['worker'].pid}")
        self._children["worker"] = self._python("worker", "worker")
        return f"process {self._children['worker'].pid}"

    def kill_worker(self) -> None:
        """SIGKILL to the worker and all in its group, as a crash would."""
        self._children.pop("worker").kill()

    def dead(self) -> tuple[Child, ...]:
        """Those of our processes that have ended without being asked to."""
        return tuple(child for child in self._all_children() if not child.alive())

    def log(self, name: str) -> Path:
        """Where the process of that name writes."""
        return self.folder / "logs" / f"{name}.log"

    def _claim(self) -> None:
        """Make the folder ours, and end and clear what an earlier stack has left there."""
        if not self.folder.exists():
            self.folder.mkdir(mode=0o711, parents=True)  # PostgreSQL's user must pass; what is inside is closed
        if not self._lock.take():
            record = running.status(self.folder)
            who = f", started by process {record.starter.pid} at {record.started_at:%H:%M} UTC" if record else ""
            raise AlreadyRunning("stack", f"one runs already in {self.folder}{who}; `make down` stops it")
        running.end_leftovers(self.folder)
        if not self._keep:
            running.empty(self.folder)
        for name in running.FOLDERS:
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)

    def _step(self, name: str, begin: Callable[[], str]) -> None:
        self._on_step(name, "starting")
        detail = begin()
        self._write_down(ready=False)
        self._on_step(name, detail)

    def _write_down(self, *, ready: bool) -> None:
        at = self.addresses
        running.write_down(
            self.folder,
            running.Running(
                starter=running.this_process(),
                started_at=self._started_at,
                ready=ready,
                addresses={
                    "api": at.api_url,
                    "temporal_ui": at.temporal_ui_url,
                    "temporal": at.temporal_address,
                    "stripe": at.stripe_url,
                    "salesforce": at.salesforce_url,
                },
                environment=self.environment,
                children=tuple(running.Process.of(child) for child in self._all_children()),
            ),
        )

    def _all_children(self) -> tuple[Child, ...]:
        servers = (self.postgres, self.temporal)
        return (*(server.child for server in servers if server), *self._children.values())

    def _operators(self, variable: str, name: str) -> str:
        """The operator's server, if there is one. Shells keep what `status --exports` said: a server that was ours and
        has stopped is none of the operator's, and is started again.
        """
        given = os.environ.get(variable, "")
        return "" if ports.was_ours(self.folder, name, given) else given

    def _start_postgres(self, port: int) -> str:
        if given := self._operators("DATABASE_URL", "POSTGRES"):
            if self._keep:
                self.addresses.database_url = given
                return "yours, from DATABASE_URL"
            database = ScratchDatabase(given)
            database.make()
            self._scratch.append(database)
            self.addresses.database_url = database.url
            return f"yours, in a database of its own, {database.name}"
        server = Postgres(self.folder / "postgres", port, keep=self._keep, log=self.log("postgres"))
        server.start()
        self.postgres = server
        if not server.has_database(DATABASE):
            server.create_database(DATABASE)
        self.addresses.database_url = server.url(DATABASE)
        return f"127.0.0.1:{port}"

    def _start_temporal(self, port: int, ui_port: int) -> str:
        if given := self._operators("TEMPORAL_ADDRESS", "TEMPORAL"):
            self.addresses.temporal_address = given
            self.addresses.temporal_ui_url = os.environ.get("TEMPORAL_UI_URL", "")
            if self._keep:
                self.addresses.temporal_namespace = os.environ.get("TEMPORAL_NAMESPACE", "default")
                return "yours, from TEMPORAL_ADDRESS"
            namespace = ScratchNamespace(given)
            namespace.make()
            self._scratch.append(namespace)
            self.addresses.temporal_namespace = namespace.name
            return f"yours, in a namespace of its own, {namespace.name}"
        server = Temporal(self.folder / "temporal" if self._keep else None, port, ui_port, log=self.log("temporal"))
        server.start()
        self.temporal = server
        self.addresses.temporal_address, self.addresses.temporal_ui_url = server.address, server.ui_url
        return f"{server.address}, Web UI {server.ui_url}"

    def _start_stripe(self) -> str:
        target = f"{self.addresses.api_url}/webhooks/stripe"
        words = ("--webhook-url", target, "--webhook-secret", self.addresses.webhook_secret)
        self.addresses.stripe_url = self._start_neighbour("stripe", "--api-key", STRIPE_KEY, *words)
        return self.addresses.stripe_url

    def _start_salesforce(self) -> str:
        folder = self.folder / "salesforce"
        self.addresses.salesforce_url = self._start_neighbour("salesforce", "--folder", str(folder))
        return self.addresses.salesforce_url

    def _start_neighbour(self, name: str, *words: str) -> str:
        child = self._children[name] = self._python(name, f"sandbox.{name}", "--port", "0", *words)
        wait_until(child, lambda: child.ready_url() is not None, SECONDS_TO_START)
        return child.ready_url() or ""

    def _migrate(self) -> str:
        since = time.monotonic()
        self._python("migrate", "cli", "migrate").complete(SECONDS_TO_START)
        return f"done in {time.monotonic() - since:.1f} s"

    def _start_api(self) -> str:
        api = self._children["api"] = self._python("api", "cli", "serve")
        ready = f"{self.addresses.api_url}/readyz"
        wait_until(api, lambda: _answers_well(ready), SECONDS_TO_START, self._all_children())
        return self.addresses.api_url

    def _python(self, name: str, module: str, *words: str) -> Child:
        return Child(
            name,
            [sys.executable, "-m", module, *words],
            log=self.log(name),
            environment=_inherited(os.environ, own_temporal=self.temporal is not None) | self.environment,
            cwd=PROJECT,
        )


def _inherited(ours: Mapping[str, str], *, own_temporal: bool) -> dict[str, str]:
    """Our environment, made fit: output unbuffered, no proxy for the loopback, no cloud's key for our Temporal."""
    proxyless = ",".join(filter(None, (ours.get("NO_PROXY", ""), "127.0.0.1", "localhost")))
    kept = {name: value for name, value in ours.items() if not (own_temporal and name.startswith("TEMPORAL_"))}
    return kept | {"PYTHONUNBUFFERED": "1", "NO_PROXY": proxyless, "no_proxy": proxyless}


def _answers_well(url: str) -> bool:
    """Of plain HTTP: reading certificates for each question would take more of the machine than what is starting."""
    try:
        return httpx.get(url, trust_env=False, verify=False, timeout=5).is_success
    except httpx.TransportError:
        return False
