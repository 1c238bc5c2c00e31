"""The same verbs for a terminal: set up, serve, look, and the embedded stack. A composition root."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from billing.errors import Refused
from models import agenda, api_key, tax
from models.database import open_engine, transaction
from models.migrations import migrate as migrate_database
from settings import Settings
from workflows.client import connect, register_attributes

app = typer.Typer(
    help="Perennial: billing that you host yourself. Servers are named by DATABASE_URL and TEMPORAL_ADDRESS.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
keys = typer.Typer(help="API keys.", no_args_is_help=True)
app.add_typer(keys, name="keys")

console = Console(highlight=False)
complaints = Console(stderr=True, highlight=False)

Folder = Annotated[Path, typer.Option(help="Where the embedded stack keeps its data.")]
DEFAULT_FOLDER = Path(".perennial")


def _database_url() -> str:
    return Settings().database_url.get_secret_value()


@app.command()
def migrate() -> None:
    """Bring the database up to date, add the shipped tax rates, and register the search attributes."""
    url = _database_url()
    revision = migrate_database(url)
    engine = open_engine(url, pool=1)
    with transaction(engine) as session:
        new = tax.store_seed(session)
    engine.dispose()
    found = asyncio.run(_register())
    console.print(f"Database at revision {revision}; {new} tax rates and {len(found)} search attributes added.")


async def _register() -> list[str]:
    settings = Settings()
    key = settings.temporal_api_key.get_secret_value() if settings.temporal_api_key else None
    return await register_attributes(await connect(settings.temporal_address, settings.temporal_namespace, key))


@app.command()
def serve() -> None:
    """Serve the API and the console."""
    from granian.constants import Interfaces
    from granian.server import Server

    settings = Settings()
    Server(
        "api.app:create",
        factory=True,
        address=settings.api_host,
        port=settings.api_port,
        interface=Interfaces.ASGI,
        log_enabled=False,
    ).serve()


@app.command()
def worker() -> None:
    """Run workflows and activities until stopped."""
    from worker import run

    asyncio.run(run(Settings()))


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scopes: Annotated[str, typer.Option(help="Comma-separated: ingest, read, write, admin.")] = "read",
) -> None:
    """Make a key and show it, this once."""
    engine = open_engine(_database_url(), pool=1)
    with transaction(engine) as session:
        text = api_key.create_key(session, name, [scope.strip() for scope in scopes.split(",") if scope.strip()])
    engine.dispose()
    if sys.stdout.isatty():
        complaints.print("Keep it now: it is stored as a hash and will not be shown again.")
    print(text)


@keys.command("list")
def list_keys() -> None:
    """Show the keys that were made, without their secrets."""
    engine = open_engine(_database_url(), pool=1)
    table = Table("Id", "Name", "Scopes", "Made", "Revoked", box=None)
    with transaction(engine) as session:
        for key in api_key.keys(session):
            made, revoked = key.created_at.date(), key.revoked_at.date() if key.revoked_at else ""
            table.add_row(key.id, escape(key.name), ", ".join(key.scopes), str(made), str(revoked))
    engine.dispose()
    console.print(table)


@keys.command("revoke")
def revoke_key(key_id: str) -> None:
    """Make a key useless, from now on."""
    engine = open_engine(_database_url(), pool=1)
    with transaction(engine) as session:
        api_key.revoke_key(session, key_id)
    engine.dispose()
    console.print(f"{key_id} is revoked.")


@app.command("next")
def what_next(limit: Annotated[int, typer.Option(min=1, max=500)] = 20) -> None:
    """Show what happens next, over all subjects."""
    engine = open_engine(_database_url(), pool=1)
    table = Table("When (UTC)", "What", "Subject", "Entity", box=None)
    with transaction(engine) as session:
        for row in agenda.upcoming(session, limit):
            table.add_row(f"{row.due_at:%Y-%m-%d %H:%M}", row.kind, row.subject, row.entity_id)
    engine.dispose()
    console.print(table)


@app.command("rebuild-clocks")
def rebuild_clocks() -> None:
    """Start every lifecycle that the agenda names and that does not run; nothing else is changed."""
    console.print(f"{asyncio.run(_rebuild())} subjects are awake.")


async def _rebuild() -> int:
    from activities.clock import Clocks

    settings = Settings()
    key = settings.temporal_api_key.get_secret_value() if settings.temporal_api_key else None
    engine = open_engine(_database_url(), pool=2)
    try:
        client = await connect(settings.temporal_address, settings.temporal_namespace, key)
        return await Clocks(engine, client).rebuild()
    finally:
        engine.dispose()


@app.command()
def up(folder: Folder = DEFAULT_FOLDER) -> None:
    """Run the whole stack in this terminal; Ctrl-C stops it, the data stays."""
    from sandbox.up import up

    raise typer.Exit(up(folder))


@app.command()
def down(folder: Folder = DEFAULT_FOLDER) -> None:
    """Stop the stack that runs in another terminal."""
    from sandbox.up import down

    raise typer.Exit(down(folder))


@app.command()
def status(folder: Folder = DEFAULT_FOLDER) -> None:
    """Say whether a stack runs in the folder, and where."""
    from sandbox.running import status

    found = status(folder)
    if found is None:
        console.print(f"Nothing runs in {escape(str(folder))}.")
        raise typer.Exit(1)
    console.print(f"API {found.addresses['api']}, Temporal UI {found.addresses['temporal_ui']}")


@app.command()
def demo(
    trace: Annotated[
        str | None,
        typer.Option(help="CSV files with TIMESTAMP, ContextTokens, GeneratedTokens; one customer each, by commas."),
    ] = None,
    stay: Annotated[
        bool | None,
        typer.Option(help="Keep the stack running afterwards, to look around; on a terminal it does so anyway."),
    ] = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Live one customer's month on a test clock, from the signed deal to the closed month."""
    from sandbox.demo import demo

    files = [Path(part) for part in trace.split(",")] if trace else []
    raise typer.Exit(demo(folder / "demo", files, stay=sys.stdin.isatty() if stay is None else stay))


def main() -> None:
    """The console script: a refusal is one line and what to do, not a traceback.

    The process leaves without taking the interpreter down: threads of Temporal's runtime may outlive a client, and
    would sometimes be caught by that in the middle of a call.
    """
    code = _run()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run() -> int:
    """The exit code of whatever verb was asked for."""
    try:
        app()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except Refused as refusal:
        complaints.print(f"[bold red]Refused[/]: {escape(refusal.reason)}", soft_wrap=True)
        for fault in refusal.faults:
            complaints.print(f"  {escape(fault.field)}: {escape(fault.reason)}", soft_wrap=True)
        if refusal.remedy:
            complaints.print(escape(refusal.remedy), soft_wrap=True)
        return 2
    return 0


if __name__ == "__main__":
    main()
