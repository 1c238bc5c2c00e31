"""What runs on a server: bring its database up to date, serve, work."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from tempfile import TemporaryDirectory

from cli.terminal import console, database_url, one_transaction
from models import tax
from models.migrations import migrate as migrate_database
from settings import Settings
from workflows.client import connect, register_attributes


def migrate() -> None:
    """Bring the database up to date, add the shipped tax rates, and register the search attributes."""
    revision = migrate_database(database_url())
    with one_transaction() as session:
        new = tax.store_seed(session)
    found = asyncio.run(_register())
    console.print(f"Database at revision {revision}; {new} tax rates and {len(found)} search attributes added.")


async def _register() -> list[str]:
    settings = Settings()
    key = settings.temporal_api_key.get_secret_value() if settings.temporal_api_key else None
    return await register_attributes(await connect(settings.temporal_address, settings.temporal_namespace, key))


def serve() -> None:
    """Serve the API and the console, on one port, by as many processes as API_PROCESSES says."""
    from granian.constants import Interfaces
    from granian.server import Server

    settings = Settings()
    many = settings.api_processes > 1
    with ExitStack() as stack:
        if many:  # Said before the processes are made: each writes its figures there, and any of them tells all.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = stack.enter_context(
                TemporaryDirectory(prefix="perennial-figures-")
            )
        Server(
            "api.app:create",
            factory=True,
            address=settings.api_host,
            port=settings.api_port,
            interface=Interfaces.ASGI,
            workers=settings.api_processes,
            respawn_failed_workers=many,
            log_enabled=False,
        ).serve()


def worker() -> None:
    """Run workflows and activities until stopped."""
    from worker import run

    asyncio.run(run(Settings()))
