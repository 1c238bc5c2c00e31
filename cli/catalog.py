"""The catalog's verbs: see what files would change, apply them, and write the live catalog into files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from billing.catalog import Catalog
from billing.difference import Change, differences, to_do
from billing.errors import Fault, Refused
from cli.catalog_files import SCHEMA, Places, read_placed, texts, write
from cli.catalog_shape import plan_schema
from cli.terminal import console, one_transaction
from models import catalog
from models.sold import sold_counts

NOTHING_TO_DO, DIFFERENCES = 0, 3

verbs = typer.Typer(help="The catalog as files: products, meters, features, plans, coupons.", no_args_is_help=True)
Folder = Annotated[Path, typer.Argument(help="The folder of the catalog's files.", show_default=False)]


@verbs.command("plan")
def show_plan(folder: Folder) -> None:
    """Say what the files would change in the live catalog, whom it touches and from when. Nothing is changed.

    Exit code 0: nothing to do. 2: refused, with every fault by file and line. 3: there are differences.
    """
    draft, places = read_placed(folder)
    changes = _looked_at(draft, places, folder)
    _show(changes)
    raise typer.Exit(DIFFERENCES if to_do(changes) else NOTHING_TO_DO)


@verbs.command("apply")
def apply_files(
    folder: Folder,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Publish what the files change, all of it in one transaction or nothing; on a terminal it asks first.

    What is in the live catalog and not in the files stays as it is. Exit code 0: done, or nothing to do. 1: you said
    no. 2: refused, with every fault by file and line.
    """
    draft, places = read_placed(folder)
    changes = _looked_at(draft, places, folder)
    _show(changes)
    if not to_do(changes):
        return
    if not yes:
        _ask()
    with one_transaction() as session:
        catalog.lock(session)
        if differences(catalog.live(session), draft, sold_counts(session)) != changes:
            raise Refused("The live catalog is another one by now.", code="conflict", remedy="Run it again and look.")
        with _by_line(places, folder):
            published = catalog.apply(session, draft, datetime.now(UTC))
    console.print()
    for one in published:
        version = f", version {one.version}" if one.version else ""
        done = "sale decided" if one.what == "sale" else "published"
        console.print(f"{escape(f'{one.kind} {one.id}{version}')}: {done}.", soft_wrap=True)


@verbs.command("export")
def export(
    folder: Folder,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that differ.")] = False,
) -> None:
    """Write the live catalog into files, and a schema by which editors complete plans.

    Files that are there and differ are kept, and nothing is written, unless --force is given.
    """
    with one_transaction() as session:
        found = catalog.live(session)
    files = texts(found)
    differing = [file for file, text in files.items() if file != SCHEMA and _differs(folder / file, text)]
    _refuse_second_files(folder, files)
    if differing and not force:
        raise Refused(
            f"Files in {folder} differ from the live catalog.",
            code="would_overwrite",
            faults=[Fault(file, "differs") for file in differing],
            remedy="Export into another folder, or say --force to overwrite them; nothing was written.",
        )
    write(folder, found)
    console.print(f"{len(files)} files are in {escape(str(folder))}.", soft_wrap=True)


@verbs.command("schema")
def schema() -> None:
    """Print the JSON Schema of a plan's file."""
    print(json.dumps(plan_schema(), indent=2, ensure_ascii=False))


def _looked_at(draft: Catalog, places: Places, folder: Path) -> tuple[Change, ...]:
    """The differences. The draft is published and taken back, so that whatever `apply` would refuse is refused here."""
    with one_transaction() as session:
        changes = differences(catalog.live(session), draft, sold_counts(session))
        with _by_line(places, folder):
            catalog.apply(session, draft, datetime.now(UTC))
        session.rollback()
    return changes


@contextmanager
def _by_line(places: Places, folder: Path) -> Iterator[None]:
    """A refusal names files and lines."""
    try:
        yield
    except Refused as refusal:
        raise places.located(refusal, folder) from refusal


def _show(changes: Sequence[Change]) -> None:
    """What would be done, then what stays only because nothing is deleted."""
    doing = to_do(changes)
    for change in doing:
        version = f", version {change.version}" if change.version else ""
        console.print(f"[bold]{escape(f'{change.kind} {change.id}')}[/]: {change.what}{version}", soft_wrap=True)
        for sentence in change.sentences:
            console.print(f"  {escape(sentence)}", soft_wrap=True)
    left = [change for change in changes if change not in doing]
    if left:
        names = ", ".join(f"{change.kind} {change.id}" for change in left)
        console.print(f"Not in the files, and left as they are: {escape(names)}.", soft_wrap=True)
    if not doing:
        console.print("Nothing to do: the live catalog says the same.")


def _ask() -> None:
    if not sys.stdin.isatty():
        raise Refused("Nobody can be asked here.", code="not_confirmed", remedy="Say --yes to apply without asking.")
    if not typer.confirm("Apply this?"):
        console.print("Nothing was changed.")
        raise typer.Exit(1)


def _differs(path: Path, text: str) -> bool:
    return path.exists() and path.read_bytes() != text.encode()


def _refuse_second_files(folder: Path, files: dict[str, str]) -> None:
    """A plan kept as TOML would be there twice."""
    twice = [file for file in files if file.startswith("plans/") and (folder / file).with_suffix(".toml").exists()]
    if twice:
        raise Refused(
            f"Plans in {folder} are kept as TOML.",
            code="would_overwrite",
            faults=[Fault(file.removesuffix(".yaml") + ".toml", "is the same plan") for file in twice],
            remedy="Export into another folder, or remove them; nothing was written.",
        )
