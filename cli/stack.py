"""The embedded stack and the demo, from `sandbox/`; only here is that room imported."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.terminal import complaints, console

Folder = Annotated[Path, typer.Option(help="Where the embedded stack keeps its data.")]
DEFAULT_FOLDER = Path(".perennial")


def up(folder: Folder = DEFAULT_FOLDER) -> None:
    """Run the whole stack in this terminal; Ctrl-C stops it, the data stays."""
    from sandbox.up import up

    raise typer.Exit(up(folder))


def down(folder: Folder = DEFAULT_FOLDER) -> None:
    """Stop the stack that runs in another terminal."""
    from sandbox.up import down

    raise typer.Exit(down(folder))


NAMED = ("DATABASE_URL", "TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_UI_URL")
"""By which other commands find the stack; an operator's Temporal may have no Web UI that is known."""


def status(
    folder: Folder = DEFAULT_FOLDER,
    exports: Annotated[
        bool, typer.Option("--exports", help="As lines for a shell, passwords included, so that other commands use it.")
    ] = False,
) -> None:
    """Say whether a stack runs in the folder, and where."""
    from sandbox.running import nothing_runs, status

    found = status(folder)
    if found is None:
        complaints.print(escape(nothing_runs(folder)), soft_wrap=True)
        raise typer.Exit(1)
    if not found.ready:
        complaints.print(f"The stack in {escape(str(folder))} is starting: ask again in some seconds.", soft_wrap=True)
        raise typer.Exit(1)
    if exports:
        named = {name: value for name in NAMED if (value := found.environment.get(name))}
        named |= {"API": found.addresses["api"], "PERENNIAL_URL": found.addresses["api"]}
        for name, value in named.items():
            print(f"export {name}={shlex.quote(value)}")
        return
    at = found.addresses
    ui = f", Temporal UI {at['temporal_ui']}" if at["temporal_ui"] else ""
    console.print(f"API {at['api']}, console {at['api']}/console{ui}", soft_wrap=True)


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
