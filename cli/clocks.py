"""What is due next, and waking everyone who should wait for it."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.table import Table

from cli.terminal import console, database_url, one_transaction
from models import agenda
from models.database import open_engine
from settings import Settings
from workflows.client import connect


def what_next(limit: Annotated[int, typer.Option(min=1, max=500)] = 20) -> None:
    """Show what happens next, over all subjects."""
    table = Table(box=None)
    for name in ("When (UTC)", "What", "Subject", "Entity"):
        table.add_column(name, overflow="fold")
    with one_transaction() as session:
        for row in agenda.upcoming(session, limit):
            table.add_row(f"{row.due_at:%Y-%m-%d %H:%M}", row.kind, row.subject, row.entity_id)
    console.print(table if table.row_count else "Nothing is planned.")


def rebuild_clocks() -> None:
    """Start every lifecycle that the agenda names and that does not run; nothing else is changed."""
    console.print(f"{asyncio.run(_rebuild())} subjects are awake.")


async def _rebuild() -> int:
    from activities.clock import Clocks

    settings = Settings()
    key = settings.temporal_api_key.get_secret_value() if settings.temporal_api_key else None
    engine = open_engine(database_url(), pool=2)
    try:
        client = await connect(settings.temporal_address, settings.temporal_namespace, key)
        return await Clocks(engine, client).rebuild()
    finally:
        engine.dispose()
