"""API keys: make, list, revoke."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.terminal import complaints, console, one_transaction
from models import api_key

verbs = typer.Typer(help="API keys.", no_args_is_help=True)


@verbs.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scopes: Annotated[str, typer.Option(help="Comma-separated: ingest, read, write, admin.")] = "read",
) -> None:
    """Make a key and show it, this once."""
    with one_transaction() as session:
        text = api_key.create_key(session, name, [scope.strip() for scope in scopes.split(",") if scope.strip()])
    if sys.stdout.isatty():
        complaints.print("Keep it now: it is stored as a hash and will not be shown again.")
    print(text)


@verbs.command("list")
def list_keys() -> None:
    """Show the keys that were made, without their secrets."""
    table = Table("Id", "Name", "Scopes", "Made", "Revoked", box=None)
    with one_transaction() as session:
        for key in api_key.keys(session):
            made, revoked = key.created_at.date(), key.revoked_at.date() if key.revoked_at else ""
            table.add_row(key.id, escape(key.name), ", ".join(key.scopes), str(made), str(revoked))
    console.print(table)


@verbs.command("revoke")
def revoke_key(key_id: str) -> None:
    """Make a key useless, from now on."""
    with one_transaction() as session:
        api_key.revoke_key(session, key_id)
    console.print(f"{key_id} is revoked.")
