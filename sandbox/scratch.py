"""Room of its own on an operator's servers: a database and a namespace made for one demo, and removed after it."""

from __future__ import annotations

import asyncio
import secrets
import time
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

import psycopg
from google.protobuf.duration_pb2 import Duration
from psycopg import sql
from temporalio.api.operatorservice.v1 import DeleteNamespaceRequest
from temporalio.api.workflowservice.v1 import ListWorkflowExecutionsRequest, RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from sandbox.process import StartFailed

SECONDS_TO_APPEAR = 30


class ScratchDatabase:
    """A new, empty database on the server of `url`; its user must be allowed to make one."""

    def __init__(self, url: str) -> None:
        self._server = url
        self.name = f"perennial_demo_{secrets.token_hex(4)}"
        self.url = urlunsplit(urlsplit(url)._replace(path=f"/{self.name}"))

    def make(self) -> None:
        self._run("create database {}")

    def remove(self) -> None:
        self._run("drop database if exists {} with (force)")

    def _run(self, statement: str) -> None:
        try:
            with psycopg.connect(self._server, autocommit=True) as connection:
                connection.execute(sql.SQL(statement).format(sql.Identifier(self.name)))
        except psycopg.Error as error:
            said = f"{statement.format(self.name)}: {error}"
            raise StartFailed("PostgreSQL", f"the demo needs a database of its own on your server; {said}") from error


class ScratchNamespace:
    """A new Temporal namespace at `address`, with its histories kept for a day at most."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.name = f"perennial-demo-{secrets.token_hex(4)}"

    def make(self) -> None:
        try:
            asyncio.run(self._make())
        except (RPCError, RuntimeError) as error:
            raise StartFailed("Temporal", f"the demo needs a namespace of its own on your server: {error}") from error

    def remove(self) -> None:
        asyncio.run(self._remove())

    async def _make(self) -> None:
        client = await Client.connect(self._address)
        keep = Duration()
        keep.FromTimedelta(timedelta(days=1))
        await client.workflow_service.register_namespace(
            RegisterNamespaceRequest(namespace=self.name, workflow_execution_retention_period=keep)
        )
        end = time.monotonic() + SECONDS_TO_APPEAR
        while True:
            try:
                await client.workflow_service.list_workflow_executions(
                    ListWorkflowExecutionsRequest(namespace=self.name, page_size=1)
                )
                return
            except RPCError:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.3)

    async def _remove(self) -> None:
        client = await Client.connect(self._address)
        await client.operator_service.delete_namespace(DeleteNamespaceRequest(namespace=self.name))
