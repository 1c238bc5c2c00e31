"""The embedded stack and the demo, from `sandbox/`; only here is that room imported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.terminal import console

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


def status(folder: Folder = DEFAULT_FOLDER) -> None:
    """Say whether a stack runs in the folder, and where."""
    from sandbox.running import status

    found = status(folder)
    if found is None:
        console.print(f"Nothing runs in {escape(str(folder))}.")
        raise typer.Exit(1)
    console.print(f"API {found.addresses['api']}, Temporal UI {found.addresses['temporal_ui']}")


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
